"""The krew plugin: a manifest by krew's rules, and a script that runs this version's wheel."""

import hashlib
import io
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from hack import krew
from tests.docs.pages import ROOT

RELEASES = "https://example.org/releases"


def unpacked(folder: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(krew.archive(RELEASES))) as tar:
        tar.extractall(folder, filter="data")
    return folder / "kubectl-slm"


def test_the_manifest_names_the_archive_by_its_bytes() -> None:
    spec = yaml.safe_load(krew.manifest(RELEASES))["spec"]
    assert re.fullmatch(r"v\d+\.\d+\.\d+", spec["version"])
    assert len(spec["shortDescription"]) <= 50
    for platform in spec["platforms"]:
        assert platform["sha256"] == hashlib.sha256(krew.archive(RELEASES)).hexdigest()
        assert platform["bin"] in {entry["from"] for entry in platform["files"]}
    assert len(spec["platforms"]) == 4


@pytest.mark.parametrize("arguments", [["check"], ["explain", "a name", "--namespace=x"]])
def test_the_script_runs_the_wheel_of_this_version(tmp_path: Path, arguments: list[str]) -> None:
    script = unpacked(tmp_path)
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    uv.chmod(0o755)
    done = subprocess.run(
        [script, *arguments], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    wheel = f"{RELEASES}/v{krew.version()}/slm_operator-{krew.version()}-py3-none-any.whl"
    assert done.stdout.split("|")[:-1] == ["tool", "run", "--quiet", "--from", wheel, "kubectl-slm", *arguments]


def test_without_uv_it_says_what_is_missing(tmp_path: Path) -> None:
    script = unpacked(tmp_path)
    done = subprocess.run([script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needs uv" in done.stderr


def test_versions_are_one() -> None:
    chart = yaml.safe_load((ROOT / "charts/slm-operator/Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == krew.version()
