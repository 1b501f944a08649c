"""The checks that a candidate passes, in order: the lines at the end are the specification.

Each check is one question with its numbers and its sentence. A chain stops at the first that fails, which is the
reason. Must never look at other candidates: what the best single engine makes is a parameter of the last check.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

from slm_runtime import bca
from slm_runtime.document import Mark, Point
from slm_runtime.fit import REPEAT_NOISE_FRACTION
from slm_runtime.slo import Percentile, figure_ms, slo_misses

from slm_operator.advisor import memory
from slm_operator.advisor.advice import PASSED, ModeChoice, Objective, Source
from slm_operator.advisor.case import Case, key, measurement

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_runtime.document import Latency
    from slm_runtime.slo import Miss

    from slm_operator.advisor.advice import Answer, Predicted, Settings

GIB = 2**30

UNREPEATED_NOISE_FRACTION = 0.041
"""Single runs without a confidence interval differ by up to this from run to run (memory-gap data, computed)."""

AGAINST = "{value:+.1%} against the best single engine"

# NB: Python 3.11 runs a function for every `Mark.PREEMPTED`, so members that each candidate is held against are named once.
PREEMPTED, AUTO, NO_SHARING = Mark.PREEMPTED, ModeChoice.AUTO, ModeChoice.NONE

MARK_SAYS = {
    Mark.PREEMPTED: "the engine preempted sequences",
    Mark.ERRORS: "requests failed",
    Mark.LITTLES_LAW: "throughput, ITL and running sequences contradict each other",
    Mark.THROTTLED: "the GPU lowered its clocks",
}


def sound(case: Case, point: Point) -> tuple[Answer, ...]:
    """What is known of the measurement itself: Preemption, Trusted, Confirmed, up to the first that fails.

    A preempting engine recomputes what it threw away: its figures depend on luck. No mark may cast doubt, no request
    have failed. And what was measured again, or with its final KV bytes, is decided by that.
    """
    if point.preemptions or PREEMPTED in point.marks:
        return (("Preemption", False, _PREEMPTS, point.preemptions, 0),)
    if point.errors or point.doubts:
        said = [MARK_SAYS[mark] for mark in point.doubts] or [f"{point.errors} requests failed"]
        return *_SOUND[:1], ("Trusted", False, f"not to be trusted: {', and '.join(said)}", point.errors, 0)
    if not point.confirmed and key(point) in case.confirmed:
        return *_SOUND[:2], (
            "Confirmed",
            False,
            "measured again with its final KV bytes, and that point decides",
            0.0,
            0.0,
        )
    if case.deciding.get(measurement(point), point) != point:
        return *_SOUND[:2], ("Confirmed", False, "measured again since, and that point decides", 0.0, 0.0)
    return _SOUND


def allowed(case: Case, point: Point) -> tuple[Answer, ...]:
    """What the user allows and the device plugin can make: Sharing, SliceLimit, up to the first that fails."""
    user = _sharing(case.settings, point)
    return (user, _slice_limit(point.replicas, case.settings.plugin_max_replicas)) if user[PASSED] else (user,)


def _sharing(s: Settings, point: Point) -> Answer:
    if s.mode is NO_SHARING:
        return ("Sharing", False, "the user allows no sharing (mode None)", 0.0, 0.0)
    if s.mode is not AUTO and s.mode.value != point.sharing_mode.value:
        return ("Sharing", False, f"the user asked for {s.mode}, this is {point.sharing_mode}", 0.0, 0.0)
    if s.replicas_per_gpu is not None and s.replicas_per_gpu != point.replicas:
        return ("Sharing", False, "the user asked for {limit:.0f} per GPU", point.replicas, s.replicas_per_gpu)
    if s.max_replicas_per_gpu is not None and point.replicas > s.max_replicas_per_gpu:
        return ("Sharing", False, "the user allows at most {limit:.0f} per GPU", point.replicas, s.max_replicas_per_gpu)
    return _SHARING_PASSED


@cache
def _slice_limit(replicas: int, limit: int) -> Answer:
    enough = replicas <= limit
    only = "up to" if enough else "only"
    return (
        "SliceLimit",
        enough,
        f"the device plugin makes {only} {{limit:.0f}} slices of a GPU",
        replicas,
        limit,
    )


def confirmed(case: Case, point: Point) -> Answer:
    """A pack must have run with the KV bytes that it would be given."""
    if point.confirmed:
        return _CONFIRMED_PASSED
    if case.imported:
        return _IMPORTED_PASSED
    return ("Confirmed", False, "measured with other KV bytes than it would be given: confirm it first", 0.0, 0.0)


def fits(case: Case, point: Point) -> Answer:
    """Weights, activations, graphs, context and KV bytes of one engine inside its slice."""
    kv = memory.kv_bytes(case, point)
    if case.ledger is None or kv is None:
        return _LEDGER_ABSENT
    need, share = (case.fixed_bytes + kv) / GIB, memory.slice_bytes(case, point.replicas) / GIB
    if need <= share and kv > 0:
        return ("Memory", True, "needs {value:.2f} GiB of the {limit:.2f} GiB that an engine may use", need, share)
    return ("Memory", False, "needs {value:.2f} GiB, an engine may use {limit:.2f} GiB", max(need, share), share)


def slo(case: Case, point: Point) -> Answer:
    """Both limits, at the percentile asked, as far as the samples support it."""
    if misses := slo_misses(point, case.limits):
        worst = misses[0] if len(misses) == 1 else max(misses, key=_severity)
        return ("SLO", False, worst.template, worst.measured_ms or math.inf, worst.limit_ms or 0)
    limits = case.limits
    if limits.itl_ms is not None:
        return _kept(point.itl_ms, limits.percentile, limits.itl_ms, _ITL_KEPT[limits.percentile])
    if limits.ttft_ms is not None and point.ttft_ms:
        return _kept(point.ttft_ms, limits.percentile, limits.ttft_ms, _TTFT_KEPT)
    return _SLO_ABSENT


def _kept(latency: Latency, percentile: Percentile, limit_ms: float, template: str) -> Answer:
    return ("SLO", True, template, figure_ms(latency, percentile) or 0, limit_ms)


def _severity(miss: Miss) -> float:
    """By how much a limit is missed; what is not known is the worst."""
    return math.inf if miss.measured_ms is None or miss.limit_ms is None else miss.measured_ms / miss.limit_ms


def efficiency(case: Case, point: Point, *, packs_measured: bool) -> Answer:
    """The knee of one engine: T(B) / (B T(1)) above epsilon, as published.

    The limit exists to leave memory for more engines. Where packs were measured under the same SLO the measurements
    tell what that memory is worth, so the limit steps aside: else a pack could beat a single engine that only the
    limit had made slow.
    """
    limit = case.settings.min_efficiency
    if not case.single_sequence:
        return (
            "Efficiency",
            packs_measured,
            "T(1) is not known, so no efficiency can be judged: measure B=1 again",
            0,
            0,
        )
    value = bca.efficiency(point, case.single_sequence)
    if value > limit:
        return ("Efficiency", True, "batching efficiency {value:.3f} is above {limit:g}", value, limit)
    if packs_measured:
        return (
            "Efficiency",
            True,
            "batching efficiency {value:.3f} is under {limit:g}, which does not count where packs were measured",
            value,
            limit,
        )
    return (
        "Efficiency",
        False,
        "batching efficiency {value:.3f} is not above {limit:g}: so large a batch buys too little",
        value,
        limit,
    )


def gain(case: Case, point: Point, throughput: float, best: tuple[Point, Predicted] | None) -> Answer:
    """The no-regret gate: more than the best single engine makes, by more than `min_gain` and more than the noise."""
    if best is None:
        return ("Gain", True, "no single engine satisfies, so none can be better", 0.0, 0.0)
    value = throughput / best[1].throughput_tokens_per_second - 1
    if case.settings.replicas_per_gpu == point.replicas:
        return ("Gain", True, AGAINST + "; the user's own number of engines needs no gain", value, 0)
    if case.settings.objective is Objective.FREE_MEMORY:
        return ("Gain", value >= 0, AGAINST + "; equal throughput is asked", value, 0)
    floor = case.settings.min_gain
    if value < floor:
        return ("Gain", False, AGAINST + ", under the least gain of {limit:.1%}", value, floor)
    noise = noise_fraction(case, point, best)
    if value <= noise:
        return ("Gain", False, AGAINST + ", which is within the noise of {limit:.1%}", value, noise)
    return ("Gain", True, AGAINST + ", at least {limit:.1%}", value, max(floor, noise))


def gate(case: Case, pack: Point, best: tuple[Point, Predicted]) -> float:
    """The gain that a pack must reach."""
    return max(case.settings.min_gain, noise_fraction(case, pack, best))


def noise_fraction(case: Case, pack: Point, best: tuple[Point, Predicted]) -> float:
    """What a difference between the two may be by chance: both confidence intervals, and the fit's where it predicts."""
    single, predicted = best
    known = [p.throughput_ci_fraction for p in (pack, single) if p.throughput_ci_fraction is not None]
    if predicted.source is Source.PREDICTED and case.fit:
        known.append(max(case.fit.noise_fraction, REPEAT_NOISE_FRACTION))
    both = pack.throughput_ci_fraction is not None and single.throughput_ci_fraction is not None
    return max(math.hypot(*known), 0.0 if both else UNREPEATED_NOISE_FRACTION)


