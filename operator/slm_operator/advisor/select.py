"""Selects the configuration to serve from the candidates that passed, the closest one when none passed, and the Pareto frontier.

Assumes judged candidates. Must never read a clock, a cluster or a preference that is not in the settings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slm_core import decision
from slm_core.candidates import CheckName
from slm_core.choice import Choice, choose_among
from slm_core.configuration import EngineConfiguration
from slm_core.load import is_partial
from slm_core.sharing import PACKED, allows_packs
from slm_core.sharing.exclusive import EXCLUSIVE
from slm_core.units import GIB

from slm_operator.advisor import memory
from slm_operator.advisor.advice import Closest, Objective
from slm_operator.advisor.explain import gib, smaller_batch
from slm_operator.advisor.validate import AdviceError, Problem, Unanswerable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slm_core.candidates import Candidate, Check
    from slm_core.choice import Alternative
    from slm_core.decision import Evaluation
    from slm_core.measurements import Point, SharingMode

    from slm_operator.advisor.context import Context

MEASURE_AGAIN = "measure again, with a larger KV pool or a smaller batch"
MEASURE_LONGER = "measure for longer, or ask for the mean instead of a percentile"
WITHOUT_WATTS = Problem(
    "advisor.objective",
    "EnergyPerToken needs measured watts, and of what meets the SLO at this load none has any",
    "measure on a GPU whose power NVML tells, at the load that is decided for, or choose another objective",
    Unanswerable.WITHOUT_WATTS,
)
LESS_MEMORY = "use a GPU with more memory, a quantised model, a smaller maxModelLen, or fewer engines per GPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is served, and the point that it rests on."""

    judged: Candidate
    """The point that was chosen, or that lends batch and KV bytes to a pack nobody measured."""
    configuration: EngineConfiguration
    """What is served."""
    borrowed: bool = False
    """The pack itself was not measured: its figures are not known."""
    closest: Closest | None = None
    """Present when nothing satisfies."""
    alternatives: tuple[Alternative, ...] = ()
    """What might be better than it, by chance."""
    notes: tuple[str, ...] = ()
    """What should be known besides."""


def choose(context: Context, found: Evaluation) -> Selection:
    """The best of what passed; where nothing did, what comes nearest."""
    asked = context.settings.engines_per_gpu or 1
    if chosen := _least_energy(context, found, asked):
        return _as_measured(context, chosen.chosen)
    if chosen := _least_memory(context, found, asked) or decision.choose(found, single=asked == 1):
        return replace(_as_measured(context, chosen.chosen), alternatives=chosen.alternatives)
    if asked == 1:
        return _infeasible(context, nearest(found.singles))
    missed = nearest(j for j in found.packs if j.point.replicas == asked and j.last.name is CheckName.SLO)
    return _infeasible(context, missed) if missed else _borrow(context, found.singles, asked)


def _least_energy(context: Context, found: Evaluation, asked: int) -> Choice | None:
    """Where energy is to be saved: the most tokens per joule of all that passed, packs by the gate and the SLO as ever.

    None: something else is wanted, or nothing passed. Raises AdviceError where something passed and none of it has watts.
    """
    if context.settings.objective is not Objective.ENERGY:
        return None
    passed = [j for j in (*(found.singles if asked == 1 else ()), *found.packs) if j.passed]
    measured = [j for j in passed if j.figures.joules_per_token]
    if passed and not measured:
        raise AdviceError((WITHOUT_WATTS,))
    return choose_among(measured, lambda j: 1 / j.figures.joules_per_token if j.figures.joules_per_token else 0.0)


def _least_memory(context: Context, found: Evaluation, asked: int) -> Choice | None:
    """Where memory is to be freed: the least of it that makes no less than the fastest single engine, within the noise."""
    if context.settings.objective is not Objective.FREE_MEMORY:
        return None
    least = found.best.fastest.throughput if found.best else 0.0
    enough = [j for j in found.packs if j.passed and j.throughput >= least]
    if asked == 1 and found.best:
        enough += found.best.alike
    if not enough:
        return None
    chosen = min(enough, key=lambda j: (_memory_rank(context, j), -j.throughput))
    singles = found.best.alike if found.best and chosen in found.best.alike else (chosen,)
    return Choice(chosen=chosen, fastest=singles[0], alike=singles)


def _memory_rank(context: Context, judged: Candidate) -> int:
    """Bytes where the ledger tells them, else sequences, which need bytes."""
    used = memory.used_bytes(context, judged.point.replicas, memory.kv_bytes(context, judged.point))
    return judged.point.full_load if used is None else used


def _as_measured(context: Context, judged: Candidate, closest: Closest | None = None) -> Selection:
    return Selection(judged=judged, configuration=_served(context, judged.point), closest=closest)


def _served(context: Context, point: Point) -> EngineConfiguration:
    """What was measured, with KV bytes and a token budget to start engines with."""
    return replace(
        EngineConfiguration.of(point),
        kv_cache_bytes=memory.kv_bytes(context, point),
        max_num_batched_tokens=point.max_num_batched_tokens
        or max(context.engine.smallest_token_budget, point.batch_size),
    )


