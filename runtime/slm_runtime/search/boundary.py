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

from slm_core import batching, noise
from slm_core.latency_model import fit_line, fit_points, sweep_of
from slm_core.slo import figure_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.measurements import Point
    from slm_core.slo import Limits

KV_AIM_FRACTION = 0.95
"""KV peak that is aimed at; the pool's random peak in another window is a little higher."""
LEAST_AIM_FRACTION = 0.1
"""However wide the intervals, no less of a limit's use is aimed at."""
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


def noise_fraction(points: Sequence[Point]) -> float:
    """Spread of one more measurement beside these."""
    return noise.of_next_measurement(p.throughput_ci_fraction for p in points)


def boundary(points: Sequence[Point], bounds: Bounds, aim: float) -> Boundary:
    """The first limit that B would reach. `aim` is the use of a limit that is aimed at, as a fraction of it.

    NB: a point measured right at the limit fails half of the time, one a deviation below it one time in six. On a busy
    machine a few deviations are more than the whole limit, of which something must be left to aim at.
    """
    aim = max(aim, LEAST_AIM_FRACTION)
    crossings = [Boundary(batch_size=bounds.max_batch_size, limit=Limit.LARGEST)]
    one, _ = batching.single_sequence_tokens_per_second(points)
    swept = sweep_of(points)
    uses = [(p, _uses(p, bounds, one, _figure_ratio(p, swept, bounds.limits))) for p in swept]
    for limit in (Limit.ITL, Limit.TTFT, Limit.EFFICIENCY, Limit.KV):
        known = [(p, use[limit]) for p, use in uses if use.get(limit)]
        if known:
            at = _crossing(known, KV_AIM_FRACTION if limit is Limit.KV else aim)
            crossings.append(Boundary(batch_size=at, limit=limit))
    return min(crossings, key=lambda c: c.batch_size)


def _figure_ratio(point: Point, swept: Sequence[Point], limits: Limits) -> float | None:
    """The SLO's ITL percentile over the mean; of the nearest B where this point's samples do not support it."""
    known = [
        (abs(math.log(p.batch_size / point.batch_size)), figure / p.itl_ms.mean_ms)
        for p in swept
        if (figure := figure_ms(p.itl_ms, limits.percentile)) is not None
    ]
    return min(known, default=(0.0, None))[1]


def _uses(point: Point, bounds: Bounds, single_sequence: float | None, ratio: float | None) -> dict[Limit, float]:
    """Each limit's use as a fraction of it; limits that are not there, or figures not known, are left out."""
    limits = bounds.limits
    uses = {Limit.KV: point.kv_peak_fraction}
    if limits.itl_ms and ratio:
        uses[Limit.ITL] = point.itl_ms.mean_ms * ratio / limits.itl_ms
    ttft_ms = figure_ms(point.ttft_ms, limits.percentile) if point.ttft_ms else None
    if limits.ttft_ms and ttft_ms:
        uses[Limit.TTFT] = ttft_ms / limits.ttft_ms
    if single_sequence and bounds.min_efficiency > 0:
        uses[Limit.EFFICIENCY] = bounds.min_efficiency / batching.efficiency(point, single_sequence)
    return uses


def _crossing(known: Sequence[tuple[Point, float]], aim: float) -> float:
    """The B at which the use reaches `aim`."""
    if len({p.batch_size for p, _ in known}) < 2:
        point, use = known[-1]
        return point.batch_size * aim / use
    doubts = [math.hypot(NEAR_FRACTION, math.log(use / aim) / 4) for _, use in known]
    return fit_line([float(p.batch_size) for p, _ in known], [use for _, use in known], doubts).inverse(aim)


def tidy(batch_size: float) -> int:
    """Round down to a size that a person would set: steps of 2 to 3 %, none below 64."""
    whole = math.floor(batch_size)
    step = next((step for below, step in ((64, 1), (128, 2), (256, 4)) if whole < below), 8)
    return whole - whole % step


def kv_peak_bytes(points: Sequence[Point], batch_size: int) -> float | None:
    """Expected KV peak of one engine at B, from the points that know their pool; those near B count most."""
    known = [(p, p.kv_peak_fraction * p.kv_pool_bytes) for p in points if p.kv_pool_bytes and not p.doubts]
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
