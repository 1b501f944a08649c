"""Advice for ten times the points is ten times the work, not a hundred times.

A profile has about ten points, but `kubectl slm advise` is given whatever a file holds.
"""

from __future__ import annotations

from slm_core.slo import Slo
from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise

from tests.builders import document, pack, point
from tests.operations import calls_of

FEW, MANY = 50, 500
SLACK = 1.5
"""Sorting is a little more than linear."""


def calls(points: int) -> int:
    measured = document(*(point(b) for b in range(1, points // 2 + 1)), *(pack(b) for b in range(1, points // 2 + 1)))
    return calls_of(lambda: advise(measured, Slo(itl_ms=60), Settings()))


def test_work_grows_with_the_number_of_points() -> None:
    assert calls(MANY) < calls(FEW) * MANY / FEW * SLACK
