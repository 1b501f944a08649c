"""Runs the check chains over the measured points: each point becomes a candidate with its results.

Assumes a question that `check_question` passed. Must never choose: it only marks what may be chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slm_core.candidates import best_of, judge

from slm_operator.advisor import checks
from slm_operator.advisor.load import at_load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_core.candidates import Candidate, Question
    from slm_core.measurements import Point

    from slm_operator.advisor.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The candidates of a document."""

    singles: tuple[Candidate, ...]
    """By rising batch."""
    packs: tuple[Candidate, ...]
    best: Candidate | None
    """The best single engine that passed: what a pack has to beat."""


def evaluate(context: Context) -> Evaluation:
    """Judge packs, then single engines, then the packs that passed against the best of those."""
    points = context.points
    packs = [_judge(context, p, checks.of_pack(context)) for p in points if p.replicas > 1]
    packs_measured = any(pack.passed for pack in packs)
    singles = [_single(context, p, packs_measured=packs_measured) for p in points if p.replicas == 1]
    best = best_of(singles)
    packs = [pack.then(checks.gain(context, pack, best)) if pack.passed else pack for pack in packs]
    return Evaluation(singles=tuple(singles), packs=tuple(packs), best=best)


def _single(context: Context, point: Point, *, packs_measured: bool) -> Candidate:
    judged = _judge(context, point, checks.of_single(context))
    if not judged.passed:
        return judged
    return judged.then(checks.efficiency(context, point, packs_measured=packs_measured))


def _judge(context: Context, point: Point, questions: Iterable[Question]) -> Candidate:
    """The checks of its chain, and then what the point says of the load."""
    judged = judge(point, questions)
    if not judged.passed:
        return judged
    found = at_load(context, point)
    return replace(judged.then(found.check), predicted=found.predicted)
