"""Candidates on their way through the checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from slm_operator.advisor import checks
from slm_operator.advisor.load import figures_at_load

if TYPE_CHECKING:
    from slm_runtime.document import Point

    from slm_operator.advisor.advice import Check, Predicted
    from slm_operator.advisor.case import Case


class Judged(NamedTuple):
    """A point and what it was asked so far."""

    point: Point
    checks: tuple[Check, ...]
    predicted: Predicted | None
    """Its figures at the decided load. Absent when a check failed before they were needed."""

    @property
    def passed(self) -> bool:
        """Whether nothing failed yet."""
        return self.checks[-1].passed

    @property
    def throughput(self) -> float:
        """Tokens per second at the decided load."""
        return self.predicted.throughput_tokens_per_second if self.predicted else 0.0

    def then(self, check: Check) -> Judged:
        """With one more check."""
        return Judged(self.point, (*self.checks, check), self.predicted)


def judge(case: Case, point: Point) -> Judged:
    """Every check that looks at nothing but the point. Stops at the first that fails."""
    made: list[Check] = []
    for check in checks.PACK if point.replicas > 1 else checks.SINGLE:
        answer = check(case, point)
        made.append(answer)
        if not answer.passed:
            return Judged(point, tuple(made), None)
    answer, predicted = figures_at_load(case, point)
    return Judged(point, (*made, answer), predicted)


def judge_efficiency(case: Case, judged: Judged, *, packs_measured: bool) -> Judged:
    """The last check of a single engine."""
    if not judged.passed:
        return judged
    return judged.then(checks.efficiency(case, judged.point, packs_measured=packs_measured))


def judge_gain(case: Case, judged: Judged, best: Judged | None) -> Judged:
    """The last check of a pack. `best` is the best single engine that passed its own."""
    if judged.predicted is None or not judged.passed:
        return judged
    against = (best.point, best.predicted) if best and best.predicted else None
    return judged.then(checks.gain(case, judged.point, judged.predicted, against))
