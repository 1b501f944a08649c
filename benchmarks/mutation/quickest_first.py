"""A plugin for pytest: the tests of a mutant in the order of the time that they take, so that most die within a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

TIMES = Path("mutmut-stats.json")
"""NB: mutmut runs pytest where this lies, and writes it after its first run of all tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort them, where their times are known."""
    if TIMES.exists():
        seconds = json.loads(TIMES.read_text())["duration_by_test"]
        items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))
