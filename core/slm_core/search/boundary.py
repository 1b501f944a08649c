"""The largest batch that keeps every limit, estimated from the points so far.

Exists because T(B) rises with B: the best batch is the last one before some limit. Each limit's use (ITL over its SLO,
efficiency limit over efficiency, KV peak over pool) is nearly linear in B, so its crossing is found as a secant finds
it: by the line through the points, those near the crossing counting most. Must never be taken for an answer: only
measured points are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from slm_core import batching, noise
from slm_core.latency_model import fit_line, fit_points, sweep_of
from slm_core.slo import METRICS
from slm_core.slo_check import figure_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slm_core.engines.base import Engine
    from slm_core.measurements import Point
    from slm_core.slo import Limits, Metric, Statistic

    Use = Callable[[Point], float | None]

KV_AIM_FRACTION = 0.95
"""KV peak that is aimed at; the pool's random peak in another window is a little higher."""
NEAR_GRAPH_FRACTION = 1 / 32
"""Part of B that is given up for a size that the engine has captured.

Anything more costs throughput: with 1, always a captured size, the 5th percentile against exhaustive sweeps falls from
0.94 to 0.76 (`python -m benchmarks.search`), since graphs for few sequences lie 8 apart.
"""
LEAST_AIM_FRACTION = 0.1
"""However wide the intervals, no less of a limit's use is aimed at."""
NEAR_FRACTION = 0.01
"""Trust in a point right at the crossing; it falls with distance."""


EFFICIENCY, KV, LARGEST = "the efficiency limit", "the KV pool", "the largest batch allowed"
"""What can end the growth of B, besides a limit of the SLO."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """Where B must end, and what ends it."""

    batch_size: float
    """May be below 1: then no batch keeps the limit."""
    limit: str
    """In words."""


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
    crossings = [Boundary(batch_size=bounds.max_batch_size, limit=LARGEST)]
    one, _ = batching.single_sequence_tokens_per_second(points)
    swept = sweep_of(points)
    for limit, use_of in _uses(swept, bounds, one).items():
        known = [(p, use) for p in swept if (use := use_of(p))]
        if known:
            at = _crossing(known, KV_AIM_FRACTION if limit == KV else aim)
            crossings.append(Boundary(batch_size=max(at, 0.0), limit=limit))  # NB: a flat line above is met at -inf
    return min(crossings, key=lambda c: c.batch_size)


def _uses(swept: Sequence[Point], bounds: Bounds, single_sequence: float | None) -> dict[str, Use]:
    """How much of each limit a point uses, as a fraction; None where there is no such limit, or no figure."""
    limits = bounds.limits

    def of_latency(metric: Metric, point: Point) -> float | None:
        limit_ms, figure = metric.limit_ms(limits), _expected_figure_ms(metric, point, swept, metric.statistic(limits))
        return figure / limit_ms if limit_ms and figure else None

    def of_efficiency(point: Point) -> float | None:
        if not single_sequence or bounds.min_efficiency <= 0:
            return None
        return bounds.min_efficiency / batching.efficiency(point, single_sequence)

    of_slo = {f"the {metric.name} limit": partial(of_latency, metric) for metric in METRICS}
    return {**of_slo, EFFICIENCY: of_efficiency, KV: lambda point: point.kv_peak_fraction}


def _expected_figure_ms(metric: Metric, point: Point, swept: Sequence[Point], statistic: Statistic) -> float | None:
    """The figure that the SLO limits, as measured; of a metric on the line as much over the mean as the samples show.

    Where they do not support the statistic at this B, it is as much over the mean as at the nearest B where they do.
    """
    if not metric.follows_line:
        latency = metric.of(point)
        return figure_ms(latency, statistic) if latency else None
    ratios = [
        (abs(math.log(p.batch_size / point.batch_size)), figure / latency.mean_ms)
        for p in swept
        if (latency := metric.of(p)) is not None and (figure := figure_ms(latency, statistic)) is not None
    ]
    own, (_, ratio) = metric.of(point), min(ratios, default=(0.0, None))
    return own.mean_ms * ratio if own is not None and ratio is not None else None


def _crossing(known: Sequence[tuple[Point, float]], aim: float) -> float:
    """The B at which the use reaches `aim`."""
    if len({p.batch_size for p, _ in known}) < 2:
        point, use = known[-1]
        return point.batch_size * aim / use
    doubts = [math.hypot(NEAR_FRACTION, math.log(use / aim) / 4) for _, use in known]
    return fit_line([float(p.batch_size) for p, _ in known], [use for _, use in known], doubts).inverse(aim)


def tidy(batch_size: float, engine: Engine) -> int:
    """Round down to a size that a person would set, and to one that the engine has captured as a graph where one is near.

    Steps of 2 to 3 %, none below 64. What lies between two graphs costs the sweep's engine a step of the larger one; but
    an engine that is served captures its own batch too, so a size is not worth more than that.
    """
    whole = math.floor(max(batch_size, 0.0))  # a flat line that misses a limit crosses it nowhere
    step = next((step for below, step in ((64, 1), (128, 2), (256, 4)) if whole < below), 8)
    round_size, captured = whole - whole % step, whole - whole % engine.graph_step(whole)
    return min(captured, round_size) if captured >= whole * (1 - NEAR_GRAPH_FRACTION) else round_size


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
