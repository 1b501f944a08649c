"""The steady-state window: when it opens, when it may close, and the point that comes of it. Pure.

It opens when as many requests have emitted their first token as the loop is wide, and closes before the loop drains,
once the confidence interval of throughput is narrow, or at a cap. Throughput and mean ITL are differences of the
engines' counters at both ends; the running confidence interval is taken over equal slices of the window.

Assumes scrapes in order of time. Must never average a doubtful point in: doubts become marks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from slm_core.counters import CounterDelta
from slm_core.measurements import Latency, Mark
from slm_core.noise import LITTLES_LAW_FRACTION, WIDE_FRACTION
from slm_core.slo import MIN_SAMPLES, Statistic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.counters import Counters

SLICES = 10
T_975 = 2.262
"""Student's t for 95 % and SLICES - 1 degrees of freedom."""
FULL_FRACTION = 0.9
"""Use of the KV pool at which waiting requests are taken to wait for blocks."""


PREFIX_HIT_FRACTION = 0.03
"""Part of the prompts' tokens that a prefix cache may have held by chance, or of what others asked for."""
CLIENT_CORE_FRACTION = 0.7
"""Part of a core from which on the load generator, which has only one, may itself be what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How patient the measurement is."""

    poll_seconds: float = 0.5
    min_seconds: float = 5.0
    max_seconds: float = 20.0
    ci_fraction: float = 0.02
    """Half width of the 95 % confidence interval, as a fraction of throughput, at which the window may close."""
    hang_seconds: float = 60.0
    """Without a single token for so long, the engine hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """The engines' counters, summed, at a moment of a monotonic clock in seconds."""

    at: float
    counters: Counters


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the counters of one window say."""

    delta: CounterDelta
    ci_fraction: float | None
    kv_peak_fraction: float
    preemptions: int
    requests: int
    input_tokens_mean: float | None
    output_tokens_mean: float | None
    mean_running: float
    running_error: float
    """Standard error of `mean_running`, which is a mean of samples; at least a quarter of what one sample counts for."""
    mean_waiting: float
    decoding: float
    """Sequences that must have been past their first token, if ITL and throughput are right (Little's law)."""
    prefilling: float
    """Those that must have been before it, if the time to it is right."""
    prefix_hit_fraction: float
    """Part of the prompts' tokens that the engines' prefix caches held."""
    client_core_fraction: float
    """What the load generator used of a core; not from the counters."""


def is_open(now: Counters, before: Counters, width: int) -> bool:
    """Every place of the loop has emitted its first token."""
    return now.ttft_count - before.ttft_count >= width


def may_close(window: Sequence[Scrape], pace: Pace, max_requests: int | None, *, enough_samples: bool) -> bool:
    """Long and narrow enough, or at its cap. A cap in requests replaces the interval's rule, not the cap in seconds."""
    seconds = window[-1].at - window[0].at
    if seconds <= 0:
        return False
    if max_requests is not None:
        finished = window[-1].counters.finished - window[0].counters.finished
        return finished >= max_requests or seconds >= 2 * pace.max_seconds
    if seconds >= pace.max_seconds:
        return enough_samples or seconds >= 3 * pace.max_seconds
    interval = ci_fraction(window)
    return seconds >= pace.min_seconds and interval is not None and interval <= pace.ci_fraction and enough_samples


def ci_fraction(window: Sequence[Scrape]) -> float | None:
    """Half width of the 95 % confidence interval of output tokens per second, as a fraction, by batch means."""
    steps = len(window) - 1
    if steps < SLICES:
        return None
    ends = [window[round(i * steps / SLICES)] for i in range(SLICES + 1)]
    rates = [(b.counters.output_tokens - a.counters.output_tokens) / (b.at - a.at) for a, b in pairwise(ends)]
    mean = fmean(rates)
    return T_975 * stdev(rates) / math.sqrt(SLICES) / mean if mean > 0 else None


def facts(window: Sequence[Scrape], client_core_fraction: float = 0.0) -> Facts:
    """Differences over the window and means over its scrapes."""
    first, last = window[0], window[-1]
    delta = CounterDelta.between(first.counters, last.counters, last.at - first.at)
    gained, prefilled = delta.gained, delta.gained.ttft_count
    running = [scrape.counters.running for scrape in window]
    return Facts(
        delta=delta,
        ci_fraction=ci_fraction(window),
        kv_peak_fraction=max(scrape.counters.kv_usage for scrape in window),
        preemptions=round(gained.preemptions),
        requests=round(gained.finished),
        input_tokens_mean=gained.prompt_tokens / prefilled if prefilled else None,
        output_tokens_mean=gained.output_tokens / prefilled if prefilled else None,
        mean_running=fmean(running),
        # NB: three scrapes that all saw one sequence do not show that one always ran.
        running_error=max(stdev(running) / math.sqrt(len(running)), fmean(running) / (4 * len(running))),
        mean_waiting=fmean(scrape.counters.waiting for scrape in window),
        decoding=gained.itl_sum / delta.seconds,
        prefilling=_prefill_seconds(gained) / delta.seconds,
        prefix_hit_fraction=gained.prefix_hits / gained.prefix_queries if gained.prefix_queries else 0.0,
        client_core_fraction=client_core_fraction,
    )


def _prefill_seconds(gained: Counters) -> float:
    """Sequence-seconds of prefill inside the engine: the smaller of two figures, for each may be too large.

    NB: vLLM's TTFT is its front end's, so what waits there to be sent is in it, and runs no more. What its core says of
    prefill comes when a request finishes, so those that began together, before the window, are in that.
    """
    seen = gained.ttft_sum - gained.queue_sum
    if gained.prefill_sum and gained.finished:
        return min(seen, gained.prefill_sum / gained.finished * gained.ttft_count)
    return seen


def _contradicts_itself(found: Facts) -> bool:
    """Whether as many ran as Little's law says.

    NB: a gauge is of the end of the engine's last step, and does not count who is in his first one: that may be anything
    from none to all of those before their first token. What its own sampling error explains is no contradiction.
    """
    tolerance = LITTLES_LAW_FRACTION * found.mean_running + 2 * found.running_error
    return not -tolerance <= found.mean_running - found.decoding <= found.prefilling + tolerance


def marks(found: Facts, *, errors: int, width: int, may_wait: bool, throttled: bool) -> tuple[Mark, ...]:
    """Reasons not to trust a window. `width`: requests in flight; `may_wait`: more of them than the engines may run."""
    # A short wait for the next step is no starvation; a wait beside a full pool is.
    starved = not may_wait and found.mean_waiting > 0.05 * width and found.kv_peak_fraction > FULL_FRACTION
    wide = found.ci_fraction is not None and found.ci_fraction > WIDE_FRACTION
    checks = (
        (found.preemptions > 0 or starved, Mark.PREEMPTED),
        (errors > 0, Mark.ERRORS),
        (not may_wait and _contradicts_itself(found), Mark.LITTLES_LAW),
        (throttled, Mark.THROTTLED),
        (found.prefix_hit_fraction > PREFIX_HIT_FRACTION, Mark.PREFIX_CACHE),
        (found.client_core_fraction > CLIENT_CORE_FRACTION, Mark.CLIENT),
        (wide, Mark.WIDE),
    )
    return tuple(mark for doubtful, mark in checks if doubtful)


def latency(mean_ms: float, sample_ms: Sequence[float]) -> Latency:
    """Mean from the counters, percentiles from the streamed sample as far as its size supports them."""
    ranked = sorted(sample_ms)

    def percentile(which: Statistic, q: float) -> float | None:
        supported = ranked and len(ranked) >= MIN_SAMPLES[which]
        return ranked[min(len(ranked) - 1, math.ceil(q * len(ranked)) - 1)] if supported else None

    return Latency(
        mean_ms=mean_ms,
        p50_ms=percentile(Statistic.P50, 0.5),
        p90_ms=percentile(Statistic.P90, 0.9),
        p99_ms=percentile(Statistic.P99, 0.99),
        samples=len(ranked),
    )
