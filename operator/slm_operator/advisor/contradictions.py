"""What no measured point can be, as a table of rules.

Exists because a column in the wrong place or in seconds makes advice that looks like any other. Assumes finite numbers,
none negative (the codec sees to it). Must never doubt a point for being slow: only for contradicting itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from slm_core.measurements import SharingMode, camel
from slm_core.noise import LITTLES_LAW_FRACTION
from slm_core.slo import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_core.measurements import Latency, Point
    from slm_core.slo import Metric

LITTLE_TOLERANCE = 2 * LITTLES_LAW_FRACTION
"""An unmarked point may decode this fraction more than Little's law, running = output rate x ITL, allows: twice what earns the mark."""
PREFILL_SHARE = 0.6
"""Of the sequences that run, so many at most are being prefilled."""
LEAST_RATIO, MOST_RATIO = 1 - PREFILL_SHARE, 1 + LITTLE_TOLERANCE
"""Between them Little's law holds."""
THOUSAND_FOLD = 300.0
"""A disagreement this large is a unit, not a measurement."""
THOUSANDTH = 1 / THOUSAND_FOLD
SLACK = 1.02
"""Averages from gauges may exceed what is possible by this factor."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One contradiction."""

    field: str
    """Where it stands: in the point, as in `itlMs.meanMs`; in the question, as in `points[2].itlMs.meanMs`."""
    because: str
    """What contradicts what."""
    mend: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.field}: {self.because}: {self.mend}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A question that every point is asked, and what is said of a point that it finds broken."""

    broken: Callable[[Point], bool]
    say: Callable[[Point], Problem]


def little_ratio(point: Point) -> float:
    """Sequences that throughput and ITL imply over those that were seen; 1 by Little's law, 0 for an empty point."""
    running = point.mean_running
    return point.output_tokens_per_second * point.itl_ms.mean_ms / 1000 / running if running else 0.0


def _little_fails(point: Point) -> bool:
    # NB: sequences that are being prefilled run too and emit nothing: with long prompts far more run than decode.
    ratio = little_ratio(point)
    return not LEAST_RATIO < ratio < MOST_RATIO and ratio > 0 and (_is_unit(ratio) or point.is_trusted)


def _is_unit(ratio: float) -> bool:
    return not THOUSANDTH < ratio < THOUSAND_FOLD


def _little(point: Point) -> Problem:
    ratio = little_ratio(point)
    if _is_unit(ratio):
        return Problem(
            "itlMs.meanMs",
            f"Little's law is off by a factor of {max(ratio, 1 / ratio):,.0f}",
            "a unit is wrong: give milliseconds and tokens per second",
        )
    return Problem(
        "outputTokensPerSecond",
        f"Little's law fails: {point.output_tokens_per_second:g} tokens/s at {point.itl_ms.mean_ms:g} ms need "
        f"{ratio * point.mean_running:.1f} running sequences, {point.mean_running:g} were seen",
        "measure the point again, or mark it LittlesLaw",
    )


def _is_torn(metric: Metric, point: Point) -> bool:
    latency = metric.of(point)
    if latency is None or (tail := latency.p99_ms or latency.p90_ms or latency.p50_ms) is None:
        return False
    return _two_units(latency.mean_ms, tail) or _percentiles_fall(latency)


def _two_units(mean_ms: float, tail_ms: float) -> bool:
    return not mean_ms * THOUSANDTH < tail_ms < mean_ms * THOUSAND_FOLD


def _percentiles_fall(latency: Latency) -> bool:
    p99 = math.inf if latency.p99_ms is None else latency.p99_ms
    p90 = p99 if latency.p90_ms is None else latency.p90_ms
    return (latency.p50_ms or 0) > p90 or p90 > p99


def _torn(metric: Metric, point: Point) -> Problem:
    latency, field = metric.of(point), camel(metric.field)
    if latency and _percentiles_fall(latency):
        return Problem(field, "its percentiles fall", _COLUMNS)
    return Problem(field, "its mean and its percentiles are not of one unit", "give both in milliseconds")


def _empty(field: str) -> Callable[[Point], Problem]:
    return lambda _: Problem(field, "it is 0", "remove the point or measure it again")


_COLUMNS = "check which column is which"

RULES = (
    Rule(lambda p: p.batch_size <= 0, _empty("batchSize")),
    Rule(lambda p: p.replicas <= 0, _empty("replicas")),
    Rule(lambda p: p.throughput_tokens_per_second <= 0, _empty("throughputTokensPerSecond")),
    Rule(lambda p: p.output_tokens_per_second <= 0, _empty("outputTokensPerSecond")),
    Rule(lambda p: p.itl_ms.mean_ms <= 0, _empty("itlMs.meanMs")),
    Rule(lambda p: p.mean_running <= 0, _empty("meanRunning")),
    Rule(
        lambda p: (p.replicas == 1) != (p.sharing_mode is SharingMode.NONE),
        lambda p: Problem(
            "sharingMode",
            f"{p.sharing_mode} with {p.replicas} engine(s)",
            "None is for exactly one engine; correct either",
        ),
    ),
    Rule(
        lambda p: p.output_tokens_per_second > p.throughput_tokens_per_second,
        lambda p: Problem(
            "outputTokensPerSecond",
            f"{p.output_tokens_per_second:g} is more than throughput, {p.throughput_tokens_per_second:g}, which counts input too",
            _COLUMNS,
        ),
    ),
    Rule(
        lambda p: p.kv_peak_fraction > SLACK,
        lambda p: Problem(
            "kvPeakFraction",
            f"{p.kv_peak_fraction:g} is more than the whole pool",
            "give a fraction of 1, not per cent",
        ),
    ),
    Rule(
        lambda p: p.mean_running > p.batch_size * p.replicas * SLACK,
        lambda p: Problem(
            "meanRunning",
            f"{p.mean_running:g} sequences ran where {p.replicas} x {p.batch_size} is the most",
            "check batchSize and replicas",
        ),
    ),
    *(Rule(partial(_is_torn, metric), partial(_torn, metric)) for metric in METRICS),
    Rule(_little_fails, _little),
)
