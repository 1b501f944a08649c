"""The workflows run what a person runs."""

import re
import subprocess
from typing import Any

import pytest
import yaml

from hack.release import parameters
from tests.docs.pages import ROOT

WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
COMMANDS = [step["run"] for step in STEPS if "run" in step]
RELEASE: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_make_target_or_the_ci_script(command: str) -> None:
    tool, _, target = command.partition(" ")
    assert command == ".ci/run" or (tool == "make" and re.search(rf"^{target}:", MAKEFILE, re.MULTILINE))


def test_the_fast_part_comes_first_and_everything_follows() -> None:
    assert COMMANDS[0] == "make check"
    assert ".ci/run" in COMMANDS
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("make test")


def test_the_workflow_may_only_read_and_ends() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 90 for job in WORKFLOW["jobs"].values())


def test_a_tag_runs_make_release_and_nothing_else() -> None:
    assert RELEASE[True] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}, "YAML reads `on` as true"
    (job,) = RELEASE["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make release"]
    (given,) = (step["env"] for step in job["steps"] if "run" in step)
    assert parameters.missing(given) == ()
    assert {step["uses"] for step in job["steps"] if "uses" in step} <= {step.get("uses") for step in STEPS}


def test_the_release_may_do_what_it_must_and_no_other_job() -> None:
    assert RELEASE["permissions"] == {"contents": "read"}
    (job,) = RELEASE["jobs"].values()
    assert job["permissions"] == {"contents": "write", "packages": "write", "id-token": "write"}


def test_paths_that_are_kept_have_no_dots_in_them() -> None:
    """`@actions/glob`, which reads them, refuses `.` and `..`, and knows `~`."""
    kept = [step["with"]["path"] for step in STEPS if "path" in step.get("with", {})]
    assert len(kept) == 2
    assert not re.search(r"(^|/)\.\.?(/|$)", "\n".join(kept), re.MULTILINE)


@pytest.mark.slow
def test_github_would_take_the_workflows() -> None:
    from tests.testbed.gotools import binary  # noqa: PLC0415 - only this test needs go

    done = subprocess.run([binary("actionlint"), "-color=false"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_every_phony_target_exists() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert [target for target in phony.split() if not re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)] == []