def _infeasible(context: Context, judged: Candidate | None) -> Selection:
    assert judged is not None, "check_document requires a full single-engine point"
    return _as_measured(context, judged, closest_of(judged))


def _borrow(context: Context, singles: Sequence[Candidate], replicas: int) -> Selection:
    """Batch and KV bytes of the best single engine whose memory fits a slice of the user's size."""
    best = choose_among(singles)
    missed = None if best else nearest(singles)
    wished = best.chosen if best else missed
    assert wished is not None, "check_document requires a full single-engine point"
    lenders = [j for j in singles if j.passed] or [wished]
    room = memory.kv_room(context, replicas)
    fitting = [j for j in lenders if room is None or (memory.kv_bytes(context, j.point) or 0) <= room]
    if not fitting:
        return _too_many(context, min(lenders, key=lambda j: j.point.full_load), replicas)
    smaller = choose_among(fitting)
    lender = wished if wished in fitting or smaller is None else smaller.chosen
    notes: tuple[str, ...] = (
        () if lender is wished else (smaller_batch(wished.point, memory.kv_bytes(context, wished.point), room),)
    )
    return Selection(
        judged=lender,
        configuration=replace(
            _served(context, lender.point), engines_per_gpu=replicas, sharing_mode=_mode(context, replicas)
        ),
        borrowed=True,
        closest=closest_of(missed) if missed else None,
        notes=notes,
    )


def _too_many(context: Context, smallest: Candidate, replicas: int) -> Selection:
    """Not even the smallest batch fits the user's slice. Closest: as many engines as fit with it."""
    kv = memory.kv_bytes(context, smallest.point) or 0
    most = max(memory.most_that_fit(context, kv), 1)
    need, share = context.fixed_bytes + kv, memory.slice_bytes(context, replicas)
    closest = Closest(
        check=CheckName.MEMORY,
        value=need / GIB,
        limit=share / GIB,
        because=f"{replicas} engines per GPU leave each {gib(share)}, and one needs {gib(need)} even at B={smallest.point.batch_size}",
        remedy=f"request at most {most} per GPU, or use a GPU with more memory, a quantised model or a smaller maxModelLen",
    )
    served = replace(
        _served(context, smallest.point),
        kv_cache_bytes=kv,
        engines_per_gpu=most,
        sharing_mode=_mode(context, most),
    )
    return Selection(judged=smallest, configuration=served, borrowed=most > 1, closest=closest)


def _mode(context: Context, replicas: int) -> SharingMode:
    """The mode of a pack that nobody measured: the user's, else the one to try first."""
    if replicas == 1:
        return EXCLUSIVE.mode
    s = context.settings
    if s.mode is not None and allows_packs(s.mode):
        return s.mode
    return next(one.mode for one in PACKED if one.daemon is None or s.against_mps is None)


def nearest(judged: Iterable[Candidate]) -> Candidate | None:
    """Of rejected full-batch candidates the one that came furthest, misses least, makes most."""
    return min((j for j in judged if not is_partial(j.point)), key=_distance, default=None)


def closest_of(judged: Candidate) -> Closest:
    """The miss of that candidate and its remedy."""
    failed = judged.last
    return Closest(
        check=failed.name,
        value=failed.value if math.isfinite(failed.value) else None,
        limit=failed.limit,
        because=f"at B={judged.point.batch_size} {failed.because}",
        remedy=_remedy(failed),
    )


def _remedy(failed: Check) -> str:
    if not math.isfinite(failed.value):
        return MEASURE_LONGER
    if failed.name is CheckName.SLO:
        enough = _rounded_up(failed.value)
        return f"raise the limit to at least {enough:.1f} ms, or use a faster GPU, or a smaller or quantised model"
    return LESS_MEMORY if failed.name is CheckName.MEMORY else MEASURE_AGAIN


def _rounded_up(ms: float) -> float:
    """To tenths: a limit of the last digit that people read must be enough."""
    return math.ceil(round(ms * 10, 6)) / 10


def _distance(judged: Candidate) -> tuple[int, float, float]:
    failed = judged.last
    ratio = failed.value / failed.limit if failed.limit else math.inf
    return -list(CheckName).index(failed.name), ratio, -judged.point.throughput_tokens_per_second


def pareto_frontier(points: Iterable[Point]) -> tuple[Point, ...]:
    """Trusted full-batch points, single engines and packs, that no other beats in throughput and mean ITL, by rising ITL.

    As in arXiv 2404.03353: the frontier of throughput and latency.
    """
    frontier: list[Point] = []
    fastest = 0.0
    for point in sorted(points, key=lambda p: p.itl_ms.mean_ms):
        if point.throughput_tokens_per_second > fastest and point.is_trusted and not is_partial(point):
            fastest = point.throughput_tokens_per_second
            if frontier and frontier[-1].itl_ms.mean_ms == point.itl_ms.mean_ms:
                frontier.pop()  # as soon, and slower
            frontier.append(point)
    return tuple(frontier)
