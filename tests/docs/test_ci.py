"""The workflow runs what a person runs."""

import re
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT

WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
COMMANDS = [step["run"] for step in STEPS if "run" in step]
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


def test_every_phony_target_exists() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert [target for target in phony.split() if not re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)] == []
