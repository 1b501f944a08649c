"""Cold start: `advise` is called by scripts and by people, so its imports are a budget."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from unit.cli.golden import ROOT, SWEEP

ARGUMENTS = ["advise", *SWEEP, "--model", "opt-1.3b", "--itl-factor", "2", "--epsilon", "0.1", "-o", "json"]
HEAVY = (
    "kubernetes",
    "kopf",
    "pydantic",
    "aiohttp",
    "rich",
    "yaml",
    "asyncio",
    "slm_operator.report",
    "slm_operator.api",
)
IMPORTED = f"""
import contextlib, io, sys
from slm_operator.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    code = main({ARGUMENTS!r})
print(code, *[name for name in {HEAVY!r} if name in sys.modules])
"""


def test_json_advice_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["0"]


@pytest.mark.parametrize(
    "arguments", [ARGUMENTS, ["--help"], ["advise", "--help"]], ids=["advise", "help", "advise help"]
)
def test_answers_within_its_time(arguments: list[str]) -> None:
    def seconds() -> float:
        """Processor time: on a busy machine others' work would be measured."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = [
            sys.executable,
            "-c",
            "import sys; from slm_operator.cli.main import main; sys.exit(main(sys.argv[1:]))",
        ]
        subprocess.run([*code, *arguments], capture_output=True, check=True, cwd=ROOT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return sum(after[:2]) - sum(before[:2])

    assert min(seconds() for _ in range(3)) < 0.6
