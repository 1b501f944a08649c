"""A pytest plugin: one JSON line for each test as it ends, for whoever runs the stage.

The file is named by $SLM_STAGE_EVENTS; without it the plugin does nothing. Exists so that the runner needs to read no
sentence of pytest's. It must never change how a test ends.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

EVENTS = "SLM_STAGE_EVENTS"
MOST_CHARACTERS = 20_000
"""Of one failure in the summary; the stage's log has all of it."""
LEAST_SECONDS = 1.0
"""Of a setup or teardown worth telling: a cluster, a served deployment."""


_path = os.environ.pop(EVENTS, None)
"""Taken out of the environment: a test that runs a pytest of its own tells nothing of that one's."""


def pytest_runtest_logstart(nodeid: str) -> None:
    """A test begins."""
    _write({"begins": nodeid})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A phase of a test has ended: the call, or whatever else did not pass."""
    if report.when != "call" and report.passed:
        if report.duration >= LEAST_SECONDS:
            _write({"fixtures": f"{report.nodeid} ({report.when})", "seconds": round(report.duration, 2)})
        return
    line = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 2)}
    notes = [str(value) for name, value in report.user_properties if name == "note"]
    if report.when == "call" and notes:
        line["notes"] = notes
    if report.failed:
        line["why"] = report.longreprtext[-MOST_CHARACTERS:]
    _write(line)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file that cannot be read is a failure of its own."""
    if report.failed:
        _write(
            {"test": report.nodeid, "outcome": "failed", "seconds": 0.0, "why": report.longreprtext[-MOST_CHARACTERS:]}
        )


def _write(line: dict[str, object]) -> None:
    if _path:
        with Path(_path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
