"""The checks that a candidate passes, in order: `SINGLE` and `PACK` at the end are the specification.

Each check is one question with its numbers and its sentence. A chain stops at the first that fails, which is the
reason. Must never look at other candidates: what the best single engine makes is a parameter of the last check.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from slm_core import batching, noise
from slm_core.measurements import Mark
from slm_core.slo import ITL, METRICS, figure_ms, slo_misses
from slm_core.units import GIB

from slm_operator.advisor import memory
from slm_operator.advisor.advice import Check, CheckName, ModeChoice, Objective, Source
from slm_operator.advisor.case import Configuration, Measurement

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_core.measurements import Point
    from slm_core.slo import Miss

    from slm_operator.advisor.advice import Candidate
    from slm_operator.advisor.case import Case

    Question = Callable[[Case, Point], Check]


MARK_SAYS = {
    Mark.PREEMPTED: "the engine preempted sequences",
    Mark.ERRORS: "requests failed",
    Mark.LITTLES_LAW: "throughput, ITL and running sequences contradict each other",
    Mark.THROTTLED: "the GPU lowered its clocks",
}


def sharing(case: Case, point: Point) -> Check:
    """What the user allows."""
    s = case.settings
    name = CheckName.SHARING
    if s.mode is ModeChoice.NONE:
        return Check(name, False, "the user allows no sharing (mode None)")
    if s.mode is not ModeChoice.AUTO and s.mode.value != point.sharing_mode.value:
        return Check(name, False, f"the user asked for {s.mode}, this is {point.sharing_mode}")
    own, most = s.replicas_per_gpu, s.max_replicas_per_gpu
    if own is not None and own != point.replicas:
        return Check(name, False, f"the user asked for {own} per GPU", point.replicas, own)
    if most is not None and point.replicas > most:
        return Check(name, False, f"the user allows at most {most} per GPU", point.replicas, most)
    return Check(name, True, "the user allows it")


def slice_limit(case: Case, point: Point) -> Check:
    """What the device plugin can make."""
    limit = case.settings.plugin_max_replicas
    enough = point.replicas <= limit
    because = f"the device plugin makes {'up to' if enough else 'only'} {limit} slices of a GPU"
    return Check(CheckName.SLICE_LIMIT, enough, because, point.replicas, limit)


def preemption(_: Case, point: Point) -> Check:
    """A preempting engine recomputes what it threw away: its figures depend on luck."""
    if point.preemptions or Mark.PREEMPTED in point.marks:
        because = f"{point.preemptions} preemptions: its KV pool is too small for this batch"
        return Check(CheckName.PREEMPTION, False, because, point.preemptions, 0)
    return Check(CheckName.PREEMPTION, True, "no preemption")


def trusted(_: Case, point: Point) -> Check:
    """No mark may cast doubt, no request have failed."""
    if point.errors or point.doubts:
        said = [MARK_SAYS[mark] for mark in point.doubts] or [f"{point.errors} requests failed"]
        return Check(CheckName.TRUSTED, False, f"not to be trusted: {', and '.join(said)}", point.errors, 0)
    return Check(CheckName.TRUSTED, True, "no doubt, no failed request")


def deciding(case: Case, point: Point) -> Check:
    """What was measured again, or with its final KV bytes, is decided by that."""
    if not point.confirmed and Configuration.of(point) in case.confirmed:
        because = "measured again with its final KV bytes, and that point decides"
        return Check(CheckName.CONFIRMED, False, because)
    if case.deciding.get(Measurement.of(point), point) != point:
        return Check(CheckName.CONFIRMED, False, "measured again since, and that point decides")
    return Check(CheckName.CONFIRMED, True, "no later point replaces it")


def confirmed(case: Case, point: Point) -> Check:
    """A pack must have run with the KV bytes that it would be given."""
    if point.confirmed:
        return Check(CheckName.CONFIRMED, True, "measured with the KV bytes that it would be given")
    if case.imported:
        return Check(CheckName.CONFIRMED, True, "imported: counts as measured, in the KV pool of that run")
    because = "measured with other KV bytes than it would be given: confirm it first"
    return Check(CheckName.CONFIRMED, False, because)


def fits(case: Case, point: Point) -> Check:
    """Weights, activations, graphs, context and KV bytes of one engine inside its slice."""
    kv = memory.kv_bytes(case, point)
    if case.ledger is None or kv is None:
        return Check(CheckName.MEMORY, True, "not judged: the document has no memory ledger")
    need, share = (case.fixed_bytes + kv) / GIB, memory.slice_bytes(case, point.replicas) / GIB
    if need <= share and kv > 0:
        because = f"needs {need:.2f} GiB of the {share:.2f} GiB that an engine may use"
        return Check(CheckName.MEMORY, True, because, need, share)
    need = max(need, share)  # NB: where nothing is left for KV, less than the share was computed
    return Check(CheckName.MEMORY, False, f"needs {need:.2f} GiB, an engine may use {share:.2f} GiB", need, share)


def slo(case: Case, point: Point) -> Check:
    """Every limit, at the percentile asked, as far as the samples support it."""
    limits = case.limits
    if misses := slo_misses(point, limits):
        worst = max(misses, key=_severity)
        return Check(CheckName.SLO, False, worst.because, worst.measured_ms or math.inf, worst.limit_ms or 0)
    for metric in METRICS:
        limit_ms, latency = metric.limit_ms(limits), metric.of(point)
        if limit_ms is not None and latency is not None:
            figure = figure_ms(latency, limits.percentile) or 0
            shorter = f"{metric.name} is within {limit_ms:.1f} ms"
            because = metric.kept(figure, limit_ms, limits.percentile) if metric is ITL else shorter
            return Check(CheckName.SLO, True, because, figure, limit_ms)
    return Check(CheckName.SLO, True, "no latency limit was asked")


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
        because = "T(1) is not known, so no efficiency can be judged: measure B=1 again"
        return Check(CheckName.EFFICIENCY, packs_measured, because)
    value = batching.efficiency(point, case.single_sequence)
    said = f"batching efficiency {value:.3f}"
    if value > limit:
        because = f"{said} is above {limit:g}"
    elif packs_measured:
        because = f"{said} is under {limit:g}, which does not count where packs were measured"
    else:
        because = f"{said} is not above {limit:g}: so large a batch buys too little"
    return Check(CheckName.EFFICIENCY, value > limit or packs_measured, because, value, limit)


def gain(case: Case, pack: Candidate, best: Candidate | None) -> Check:
    """The no-regret gate: more than the best single engine makes, by more than `min_gain` and more than the noise."""
    name, settings = CheckName.GAIN, case.settings
    if best is None:
        return Check(name, True, "no single engine satisfies, so none can be better")
    value = pack.throughput / best.throughput - 1
    said = f"{value:+.1%} against the best single engine"
    if settings.replicas_per_gpu == pack.point.replicas:
        return Check(name, True, f"{said}; the user's own number of engines needs no gain", value, 0)
    if settings.objective is Objective.FREE_MEMORY:
        return Check(name, value >= 0, f"{said}; equal throughput is asked", value, 0)
    floor = settings.min_gain
    if value < floor:
        return Check(name, False, f"{said}, under the least gain of {floor:.1%}", value, floor)
    chance = noise_fraction(case, pack.point, best)
    if value <= chance:
        return Check(name, False, f"{said}, which is within the noise of {chance:.1%}", value, chance)
    needed = max(floor, chance)
    return Check(name, True, f"{said}, at least {needed:.1%}", value, needed)


def gate(case: Case, pack: Point, best: Candidate) -> float:
    """The gain that a pack must reach."""
    return max(case.settings.min_gain, noise_fraction(case, pack, best))


def noise_fraction(case: Case, pack: Point, best: Candidate) -> float:
    """What a difference between the two may be by chance: both confidence intervals, and the fit's where it predicts."""
    fit = case.fit if best.figures.source is Source.PREDICTED else None
    return noise.of_comparison(
        pack.throughput_ci_fraction,
        best.point.throughput_ci_fraction,
        fit_fraction=fit.noise_fraction if fit else None,
    )


# What every candidate must be, before it is compared with any other.
SINGLE: tuple[Question, ...] = (preemption, trusted, deciding, fits, slo)
PACK: tuple[Question, ...] = (sharing, slice_limit, preemption, trusted, deciding, confirmed, fits, slo)
# Then it must speak for the load (`load.at_load`). At last one engine must be efficient and a pack be worth it (`gain`).
