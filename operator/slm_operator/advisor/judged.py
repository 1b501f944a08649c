"""Candidates on their way through the checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.advisor import checks
from slm_operator.advisor.advice import PASSED, Candidate, Verdict
from slm_operator.advisor.load import at_load

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_runtime.document import Point

    from slm_operator.advisor.advice import Answer, Predicted
    from slm_operator.advisor.case import Case

# NB: Python 3.11 runs a function for every `Verdict.KEPT`, so what each candidate may get is named once.
KEPT, REJECTED = Verdict.KEPT, Verdict.REJECTED


def judge_pack(case: Case, point: Point) -> Candidate:
    """Every check of a pack but the last, which compares it with the best single engine."""
    made = [*checks.allowed(case, point)]
    if made[-1][PASSED]:
        made += checks.sound(case, point)
    predicted = _ask(case, point, checks.PACK, made)
    return Candidate(point, KEPT if made[-1][PASSED] else REJECTED, tuple(made), predicted)


def judge_single(case: Case, point: Point, *, packs_measured: bool) -> Candidate:
    """Every check of a single engine."""
    made = [*checks.sound(case, point)]
    predicted = _ask(case, point, checks.SINGLE, made)
    if made[-1][PASSED]:
        made.append(checks.efficiency(case, point, packs_measured=packs_measured))
    return Candidate(point, KEPT if made[-1][PASSED] else REJECTED, tuple(made), predicted)


def judge_gain(case: Case, judged: Candidate, best: tuple[Point, Predicted] | None) -> Candidate:
    """The last check of a pack that passed the others. `best` is the best single engine that passed its own."""
    answer = checks.gain(case, judged.point, judged.throughput, best)
    return judged.then(answer, KEPT if answer[PASSED] else REJECTED)


def _ask(
    case: Case, point: Point, chain: tuple[Callable[[Case, Point], Answer], ...], made: list[Answer]
) -> Predicted | None:
    """Add the answers of the chain, and what the point says of the load, up to the first that fails."""
    if not made[-1][PASSED]:
        return None
    for check in chain:
        answer = check(case, point)
        made.append(answer)
        if not answer[PASSED]:
            return None
    answer, predicted = at_load(case, point)
    made.append(answer)
    return predicted
