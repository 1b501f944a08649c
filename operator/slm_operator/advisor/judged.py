"""Candidates on their way through the checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.advisor import checks
from slm_operator.advisor.advice import Candidate, Verdict
from slm_operator.advisor.load import at_load

if TYPE_CHECKING:
    from slm_runtime.document import Point

    from slm_operator.advisor.advice import Check, Predicted
    from slm_operator.advisor.case import Case

# NB: Python 3.11 runs a function for every `Verdict.KEPT`, so what each candidate may get is named once.
KEPT, REJECTED = Verdict.KEPT, Verdict.REJECTED


def judge_pack(case: Case, point: Point) -> Candidate:
    """Every check of a pack but the last, which compares it with the best single engine."""
    made: list[Check] = []
    for check in checks.PACK:
        answer = check(case, point)
        made.append(answer)
        if not answer.passed:
            return Candidate(point, REJECTED, tuple(made))
    answer, predicted = at_load(case, point)
    return Candidate(point, KEPT if answer.passed else REJECTED, (*made, answer), predicted)


def judge_single(case: Case, point: Point, *, packs_measured: bool) -> Candidate:
    """Every check of a single engine."""
    made: list[Check] = []
    for check in checks.SINGLE:
        answer = check(case, point)
        made.append(answer)
        if not answer.passed:
            return Candidate(point, REJECTED, tuple(made))
    answer, predicted = at_load(case, point)
    made.append(answer)
    if answer.passed:
        answer = checks.efficiency(case, point, packs_measured=packs_measured)
        made.append(answer)
    return Candidate(point, KEPT if answer.passed else REJECTED, tuple(made), predicted)


def judge_gain(case: Case, judged: Candidate, best: tuple[Point, Predicted] | None) -> Candidate:
    """The last check of a pack. `best` is the best single engine that passed its own, with its figures."""
    if not judged.passed:
        return judged
    answer = checks.gain(case, judged.point, judged.throughput, best)
    return judged.then(answer, KEPT if answer.passed else REJECTED)
