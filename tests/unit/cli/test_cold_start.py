"""Cold start: `advise` is called by scripts and by people, so its imports are a budget."""

from __future__ import annotations

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
LIGHT = """
import contextlib, io, sys
from slm_operator.cli.main import main
code = 0
with contextlib.redirect_stdout(io.StringIO()):
    try:
        code = main(sys.argv[1:])
    except SystemExit as end:
        code = end.code
print(code, *sys.modules)
"""
MOST_MODULES = 175
"""Of all kinds: an interpreter that does nothing has 33, our own help 108, advice 162 (Python 3.11)."""


@pytest.mark.parametrize(
    "arguments", [ARGUMENTS, ["--help"], ["advise", "--help"]], ids=["advise", "help", "advise help"]
)
def test_a_cold_start_imports_little_and_nothing_heavy(arguments: list[str]) -> None:
    command = [sys.executable, "-c", LIGHT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    code, *modules = done.stdout.split()
    assert code == "0"
    assert sorted(set(HEAVY) & set(modules)) == []
    assert len(modules) <= MOST_MODULES
