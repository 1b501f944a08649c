"""What no measured point can be, as a table of rules.

Exists because a column in the wrong place or in seconds makes advice that looks like any other. Assumes finite numbers,
none negative (the codec sees to it). Must never doubt a point for being slow: only for contradicting itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from slm_runtime.document import SharingMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_runtime.document import Latency, Point

LITTLE_TOLERANCE = 0.10
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


NO_SHARING = SharingMode.NONE


class Rule(NamedTuple):
    """One contradiction and how to speak of it."""

    field: str
    broken: Callable[[Point], bool]
    because: Callable[[Point], str]
    mend: str


def is_trusted(point: Point) -> bool:
    """No preemption, no failed request, no mark."""
    return not (point.preemptions or point.errors or point.doubts)


def little_ratio(point: Point) -> float:
    """Sequences that throughput and ITL imply over those that were seen; 1 by Little's law, 0 for an empty point."""
    needed = point.output_tokens_per_second * point.itl_ms.mean_ms / 1000
    return needed / point.mean_running if needed and point.mean_running else 0.0


def _unit_is_wrong(point: Point) -> bool:
    ratio = little_ratio(point)
    return ratio > 0 and not THOUSANDTH < ratio < THOUSAND_FOLD


def _little_fails(point: Point) -> bool:
    # NB: sequences that are being prefilled run too and emit nothing: with long prompts far more run than decode.
    ratio = little_ratio(point)
    return not LEAST_RATIO < ratio < MOST_RATIO and THOUSANDTH < ratio < THOUSAND_FOLD and is_trusted(point)


def _percentiles_fall(latency: Latency | None) -> bool:
    if latency is None or (latency.p50_ms is None and latency.p90_ms is None):
        return False
    p99 = math.inf if latency.p99_ms is None else latency.p99_ms
    p90 = p99 if latency.p90_ms is None else latency.p90_ms
    return (latency.p50_ms or 0) > p90 or p90 > p99


def _two_units(latency: Latency | None) -> bool:
    if latency is None:
        return False
    tail = latency.p99_ms or latency.p90_ms or latency.p50_ms
    return tail is not None and not THOUSANDTH < tail / (latency.mean_ms or 1e-9) < THOUSAND_FOLD


_AGAIN = "remove the point or measure it again"
_COLUMNS = "check which column is which"
_FALL = "its percentiles fall"
_UNITS = "its mean and its percentiles are not of one unit"
_BOTH_MS = "give both in milliseconds"


def _empty(_: Point) -> str:
    return "it is 0"


RULES = (
    Rule("batchSize", lambda p: p.batch_size <= 0, _empty, _AGAIN),
    Rule("replicas", lambda p: p.replicas <= 0, _empty, _AGAIN),
    Rule("throughputTokensPerSecond", lambda p: p.throughput_tokens_per_second <= 0, _empty, _AGAIN),
    Rule("outputTokensPerSecond", lambda p: p.output_tokens_per_second <= 0, _empty, _AGAIN),
    Rule("itlMs.meanMs", lambda p: p.itl_ms.mean_ms <= 0, _empty, _AGAIN),
    Rule("meanRunning", lambda p: p.mean_running <= 0, _empty, _AGAIN),
    Rule(
        "sharingMode",
        lambda p: (p.replicas == 1) != (p.sharing_mode is NO_SHARING),
        lambda p: f"{p.sharing_mode} with {p.replicas} engine(s)",
        "None is for exactly one engine; correct either",
    ),
    Rule(
        "outputTokensPerSecond",
        lambda p: p.output_tokens_per_second > p.throughput_tokens_per_second,
        lambda p: (
            f"{p.output_tokens_per_second:g} is more than throughput, {p.throughput_tokens_per_second:g}, which counts input too"
        ),
        _COLUMNS,
    ),
    Rule(
        "kvPeakFraction",
        lambda p: p.kv_peak_fraction > SLACK,
        lambda p: f"{p.kv_peak_fraction:g} is more than the whole pool",
        "give a fraction of 1, not per cent",
    ),
    Rule(
        "meanRunning",
        lambda p: p.mean_running > p.batch_size * p.replicas * SLACK,
        lambda p: f"{p.mean_running:g} sequences ran where {p.replicas} x {p.batch_size} is the most",
        "check batchSize and replicas",
    ),
    Rule("itlMs", lambda p: _percentiles_fall(p.itl_ms), lambda _: _FALL, _COLUMNS),
    Rule("ttftMs", lambda p: _percentiles_fall(p.ttft_ms), lambda _: _FALL, _COLUMNS),
    Rule("itlMs", lambda p: _two_units(p.itl_ms), lambda _: _UNITS, _BOTH_MS),
    Rule("ttftMs", lambda p: _two_units(p.ttft_ms), lambda _: _UNITS, _BOTH_MS),
    Rule(
        "itlMs.meanMs",
        _unit_is_wrong,
        lambda p: f"Little's law is off by a factor of {max(little_ratio(p), 1 / little_ratio(p)):,.0f}",
        "a unit is wrong: give milliseconds and tokens per second",
    ),
    Rule(
        "outputTokensPerSecond",
        _little_fails,
        lambda p: (
            f"Little's law fails: {p.output_tokens_per_second:g} tokens/s at {p.itl_ms.mean_ms:g} ms need "
            f"{little_ratio(p) * p.mean_running:.1f} running sequences, {p.mean_running:g} were seen"
        ),
        "measure the point again, or mark it LittlesLaw",
    ),
)
