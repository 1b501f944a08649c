"""The largest batch that keeps every limit, estimated from the points so far.

Exists because T(B) rises with B: the best batch is the last one before some limit. Each limit's use (ITL over its SLO,
efficiency limit over efficiency, KV peak over pool) is nearly linear in B, so its crossing is found as a secant finds
it: by the line through the points, those near the crossing counting most. Must never be taken for an answer: only
measured points are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from slm_runtime import bca
from slm_runtime.fit import fit_line, fit_points, sweep_of
from slm_runtime.slo import figure_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_runtime.document import Point
    from slm_runtime.slo import Limits

AIM_FRACTION = 0.99
"""Use of a limit that is aimed at: a point measured right at the limit fails half of the time."""
KV_AIM_FRACTION = 0.95
"""KV peak that is aimed at; the pool's random peak in another window is a little higher."""
NEAR_FRACTION = 0.01
"""Trust in a point right at the crossing; it falls with distance."""


class Limit(StrEnum):
    """What can end the growth of B."""

    ITL = "the ITL limit"
    TTFT = "the TTFT limit"
    EFFICIENCY = "the efficiency limit"
    KV = "the KV pool"
    LARGEST = "the largest batch allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """Where B must end, and what ends it."""

    batch_size: float
    """May be below 1: then no batch keeps the limit."""
    limit: Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Everything that limits one engine."""

    limits: Limits
    min_efficiency: float
    max_batch_size: int


def boundary(points: Sequence[Point], bounds: Bounds) -> Boundary:
    """The first limit that B would reach."""
    crossings = [Boundary(batch_size=bounds.max_batch_size, limit=Limit.LARGEST)]
    one, _ = bca.single_sequence_tokens_per_second(points)
    uses = [(p, _uses(p, bounds, one)) for p in sweep_of(points)]
    for limit, aim in _AIMS.items():
        known = [(p, use[limit]) for p, use in uses if use.get(limit)]
        if known:
            crossings.append(Boundary(batch_size=_crossing(known, aim), limit=limit))
    return min(crossings, key=lambda c: c.batch_size)


_AIMS = {
    Limit.ITL: AIM_FRACTION,
    Limit.TTFT: AIM_FRACTION,
    Limit.EFFICIENCY: AIM_FRACTION,
    Limit.KV: KV_AIM_FRACTION,
}


def _uses(point: Point, bounds: Bounds, single_sequence: float | None) -> dict[Limit, float]:
    """Each limit's use as a fraction of it; limits that are not there, or figures not known, are left out."""
    uses = {Limit.KV: point.kv_peak_fraction}
    latencies = ((Limit.ITL, bounds.limits.itl_ms, point.itl_ms), (Limit.TTFT, bounds.limits.ttft_ms, point.ttft_ms))
    for limit, limit_ms, latency in latencies:
        figure = figure_ms(latency, bounds.limits.percentile) if latency else None
        if limit_ms and figure is not None:
            uses[limit] = figure / limit_ms
    if single_sequence and bounds.min_efficiency > 0:
        uses[Limit.EFFICIENCY] = bounds.min_efficiency / bca.efficiency(point, single_sequence)
    return uses


def _crossing(known: Sequence[tuple[Point, float]], aim: float) -> float:
    """The B at which the use reaches `aim`."""
    if len({p.batch_size for p, _ in known}) < 2:
        point, use = known[-1]
        return point.batch_size * aim / use
    doubts = [math.hypot(NEAR_FRACTION, math.log(use / aim) / 4) for _, use in known]
    return fit_line([float(p.batch_size) for p, _ in known], [use for _, use in known], doubts).inverse(aim)


def tidy(batch_size: float) -> int:
    """Round down to a size that a person would set; steps of at most 4 %, none below 16."""
    whole = math.floor(batch_size)
    step = next((step for below, step in ((16, 1), (64, 2), (256, 4)) if whole < below), 8)
    return whole - whole % step


def kv_peak_bytes(points: Sequence[Point], batch_size: int) -> float | None:
    """Expected KV peak of one engine at B, from the points that know their pool; those near B count most."""
    known = [(p, p.kv_peak_fraction * p.kv_pool_bytes) for p in points if p.kv_pool_bytes and not p.marks]
    known = [(p, peak) for p, peak in known if peak > 0]
    if not known:
        return None
    same = [peak for p, peak in known if p.batch_size == batch_size]
    if same:
        return max(same)
    if len({p.batch_size for p, _ in known}) < 2:
        point, peak = known[-1]
        return peak * batch_size / point.batch_size
    doubts = [NEAR_FRACTION + abs(math.log(p.batch_size / batch_size)) / 4 for p, _ in known]
    return fit_line([float(p.batch_size) for p, _ in known], [peak for _, peak in known], doubts).at(batch_size)


def gain_fraction(points: Sequence[Point], of: int, over: Point) -> float:
    """Expected throughput at B = `of` over that of a measured point, less 1; infinite when nothing can be expected."""
    fit = fit_points(points)
    if fit is None:
        return math.inf
    return fit.predict(of).throughput_tokens_per_second / fit.predict(over.batch_size).throughput_tokens_per_second - 1
