"""The checks that a candidate passes, in order: `of_single` and `of_pack` at the end are the specification.

Those that the search makes too are `slm_core.point_checks`; these know the user's settings, memory and slices. After its
chain a candidate must hold at the requested load (`load.at_load`). Finally, one engine must be efficient, and a pack must gain
enough. Must never look at other candidates: the best single engine's figures are a parameter of the last check.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from slm_core import batching, noise, point_checks
from slm_core.candidates import Check, CheckName, Measurement, Source
from slm_core.configuration import EngineConfiguration
from slm_core.point_checks import latency, preemption, trusted
from slm_core.sharing import allows_packs, sharing_of
from slm_core.units import GIB

from slm_operator.advisor import memory
from slm_operator.advisor.advice import Objective

if TYPE_CHECKING:
    from slm_core.candidates import Candidate, Question
    from slm_core.measurements import Point

    from slm_operator.advisor.context import Context


def sharing(context: Context, point: Point) -> Check:
    """What the user allows."""
    s = context.settings
    name = CheckName.SHARING
    if not allows_packs(s.mode):
        return Check(name, False, f"the user allows no sharing (mode {s.mode})")
    if s.mode is not None and s.mode is not point.sharing_mode:
        return Check(name, False, f"the user requested {s.mode}, this is {point.sharing_mode}")
    if s.against_mps is not None and sharing_of(point.sharing_mode).daemon is not None:
        return Check(name, False, f"MPS is ruled out by {s.against_mps}")
    own, most = s.engines_per_gpu, s.max_engines_per_gpu
    if own is not None and own != point.replicas:
        return Check(name, False, f"the user requested {own} per GPU", point.replicas, own)
    if most is not None and point.replicas > most:
        return Check(name, False, f"the user allows at most {most} per GPU", point.replicas, most)
    return Check(name, True, "the user allows it")


def slice_limit(context: Context, point: Point) -> Check:
    """What the device plugin can make."""
    limit = context.settings.plugin_max_replicas
    enough = point.replicas <= limit
    because = f"the device plugin makes {'up to' if enough else 'only'} {limit} slices of a GPU"
    return Check(CheckName.SLICE_LIMIT, enough, because, point.replicas, limit)


def deciding(context: Context, point: Point) -> Check:
    """What was measured again, or with its final KV bytes, is decided by that."""
    if not point.confirmed and EngineConfiguration.of(point) in context.confirmed:
        because = "measured again with its final KV bytes, and that point decides"
        return Check(CheckName.CONFIRMED, False, because)
    if context.deciding.get(Measurement.of(point), point) != point:
        return Check(CheckName.CONFIRMED, False, "measured again since, and that point decides")
    return Check(CheckName.CONFIRMED, True, "no later point replaces it")


def confirmed(context: Context, point: Point) -> Check:
    """A pack must have run with the KV bytes that it would be given; what was imported cannot tell."""
    check = point_checks.confirmed(point)
    if check.passed or not context.imported:
        return check
    return Check(CheckName.CONFIRMED, True, "imported: counts as measured, in the KV pool of that run")


def fits(context: Context, point: Point) -> Check:
    """Weights, activations, graphs, context and KV bytes of one engine inside its slice."""
    kv = memory.kv_bytes(context, point)
    if context.ledger is None or kv is None:
        return Check(CheckName.MEMORY, True, "not judged: the document has no memory ledger")
    need, share = (context.fixed_bytes + kv) / GIB, memory.slice_bytes(context, point.replicas) / GIB
    if need <= share and kv > 0:
        because = f"needs {need:.2f} GiB of the {share:.2f} GiB that an engine may use"
        return Check(CheckName.MEMORY, True, because, need, share)
    need = max(need, share)  # NB: where nothing is left for KV, less than the share was computed
    return Check(CheckName.MEMORY, False, f"needs {need:.2f} GiB, an engine may use {share:.2f} GiB", need, share)


def efficiency(context: Context, point: Point, *, packs_measured: bool) -> Check:
    """The knee of one engine: T(B) / (B T(1)) above epsilon, as published.

    The limit exists to leave memory for more engines. Where packs were measured under the same SLO the measurements
    show what that memory is worth, so the limit does not apply: else a pack could beat a single engine that only the
    limit had made slow.
    """
    limit = context.settings.min_efficiency
    check = batching.efficient(point, single_sequence=context.single_sequence, min_efficiency=limit)
    if check.passed or not packs_measured:
        return check
    if not context.single_sequence:
        return replace(check, passed=True)
    because = (
        f"batching efficiency {check.value:.3f} is under {limit:g}, which does not count where packs were measured"
    )
    return replace(check, passed=True, because=because)


def gain(context: Context, pack: Candidate, best: Candidate | None) -> Check:
    """The no-regret gate: more than the best single engine makes, by more than `min_gain` and more than the noise."""
    name, settings = CheckName.GAIN, context.settings
    if best is None:
        return Check(name, True, "no single engine satisfies, so none can be better")
    value = pack.throughput / best.throughput - 1
    said = f"{value:+.1%} against the best single engine"
    if settings.engines_per_gpu == pack.point.replicas:
        return Check(name, True, f"{said}; the user's own number of engines needs no gain", value, 0)
    if settings.objective is Objective.FREE_MEMORY:
        return Check(name, value >= 0, f"{said}; equal throughput is asked", value, 0)
    floor = settings.min_gain
    if value < floor:
        return Check(name, False, f"{said}, under the least gain of {floor:.1%}", value, floor)
    chance = noise_fraction(context, pack.point, best)
    if value <= chance:
        return Check(name, False, f"{said}, which is within the noise of {chance:.1%}", value, chance)
    needed = max(floor, chance)
    return Check(name, True, f"{said}, at least {needed:.1%}", value, needed)


def gate(context: Context, pack: Point, best: Candidate) -> float:
    """The gain that a pack must reach."""
    return max(context.settings.min_gain, noise_fraction(context, pack, best))


def noise_fraction(context: Context, pack: Point, best: Candidate) -> float:
    """What a difference between the two may be by chance: both confidence intervals, and the fit's where it predicts."""
    fit = context.fit if best.figures.source is Source.PREDICTED else None
    return noise.of_comparison(
        pack.throughput_ci_fraction,
        best.point.throughput_ci_fraction,
        fit_fraction=fit.noise_fraction if fit else None,
    )


def of_single(context: Context) -> tuple[Question, ...]:
    """What one engine must be before it is compared with any other."""
    return (
        preemption,
        trusted,
        partial(deciding, context),
        partial(fits, context),
        partial(latency, limits=context.limits),
    )


def of_pack(context: Context) -> tuple[Question, ...]:
    """The same of a pack, which must be allowed and possible too, and have run as it would."""
    return (
        partial(sharing, context),
        partial(slice_limit, context),
        preemption,
        trusted,
        partial(deciding, context),
        partial(confirmed, context),
        partial(fits, context),
        partial(latency, limits=context.limits),
    )
