"""Candidates on their way through the checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from slm_operator.advisor import checks
from slm_operator.advisor.advice import Predicted
from slm_operator.advisor.load import at_load

if TYPE_CHECKING:
    from slm_runtime.document import Point

    from slm_operator.advisor.advice import Check
    from slm_operator.advisor.case import Case


class Judged(NamedTuple):
    """A point and what it was asked so far."""

    point: Point
    checks: tuple[Check, ...]
    predicted: Predicted | None
    """Its figures at the decided load, where they are not the point's own."""

    @property
    def passed(self) -> bool:
        """Whether nothing failed yet."""
        return self.checks[-1].passed

    @property
    def figures(self) -> Predicted:
        """Its figures at the decided load."""
        return self.predicted or Predicted.of(self.point)

    @property
    def throughput(self) -> float:
        """Tokens per second at the decided load."""
        return (self.predicted or self.point).throughput_tokens_per_second

    def then(self, check: Check) -> Judged:
        """With one more check."""
        return Judged(self.point, (*self.checks, check), self.predicted)


def judge_pack(case: Case, point: Point) -> Judged:
    """Every check of a pack but the last, which compares it with the best single engine."""
    made: list[Check] = []
    for check in checks.PACK:
        answer = check(case, point)
        made.append(answer)
        if not answer.passed:
            return Judged(point, tuple(made), None)
    answer, predicted = at_load(case, point)
    return Judged(point, (*made, answer), predicted)


def judge_single(case: Case, point: Point, *, packs_measured: bool) -> Judged:
    """Every check of a single engine."""
    made: list[Check] = []
    for check in checks.SINGLE:
        answer = check(case, point)
        made.append(answer)
        if not answer.passed:
            return Judged(point, tuple(made), None)
    answer, predicted = at_load(case, point)
    made.append(answer)
    if answer.passed:
        made.append(checks.efficiency(case, point, packs_measured=packs_measured))
    return Judged(point, tuple(made), predicted)


def judge_gain(case: Case, judged: Judged, best: tuple[Point, Predicted] | None) -> Judged:
    """The last check of a pack. `best` is the best single engine that passed its own, with its figures."""
    if not judged.passed:
        return judged
    return judged.then(checks.gain(case, judged.point, judged.throughput, best))
