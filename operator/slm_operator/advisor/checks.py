"""The checks that a candidate passes, in order. The two lists at the end are the specification.

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
from slm_operator.advisor.advice import Check, ModeChoice, Objective, Source
from slm_operator.advisor.case import Case, key

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_runtime.slo import Miss

    from slm_operator.advisor.advice import Predicted

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


def preemption(_: Case, point: Point) -> Check:
    """A preempting engine recomputes what it threw away: its figures depend on luck."""
    if not point.preemptions and PREEMPTED not in point.marks:
        return _PREEMPTION_PASSED
    return Check(
        "Preemption", False, "{value:.0f} preemptions: its KV pool is too small for this batch", point.preemptions
    )


def trusted(_: Case, point: Point) -> Check:
    """No mark that casts doubt, no failed request."""
    if not point.doubts and not point.errors:
        return _TRUSTED_PASSED
    said = [MARK_SAYS[mark] for mark in point.doubts] or [f"{point.errors} requests failed"]
    return Check("Trusted", False, f"not to be trusted: {', and '.join(said)}", point.errors)


def repeated(case: Case, point: Point) -> Check:
    """What was measured again with its final KV bytes is decided by that."""
    if point.confirmed or key(point) not in case.confirmed:
        return _REPEATED_PASSED
    return Check("Confirmed", False, "measured again with its final KV bytes, and that point decides")


def confirmed(case: Case, point: Point) -> Check:
    """A pack must have run with the KV bytes that it would be given."""
    if point.confirmed:
        return _CONFIRMED_PASSED
    if case.imported:
        return _IMPORTED_PASSED
    return Check("Confirmed", False, "measured with other KV bytes than it would be given: confirm it first")


def sharing(case: Case, point: Point) -> Check:
    """What the user allows."""
    s = case.settings
    if s.mode is NO_SHARING:
        return Check("Sharing", False, "the user allows no sharing (mode None)")
    if s.mode is not AUTO and s.mode.value != point.sharing_mode.value:
        return Check("Sharing", False, f"the user asked for {s.mode}, this is {point.sharing_mode}")
    if s.replicas_per_gpu is not None and s.replicas_per_gpu != point.replicas:
        return Check("Sharing", False, "the user asked for {limit:.0f} per GPU", point.replicas, s.replicas_per_gpu)
    if s.max_replicas_per_gpu is not None and point.replicas > s.max_replicas_per_gpu:
        return Check(
            "Sharing", False, "the user allows at most {limit:.0f} per GPU", point.replicas, s.max_replicas_per_gpu
        )
    return _SHARING_PASSED


def slice_limit(case: Case, point: Point) -> Check:
    """What the device plugin can make."""
    return _slice_limit(point.replicas, case.settings.plugin_max_replicas)


@cache
def _slice_limit(replicas: int, limit: int) -> Check:
    only = "up to" if replicas <= limit else "only"
    return Check(
        "SliceLimit",
        replicas <= limit,
        f"the device plugin makes {only} {{limit:.0f}} slices of a GPU",
        replicas,
        limit,
    )


def fits(case: Case, point: Point) -> Check:
    """Weights, activations, graphs, context and KV bytes of one engine inside its slice."""
    kv = memory.kv_bytes(case, point)
    if case.ledger is None or kv is None:
        return _LEDGER_ABSENT
    need, share = (case.fixed_bytes + kv) / GIB, memory.slice_bytes(case, point.replicas) / GIB
    if need <= share and kv > 0:
        return Check("Memory", True, "needs {value:.2f} GiB of the {limit:.2f} GiB that an engine may use", need, share)
    return Check("Memory", False, "needs {value:.2f} GiB, an engine may use {limit:.2f} GiB", max(need, share), share)


def slo(case: Case, point: Point) -> Check:
    """Both limits, at the percentile asked, as far as the samples support it."""
    if misses := slo_misses(point, case.limits):
        worst = misses[0] if len(misses) == 1 else max(misses, key=_severity)
        return Check("SLO", False, worst.template, worst.measured_ms or math.inf, worst.limit_ms or 0)
    limits = case.limits
    if limits.itl_ms is None:
        return _SLO_ABSENT if limits.ttft_ms is None else Check("SLO", True, _TTFT_KEPT, 0, limits.ttft_ms)
    figure = figure_ms(point.itl_ms, limits.percentile) or 0
    return Check("SLO", True, _ITL_KEPT[limits.percentile], figure, limits.itl_ms)


def _severity(miss: Miss) -> float:
    """By how much a limit is missed; what is not known is the worst."""
    return math.inf if miss.measured_ms is None or miss.limit_ms is None else miss.measured_ms / miss.limit_ms


def efficiency(case: Case, point: Point, *, packs_measured: bool) -> Check:
    """The knee of one engine: T(B) / (B T(1)) above epsilon, as published.

    The limit exists to leave memory for more engines. Where packs were measured under the same SLO the measurements
    tell what that memory is worth, so the limit steps aside: else a pack could beat a single engine that only the
    limit had made slow.
    """
    limit = case.settings.min_efficiency
    if not case.single_sequence:
        return Check(
            "Efficiency", packs_measured, "T(1) is not known, so no efficiency can be judged: measure B=1 again"
        )
    value = bca.efficiency(point, case.single_sequence)
    if value > limit:
        return Check("Efficiency", True, "batching efficiency {value:.3f} is above {limit:g}", value, limit)
    if packs_measured:
        return Check(
            "Efficiency",
            True,
            "batching efficiency {value:.3f} is under {limit:g}, which does not count where packs were measured",
            value,
            limit,
        )
    return Check(
        "Efficiency",
        False,
        "batching efficiency {value:.3f} is not above {limit:g}: so large a batch buys too little",
        value,
        limit,
    )


def gain(case: Case, point: Point, throughput: float, best: tuple[Point, Predicted] | None) -> Check:
    """The no-regret gate: more than the best single engine makes, by more than `min_gain` and more than the noise."""
    if best is None:
        return Check("Gain", True, "no single engine satisfies, so none can be better")
    value = throughput / best[1].throughput_tokens_per_second - 1
    if case.settings.replicas_per_gpu == point.replicas:
        return Check("Gain", True, AGAINST + "; the user's own number of engines needs no gain", value)
    if case.settings.objective is Objective.FREE_MEMORY:
        return Check("Gain", value >= 0, AGAINST + "; equal throughput is asked", value)
    floor = case.settings.min_gain
    if value < floor:
        return Check("Gain", False, AGAINST + ", under the least gain of {limit:.1%}", value, floor)
    noise = noise_fraction(case, point, best)
    if value <= noise:
        return Check("Gain", False, AGAINST + ", which is within the noise of {limit:.1%}", value, noise)
    return Check("Gain", True, AGAINST + ", at least {limit:.1%}", value, max(floor, noise))


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


_PREEMPTION_PASSED = Check("Preemption", True, "no preemption")
_TRUSTED_PASSED = Check("Trusted", True, "no doubt, no failed request")
_REPEATED_PASSED = Check("Confirmed", True, "no later point replaces it")
_CONFIRMED_PASSED = Check("Confirmed", True, "measured with the KV bytes that it would be given")
_IMPORTED_PASSED = Check("Confirmed", True, "imported: counts as measured, in the KV pool of that run")
_SHARING_PASSED = Check("Sharing", True, "the user allows it")
_LEDGER_ABSENT = Check("Memory", True, "not judged: the document has no memory ledger")
_ITL_KEPT = {p: f"{p.lower()} ITL {{value:.1f}} ms is within {{limit:.1f}} ms" for p in Percentile}
_TTFT_KEPT = "TTFT is within {limit:.1f} ms"
_SLO_ABSENT = Check("SLO", True, "no latency limit was asked")

# What every candidate must be, before it is compared with any other.
SINGLE: tuple[Callable[[Case, Point], Check], ...] = (preemption, trusted, repeated, fits, slo)
PACK: tuple[Callable[[Case, Point], Check], ...] = (
    sharing,
    slice_limit,
    preemption,
    trusted,
    repeated,
    confirmed,
    fits,
    slo,
)
# Then one engine must be efficient (`efficiency`) and a pack must be worth it (`gain`).