_PREEMPTS = "{value:.0f} preemptions: its KV pool is too small for this batch"
_SOUND = (
    ("Preemption", True, "no preemption", 0.0, 0.0),
    ("Trusted", True, "no doubt, no failed request", 0.0, 0.0),
    ("Confirmed", True, "no later point replaces it", 0.0, 0.0),
)
_CONFIRMED_PASSED = ("Confirmed", True, "measured with the KV bytes that it would be given", 0.0, 0.0)
_IMPORTED_PASSED = ("Confirmed", True, "imported: counts as measured, in the KV pool of that run", 0.0, 0.0)
_SHARING_PASSED = ("Sharing", True, "the user allows it", 0.0, 0.0)
_LEDGER_ABSENT = ("Memory", True, "not judged: the document has no memory ledger", 0.0, 0.0)
_ITL_KEPT = {p: f"{p.lower()} ITL {{value:.1f}} ms is within {{limit:.1f}} ms" for p in Percentile}
_TTFT_KEPT = "TTFT is within {limit:.1f} ms"
_SLO_ABSENT = ("SLO", True, "no latency limit was asked", 0.0, 0.0)

# What every candidate must be, before it is compared with any other: `sound`, a pack `allowed` before that, and then
SINGLE: tuple[Callable[[Case, Point], Answer], ...] = (fits, slo)
PACK: tuple[Callable[[Case, Point], Answer], ...] = (confirmed, fits, slo)
# At last one engine must be efficient (`efficiency`) and a pack must be worth it (`gain`).
