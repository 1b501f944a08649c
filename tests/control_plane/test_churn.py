"""Two minutes of the churn whose hour is a benchmark (docs/reliability.md): nothing is broken, and memory stays."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "benchmarks")]

from churn import run_churn  # noqa: E402 - the benchmarks are no package

pytestmark = [pytest.mark.control_plane, pytest.mark.slow, pytest.mark.timeout(1200)]
SECONDS, SEED = 105, 4  # three kills in the first quarter, three nodes lost
GROWN_MIB = 5.0


def test_nothing_is_broken_and_memory_stays() -> None:
    figures = run_churn(SECONDS, SEED)
    assert figures["broken"] == []
    assert {"a configuration switched", "a foreign pod", "a node that nobody lent"} <= figures["judged"].keys()
    assert figures["operator_restarts"] > 0
    assert figures["memory_last_fifth_mib"] - figures["memory_second_fifth_mib"] < GROWN_MIB
