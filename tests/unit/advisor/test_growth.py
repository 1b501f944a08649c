"""Advice for ten times the points is ten times the work, not a hundred times."""

from __future__ import annotations

from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise
from slm_runtime.slo import Slo

from benchmarks.advisor import random_document
from tests.operations import calls_of

FEW, MANY = 50, 500
SLACK = 1.5
"""Sorting is a little more than linear, and the two documents are drawn at random."""


def calls(points: int) -> int:
    document = random_document(points)
    return calls_of(lambda: advise(document, Slo(itl_ms=60), Settings()))


def test_work_grows_with_the_number_of_points() -> None:
    assert calls(MANY) < calls(FEW) * MANY / FEW * SLACK
