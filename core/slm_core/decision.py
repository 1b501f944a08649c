"""What would be served, by all that has been measured: the one decision that the search and the advisor share.

    points -> basis -> evaluate (single engines, packs, the gate between them) -> choose

The search asks it which configuration to confirm and what it ends with; the advisor asks it about the finished document.
Both must come to the same answer, so neither has a rule of its own but for what only it knows (`Further`: the user's
wishes, the memory of the GPU that will serve). Must never choose what a check rejected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from slm_core import batching, point_checks
from slm_core.candidates import Check, CheckName, Measurement, deciding, judge
from slm_core.choice import chance_fraction, choose_among
from slm_core.configuration import EngineConfiguration
from slm_core.latency_model import fit_points
from slm_core.load import at_load, distance, is_at, is_partial
from slm_core.point_checks import SOUND, is_sound, latency

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slm_core.candidates import Candidate, Question
    from slm_core.choice import Choice
    from slm_core.latency_model import Fit
    from slm_core.measurements import Point
    from slm_core.slo import Limits
    from slm_core.tuning import Tuning


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of the points."""

    limits: Limits
    """The SLO in milliseconds."""
    tuning: Tuning
    in_flight: int | None = None
    """The load to decide for. None: full batches."""
    engines: int | None = None
    """The user's own number of engines per GPU, which needs no gain."""
    equal_is_enough: bool = False
    """A pack need only make as much as one engine, as where memory is to be freed."""
    imported: bool = False
    """The points stand in no order, and know no confirmation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """The points, and what follows from them once per decision."""

    wanted: Wanted
    points: tuple[Point, ...]
    """Single engines first, by rising batch."""
    fit: Fit | None
    """ITL and time per token of one engine over B. Absent with fewer than two batch sizes, and for full batches."""
    single_sequence: float | None
    """T(1) in input and output tokens per second. Absent: not known."""
    deciding: Mapping[Measurement, Point]
    """Of repetitions the one that counts. Empty where the points were imported."""
    confirmed: frozenset[Measurement]
    """What was measured with its final KV bytes."""
    nearest: Mapping[EngineConfiguration, tuple[float, int]]
    """Of configurations with a sound point at the decided load, how far the nearest such point is from it."""
    full: Mapping[EngineConfiguration, Point]
    """Full-batch points that count, by configuration."""

    @property
    def in_flight(self) -> int | None:
        """The load to decide for. None: full batches."""
        return self.wanted.in_flight

    @classmethod
    def of(cls, points: Iterable[Point], wanted: Wanted) -> Basis:
        """From points in the order in which they were measured."""
        measured = tuple(points)
        ordered = tuple(sorted(measured, key=_order))
        counting = {} if wanted.imported else deciding(measured)
        counts = [p for p in ordered if counting.get(Measurement.of(p), p) == p]
        single, _ = batching.single_sequence_tokens_per_second(measured)
        there = [p for p in counts if is_at(p, wanted.in_flight) and is_sound(p)]
        return cls(
            wanted=wanted,
            points=ordered,
            fit=fit_points(ordered) if wanted.in_flight else None,
            single_sequence=single,
            deciding=counting,
            confirmed=frozenset(Measurement.of(p) for p in ordered if p.confirmed),
            nearest={
                EngineConfiguration.of(p): distance(p, wanted.in_flight)
                for p in sorted(there, key=lambda p: distance(p, wanted.in_flight), reverse=True)
            },
            full={EngineConfiguration.of(p): p for p in reversed(counts) if not is_partial(p)},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Further:
    """Questions that only the advisor can ask: what the search measured was allowed, and ran."""

    of_packs: tuple[Question, ...] = ()
    """Asked first."""
    of_all: tuple[Question, ...] = ()
    """Asked of what is sound and decides."""


NOTHING_FURTHER = Further()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The candidates of a document."""

    singles: tuple[Candidate, ...]
    """By rising batch."""
    packs: tuple[Candidate, ...]
    best: Choice | None
    """Among the single engines that passed: its fastest is what a pack has to beat."""


def decide(basis: Basis) -> Choice | None:
    """What would be served, by these points alone: a pack that won, else one engine, unless the user has a number of packs.

    None: nothing passed, or only B = 1 for want of others that can be trusted.
    """
    if point_checks.only_one_sequence_is_sound(basis.points):
        return None
    return choose(evaluate(basis), single=basis.wanted.engines in (None, 1))


def choose(found: Evaluation, *, single: bool = True) -> Choice | None:
    """Packs have passed the gate, so any of them comes before one engine. `single`: whether one engine may be chosen."""
    return choose_among(found.packs) or (found.best if single else None)


