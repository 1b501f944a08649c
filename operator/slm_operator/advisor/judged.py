"""Candidates on their way through the checks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_operator.advisor import checks
from slm_operator.advisor.advice import Candidate
from slm_operator.advisor.load import at_load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_core.measurements import Point

    from slm_operator.advisor.case import Case
    from slm_operator.advisor.checks import Question


def judge_pack(case: Case, point: Point) -> Candidate:
    """Every check of a pack but the last, which compares it with the best single engine."""
    return _judge(case, point, checks.PACK)


def judge_gain(case: Case, pack: Candidate, best: Candidate | None) -> Candidate:
    """The last check of a pack that passed the others. `best` is the best single engine that passed its own."""
    return pack.then(checks.gain(case, pack, best))


def judge_single(case: Case, point: Point, *, packs_measured: bool) -> Candidate:
    """Every check of a single engine."""
    judged = _judge(case, point, checks.SINGLE)
    return judged.then(checks.efficiency(case, point, packs_measured=packs_measured)) if judged.passed else judged


def _judge(case: Case, point: Point, chain: Iterable[Question]) -> Candidate:
    """The checks of the chain, and what the point says of the load, up to the first that fails."""
    judged = Candidate(point=point)
    for question in chain:
        judged = judged.then(question(case, point))
        if not judged.passed:
            return judged
    found = at_load(case, point)
    return replace(judged.then(found.check), predicted=found.predicted)
