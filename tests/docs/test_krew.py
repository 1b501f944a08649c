"""The krew plugin: a manifest by krew's rules, and an archive that runs what its checksum covers and nothing else."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from hack import krew
from tests.docs.pages import ROOT
from tests.testbed.gotools import cache_dir

pytestmark = pytest.mark.slow
RELEASES = "https://example.org/releases"
UV = """#!/bin/sh
printf "%s|" "$@" "$UV_PROJECT_ENVIRONMENT"
mkdir -p "$UV_PROJECT_ENVIRONMENT/bin"
printf '#!/bin/sh\\nprintf "%%s|" "$@"\\n' > "$UV_PROJECT_ENVIRONMENT/bin/python"
chmod 755 "$UV_PROJECT_ENVIRONMENT/bin/python"
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """The unpacked archive's script, linked as krew links it."""
    for folder in ("store", "bin"):
        (tmp_path / folder).mkdir()
    # NB: not by tarfile: Python before 3.11.4, as on Debian 12, knows no filter, and a newer one warns without.
    unpack = ("tar", "--extract", "--gzip", f"--directory={tmp_path / 'store'}")
    subprocess.run(unpack, input=krew.archive(), check=True)
    (tmp_path / "bin/kubectl-slm").symlink_to(tmp_path / "store/kubectl-slm")
    return tmp_path / "bin/kubectl-slm"


def run(plugin: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{path}:/usr/bin:/bin", "HOME": str(Path.home())}
    kept = {name: value for name, value in os.environ.items() if name.startswith(("SSL_", "UV_", "PIP_", "http"))}
    return subprocess.run(
        [plugin, *arguments], env=environment | kept, cwd=plugin.parent, capture_output=True, text=True, check=False
    )


def test_the_manifest_names_the_archive_by_its_bytes() -> None:
    spec = yaml.safe_load(krew.manifest(RELEASES))["spec"]
    assert re.fullmatch(r"v\d+\.\d+\.\d+", spec["version"])
    assert len(spec["shortDescription"]) <= 50
    for platform in spec["platforms"]:
        assert platform["sha256"] == hashlib.sha256(krew.archive()).hexdigest()
        assert platform["bin"] in krew.contents()
        assert platform["files"] == [{"from": "*", "to": "."}]
    assert len(spec["platforms"]) == 4


def test_the_archive_holds_the_lock_and_every_source() -> None:
    held = krew.contents()
    assert held["uv.lock"] == (ROOT / "uv.lock").read_bytes()
    assert {"slm_operator/cli/main.py", "slm_operator/report/style.css", "slm_core/codec.py"} <= held.keys()
    assert not [name for name in held if name.endswith(".pyc")]


@pytest.mark.parametrize("arguments", [["check"], ["explain", "a name", "--namespace=x"]])
def test_krew_script_runs_its_sources_with_locked_packages(plugin: Path, arguments: list[str]) -> None:
    uv = plugin.with_name("uv")
    uv.write_text(UV)
    uv.chmod(0o755)
    store = str(plugin.resolve().parent)
    said = run(plugin, *arguments, path=str(uv.parent)).stdout.split("|")[:-1]
    made = ["sync", "--quiet", "--project", store, "--frozen", "--no-dev", "--no-install-project", "--no-build"]
    assert said == [*made, f"{store}/.venv", store, *arguments]


def test_without_uv_it_says_what_is_missing(plugin: Path) -> None:
    done = run(plugin)
    assert done.returncode == 1
    assert "needs uv" in done.stderr


def test_it_runs_with_the_locks_packages_and_with_no_others(plugin: Path) -> None:
    """With the real uv: one changed hash in the lock, and nothing is run. A module in the current folder is not taken."""
    uv, lock = str(cache_dir() / "uv/bin"), plugin.resolve().with_name("uv.lock")
    for name in ("yaml", "rich", "slm_operator"):
        plugin.with_name(f"{name}.py").write_text("raise SystemExit('from the current folder')\n")
    done = run(plugin, "--help", path=uv)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: kubectl slm")
    whole = lock.read_text()
    before, found, after = whole.partition('name = "rich"\n')
    rich, ends, rest = after.partition("[[package]]")
    lock.write_text(before + found + re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", rich) + ends + rest)
    shutil.rmtree(lock.with_name(".venv"))
    done = run(plugin, "--help", path=uv)
    assert done.returncode == 1
    assert "Hash mismatch for `rich" in done.stderr
    assert not done.stdout


def test_versions_are_one() -> None:
    chart = yaml.safe_load((ROOT / "charts/slm-operator/Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == krew.version()