def evaluate(basis: Basis, further: Further = NOTHING_FURTHER) -> Evaluation:
    """Judge packs, then single engines, then the packs that passed against the fastest of those."""
    packs = [_judge(basis, p, of_pack(basis, further)) for p in basis.points if p.replicas > 1]
    packs_measured = any(pack.passed for pack in packs)
    singles = [_single(basis, p, further, packs_measured=packs_measured) for p in basis.points if p.replicas == 1]
    best = choose_among(singles)
    packs = [pack.then(gain(basis, pack, best.fastest if best else None)) if pack.passed else pack for pack in packs]
    return Evaluation(singles=tuple(singles), packs=tuple(packs), best=best)


def of_single(basis: Basis, further: Further) -> tuple[Question, ...]:
    """What one engine must be before it is compared with any other."""
    return (*SOUND, partial(decides, basis), *further.of_all, partial(latency, limits=basis.wanted.limits))


def of_pack(basis: Basis, further: Further) -> tuple[Question, ...]:
    """The same of a pack, which must be allowed and possible too, and have run as it would."""
    return (
        *further.of_packs,
        *SOUND,
        partial(decides, basis),
        partial(confirmed, basis),
        *further.of_all,
        partial(latency, limits=basis.wanted.limits),
    )


def _single(basis: Basis, point: Point, further: Further, *, packs_measured: bool) -> Candidate:
    judged = _judge(basis, point, of_single(basis, further))
    return judged.then(efficiency(basis, point, packs_measured=packs_measured)) if judged.passed else judged


def _judge(basis: Basis, point: Point, questions: Iterable[Question]) -> Candidate:
    """The checks of its chain, and then what the point says of the load."""
    judged = judge(point, questions)
    if not judged.passed:
        return judged
    found = at_load(basis, point)
    return replace(judged.then(found.check), predicted=found.predicted)


def decides(basis: Basis, point: Point) -> Check:
    """What was measured again, or with its final KV bytes, is decided by that."""
    what = Measurement.of(point)
    if not point.confirmed and what in basis.confirmed:
        because = "measured again with its final KV bytes, and that point decides"
        return Check(CheckName.CONFIRMED, False, because)
    if basis.deciding.get(what, point) != point:
        return Check(CheckName.CONFIRMED, False, "measured again since, and that point decides")
    return Check(CheckName.CONFIRMED, True, "no later point replaces it")


def confirmed(basis: Basis, point: Point) -> Check:
    """A pack must have run with the KV bytes that it would be given; what was imported cannot tell."""
    check = point_checks.confirmed(point)
    if check.passed or not basis.wanted.imported:
        return check
    return Check(CheckName.CONFIRMED, True, "imported: counts as measured, in the KV pool of that run")


def efficiency(basis: Basis, point: Point, *, packs_measured: bool) -> Check:
    """The knee of one engine: T(B) / (B T(1)) above epsilon, as published.

    The limit exists to leave memory for more engines. Where packs were measured under the same SLO the measurements
    show what that memory is worth, so the limit does not apply: else a pack could beat a single engine that only the
    limit had made slow.
    """
    limit = basis.wanted.tuning.min_efficiency
    check = batching.efficient(point, single_sequence=basis.single_sequence, min_efficiency=limit)
    if check.passed or not packs_measured:
        return check
    if not basis.single_sequence:
        return replace(check, passed=True)
    because = (
        f"batching efficiency {check.value:.3f} is under {limit:g}, which does not count where packs were measured"
    )
    return replace(check, passed=True, because=because)


def gain(basis: Basis, pack: Candidate, fastest: Candidate | None) -> Check:
    """The no-regret gate: more than the fastest single engine makes, by more than `min_gain` and more than the noise."""
    name, wanted = CheckName.GAIN, basis.wanted
    if fastest is None:
        return Check(name, True, "no single engine satisfies, so none can be better")
    value = pack.throughput / fastest.throughput - 1
    said = f"{value:+.1%} against the best single engine"
    if wanted.engines == pack.point.replicas:
        return Check(name, True, f"{said}; the user's own number of engines needs no gain", value, 0)
    if wanted.equal_is_enough:
        return Check(name, value >= 0, f"{said}; equal throughput is asked", value, 0)
    floor, chance = wanted.tuning.min_gain, chance_fraction(pack, fastest)
    if value < floor:
        return Check(name, False, f"{said}, under the least gain of {floor:.1%}", value, floor)
    if value <= chance:
        return Check(name, False, f"{said}, which is within the noise of {chance:.1%}", value, chance)
    needed = max(floor, chance)
    return Check(name, True, f"{said}, at least {needed:.1%}", value, needed)


def _order(p: Point) -> tuple[object, ...]:
    return (
        p.replicas,
        p.batch_size,
        p.sharing_mode,
        p.in_flight or 0,
        not p.confirmed,
        p.max_num_batched_tokens or 0,
        -p.throughput_tokens_per_second,
        p.itl_ms.mean_ms,
        p.kv_peak_fraction,
    )
