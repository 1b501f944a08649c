"""Checks that the search and the advisor share: a candidate is complete, trustworthy, confirmed and within the latency limits.

Each check answers one question with its numbers and its sentence; search and advisor build their chains from them
(`slm_core.candidates.judge`). Must never look at other candidates.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from slm_core.candidates import Check, CheckName
from slm_core.measurements import Mark
from slm_core.slo import ITL, METRICS
from slm_core.slo_check import figure_ms, slo_misses

if TYPE_CHECKING:
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
}


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
