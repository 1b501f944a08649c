"""Checks that the search and the advisor share: a candidate is complete, trustworthy, confirmed and within the latency limits.

Each check answers one question with its numbers and its sentence; search and advisor build their chains from them
(`slm_core.candidates.judge`). Must never look at other candidates.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from slm_core.candidates import Check, CheckName
from slm_core.latency_model import is_full_single
from slm_core.measurements import Mark
from slm_core.noise import WIDE_FRACTION
from slm_core.slo import ITL, METRICS
from slm_core.slo_check import figure_ms, slo_misses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_core.measurements import Point
    from slm_core.slo import Limits
    from slm_core.slo_check import Miss

MARK_SAYS = {
    Mark.PREEMPTED: "the engine preempted sequences",
    Mark.ERRORS: "requests failed",
    Mark.LITTLES_LAW: "throughput, ITL and running sequences contradict each other",
    Mark.THROTTLED: "the GPU lowered its clocks",
    Mark.PREFIX_CACHE: "prompts came from the engine's prefix cache",
    Mark.CLIENT: "the load generator was too busy to load the engine",
    Mark.WIDE: "confidence intervals say nearly nothing",
}
MARK_REMEDY = {
    Mark.PREEMPTED: "measure with a larger KV pool",
    Mark.ERRORS: "see in the engine's log why requests failed",
    Mark.LITTLES_LAW: "measure again",
    Mark.THROTTLED: "see to the GPU's cooling and power, and measure again",
    Mark.PREFIX_CACHE: "measure again with the engine's prefix cache off (--no-enable-prefix-caching)",
    Mark.CLIENT: "give the profile pod more CPU, and measure again",
    Mark.WIDE: "measure again for longer, or on a machine that does nothing else",
}
"""What to do about a mark."""


def preemption(point: Point) -> Check:
    """A preempting engine recomputes what it threw away: its figures depend on luck."""
    if point.preemptions or Mark.PREEMPTED in point.marks:
        because = f"{point.preemptions} preemptions: its KV pool is too small for this batch"
        return Check(CheckName.PREEMPTION, False, because, point.preemptions, 0)
    return Check(CheckName.PREEMPTION, True, "no preemption")


def trusted(point: Point) -> Check:
    """No mark may cast doubt, no request have failed."""
    if point.errors or point.doubts:
        said = [MARK_SAYS[mark] for mark in point.doubts] or [f"{point.errors} requests failed"]
        return Check(CheckName.TRUSTED, False, f"not to be trusted: {', and '.join(said)}", point.errors, 0)
    return Check(CheckName.TRUSTED, True, "no doubt, no failed request")


def precise(point: Point) -> Check:
    """An interval as wide as that overlaps with nearly everything: such a point would win by its width."""
    ci, name = point.throughput_ci_fraction, CheckName.PRECISION
    if not is_wide(point):
        return Check(name, True, "its confidence interval says enough")
    width = "wider than" if ci is None else f"{ci:.1%} to either side, more than"
    because = (
        f"its confidence interval is {width} {WIDE_FRACTION:.1%}, which says nearly nothing: {MARK_REMEDY[Mark.WIDE]}"
    )
    return Check(name, False, because, math.inf if ci is None else ci, WIDE_FRACTION)


def is_wide(point: Point) -> bool:
    """Its interval says nearly nothing, whether whoever measured it marked it or not."""
    return Mark.WIDE in point.marks or (point.throughput_ci_fraction or 0.0) > WIDE_FRACTION


SOUND = (preemption, trusted, precise)
"""What any point must be before its figures are compared with any other's."""
NAMED_BY_MARKS = (trusted, precise)
"""Those whose every reason is a mark. Preemption is no doubt, but a limit: the pool is too small for the batch."""


class Doubt(NamedTuple):
    """Why a point is not sound, and what to do about it, for a sentence about many points."""

    says: str
    remedy: str


def is_sound(point: Point) -> bool:
    """Its figures can be compared."""
    return all(question(point).passed for question in SOUND)


def doubts_of(points: Iterable[Point]) -> tuple[Doubt, ...]:
    """Every reason to doubt any of these points, each once: marks, then what other checks of SOUND say of the first that fails."""
    doubted = tuple(points)
    found = {mark for p in doubted for mark in p.doubts if mark is not Mark.PREEMPTED}
    found |= {Mark.ERRORS for p in doubted if p.errors}
    found |= {Mark.WIDE for p in doubted if is_wide(p)}
    marked = (doubt_by(mark) for mark in Mark if mark in found)
    others = (question for question in SOUND if question not in {preemption, *NAMED_BY_MARKS})
    said = (next((check.because for check in map(question, doubted) if not check.passed), None) for question in others)
    return (*marked, *(Doubt(because, "measure again") for because in said if because is not None))


def doubt_by(mark: Mark) -> Doubt:
    """What a mark says."""
    return Doubt(MARK_SAYS[mark], MARK_REMEDY[mark])


def only_one_sequence_is_sound(points: Iterable[Point]) -> bool:
    """Every larger batch of one engine is in doubt, so that B = 1 would win for want of others: no choice at all."""
    larger = [p for p in points if is_full_single(p) and p.batch_size > 1]
    return bool(larger) and all(doubts_of((p,)) for p in larger)


def confirmed(point: Point) -> Check:
    """A pack must have run with the KV bytes that it would be given."""
    if point.confirmed:
        return Check(CheckName.CONFIRMED, True, "measured with the KV bytes that it would be given")
    because = "measured with other KV bytes than it would be given: confirm it first"
    return Check(CheckName.CONFIRMED, False, because)


def latency(point: Point, *, limits: Limits) -> Check:
    """Every limit, of the statistic asked, as far as the samples support it."""
    if misses := slo_misses(point, limits):
        worst = max(misses, key=_severity)
        return Check(CheckName.SLO, False, worst.because, worst.measured_ms or math.inf, worst.limit_ms or 0)
    for metric in METRICS:
        limit_ms, measured = metric.limit_ms(limits), metric.of(point)
        if limit_ms is not None and measured is not None:
            figure = figure_ms(measured, metric.statistic(limits)) or 0
            shorter = f"{metric.name} is within {limit_ms:.1f} ms"
            because = metric.kept(figure, limit_ms, metric.statistic(limits)) if metric is ITL else shorter
            return Check(CheckName.SLO, True, because, figure, limit_ms)
    return Check(CheckName.SLO, True, "no latency limit was asked")


def _severity(miss: Miss) -> float:
    """By how much a limit is missed; what is not known is the worst."""
    return math.inf if miss.measured_ms is None or miss.limit_ms is None else miss.measured_ms / miss.limit_ms
