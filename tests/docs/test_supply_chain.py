"""What is built and run is named by its bytes: packages by hash, a release's base by digest, actions by commit."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.docs.pages import ROOT
from tests.docs.test_ci import STEPS
from tests.testbed.docker_images import PYTHON, _starts

DOCKERFILE = (ROOT / "images/operator/Dockerfile").read_text()
BUILD = (ROOT / "images/operator/build-requirements.txt").read_text()
DIGEST = f"python:3.11-slim-bookworm@sha256:{'0a' * 32}"


def test_every_package_of_the_image_comes_by_its_hash() -> None:
    installs = re.findall(r"bin/pip install (.*?)(?: \\)?$", DOCKERFILE, re.MULTILINE)
    assert len(installs) == 3
    hashed = [one for one in installs if "--require-hashes" in one and "--only-binary :all:" in one]
    own = [one for one in installs if "--no-deps --no-index /wheels/" in one]
    assert sorted(hashed + own) == sorted(installs)
    assert re.findall("pip wheel .*--no-build-isolation", DOCKERFILE)


def test_build_requirements_are_pinned_and_the_projects_own() -> None:
    pins = dict(re.findall(r"^([\w-]+)==(\S+) \\$", BUILD, re.MULTILINE))
    entries = re.split(r"^(?=[\w-]+==)", BUILD, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins)
    assert all("--hash=sha256:" in entry for entry in entries)
    (backend,) = map(Requirement, tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"])
    assert backend.specifier.contains(pins[backend.name])
    assert "uv" in pins
    assert "--requirement images/operator/build-requirements.txt" in (ROOT / "Makefile").read_text()


def test_every_stage_of_the_image_starts_from_the_given_base() -> None:
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${PYTHON}"}
    assert _starts(DOCKERFILE) == ([PYTHON, PYTHON], ["build"])


def make_image(folder: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    docker = folder / "docker"
    docker.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    docker.chmod(0o755)
    return subprocess.run(
        ["make", "--silent", "image", *variables],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "base", ["PYTHON=", "PYTHON=python:3.11-slim-bookworm", "PYTHON=python@sha256:0a", f"PYTHON={DIGEST}0"]
)
def test_a_release_on_a_base_that_may_move_is_refused(tmp_path: Path, base: str) -> None:
    done = make_image(tmp_path, "TAG=registry.example/slm-operator:1", base)
    assert done.returncode == 2
    assert "docker buildx imagetools inspect" in done.stderr
    assert not done.stdout


def test_a_release_on_a_base_by_digest_is_built(tmp_path: Path) -> None:
    done = make_image(tmp_path, "TAG=registry.example/slm-operator:1", f"PYTHON={DIGEST}")
    assert done.stdout.startswith(f"build|--build-arg|PYTHON={DIGEST}|--file|images/operator/Dockerfile|")
    assert done.returncode == 0, done.stderr


def test_actions_are_named_by_commit_with_their_version_beside() -> None:
    uses = [step["uses"] for step in STEPS if "uses" in step]
    assert uses
    assert not [one for one in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one)]
    workflow = (ROOT / ".github/workflows/ci.yaml").read_text()
    assert len(re.findall(r"uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", workflow, re.MULTILINE)) == len(uses)
