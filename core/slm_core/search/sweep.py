"""The sweep: one engine, started once with all the memory there is, measured at a few batch sizes.

Every function gives the next step, or None when there is nothing more to find out this way. Assumes that the answer is
the last batch before a limit (see `boundary`). Must never measure what cannot change the answer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from slm_core import batching
from slm_core.configuration import EngineConfiguration
from slm_core.latency_model import sweep_of
from slm_core.measurements import Mark
from slm_core.point_checks import only_one_sequence_is_sound
from slm_core.search.boundary import Bounds, boundary, gain_fraction, noise_fraction, tidy
from slm_core.search.steps import Done, Measure, StartEngines
from slm_core.slo import REFERENCE_BATCH_SIZE, most_samples
from slm_core.slo_check import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.measurements import Point
    from slm_core.search.steps import Failed, Findings, Measured, Request, Step
    from slm_core.slo import Limits

MAX_POINTS = 6
"""Points of the sweep for one question, B = 1 and B = 32 included."""
SINGLE_SEQUENCE_REQUESTS = 16
"""Requests that B = 1 takes; more of them cost nearly half of a sweep and change nothing."""
WORTHWHILE_FRACTION = 0.005
"""Expected gain of throughput below which one more point is not measured."""
AIMS = ((-1, WORTHWHILE_FRACTION), (0, 0.015), (1, 0.04))
"""How near to a limit to measure, in deviations of one measurement, and for which expected gain: the nearer, the likelier
that the point is of no use."""
BOLD_POINTS = 5
"""Points after which none is risked right at a limit any more: one is kept for what a miss then asks for."""
PASSING = frozenset({Mark.LITTLES_LAW, Mark.ERRORS})
"""Marks of a window that was disturbed; the others would come again."""
MAX_FAILURES, MAX_FAILURES_WITHOUT_POINTS = 3, 2
"""Sweep engines that may die before the search settles for the batches below, or gives up; the latter, where none was
measured and the last one did not name the batch at which it would start."""


def limits_of(request: Request, findings: Findings) -> Limits:
    """The SLO in milliseconds, against what has been measured so far."""
    return resolve(request.slo, findings.points)


def bounds_of(request: Request, findings: Findings) -> Bounds:
    """Everything that limits one engine."""
    return Bounds(
        limits=limits_of(request, findings),
        min_efficiency=request.min_efficiency,
        max_batch_size=_largest(request, findings),
    )


def best_single(request: Request, findings: Findings, points: Sequence[Point] | None = None) -> Point | None:
    """The published advisor's answer among `points`, or among all that has been measured: the fastest, whatever is alike."""
    among = findings.points if points is None else points
    fastest = batching.choose(among, limits_of(request, findings), request.min_efficiency).fastest
    return fastest.point if fastest and not only_one_sequence_is_sound(among) else None


def swept(findings: Findings) -> tuple[Point, ...]:
    """The full-batch points of the sweep's engine."""
    return tuple(m.point for m in _sweep(findings))


def measure(request: Request, batch_size: int, because: str, *, in_flight: int | None = None) -> Measure:
    """A measurement whose sample supports what the SLO limits."""
    return Measure(
        batch_size=batch_size,
        in_flight=in_flight,
        max_requests=None,
        min_samples=most_samples(request.slo),
        because=because,
    )


def sweep_step(request: Request, findings: Findings) -> Step | None:
    """The next point of the sweep, or the start of its engine. Done: no engine can be swept."""
    failures = _failures(findings)
    points = swept(findings)
    hopeful = points or (failures and failures[-1].batch_size_limit)
    if len(failures) >= (MAX_FAILURES if hopeful else MAX_FAILURES_WITHOUT_POINTS):
        return None if points else Done(complete=False, because=failures[-1].reason)
    wanted = _next_point(request, findings)
    running = findings.running
    if wanted is None or (running is not None and running.kv_cache_bytes is None):
        return wanted
    if findings.has_started and not failures:
        return None  # the sweep is over; its engine has made way for others
    because = f"{wanted.because}; its engine starts once more" if points else "one engine start serves the whole sweep"
    if failures:
        because = f"the engine failed with B={failures[-1].batch_size}; {_remedy(failures[-1])}"
    one = EngineConfiguration(
        batch_size=_largest(request, findings), max_num_batched_tokens=request.max_num_batched_tokens
    )
    if findings.refuse(one):
        return None if points else Done(complete=False, because=failures[-1].reason)
    return StartEngines(configuration=one, because=because)


def _next_point(request: Request, findings: Findings) -> Measure | None:
    points = swept(findings)
    bounds = bounds_of(request, findings)
    if _is_due(1, points):
        return Measure(
            batch_size=1,
            in_flight=None,
            max_requests=SINGLE_SEQUENCE_REQUESTS,
            min_samples=0,
            because="T(1) is what efficiency is held against",
        )
    reference = min(REFERENCE_BATCH_SIZE, bounds.max_batch_size)
    if _is_due(reference, points):
        return measure(request, reference, f"B={REFERENCE_BATCH_SIZE} is the reference of the SLO and of the fit")
    asked = sum(m.asked for m in _sweep(findings))
    known = frozenset(m.point for m in _sweep(findings) if not m.asked)
    is_bold = asked < BOLD_POINTS
    return None if asked >= MAX_POINTS else _adaptive_point(request, points, bounds, known, is_bold=is_bold)


def _is_due(batch_size: int, points: Sequence[Point]) -> bool:
    """Everything is held against this point: it is measured, and once more if the first try shows a passing disturbance."""
    tries = [point for point in points if point.batch_size == batch_size]
    return not tries or (len(tries) == 1 and not PASSING.isdisjoint(tries[0].marks))


def _sweep(findings: Findings) -> tuple[Measured, ...]:
    return tuple(m for m in findings.measured if m.on.kv_cache_bytes is None and m.step.in_flight is None)


def _adaptive_point(
    request: Request, points: Sequence[Point], bounds: Bounds, known: frozenset[Point], *, is_bold: bool
) -> Measure | None:
    """The point nearest to the first limit, if it may still change the answer.

    `known`: those of another question. One that keeps every limit of this one ends nothing, however slow its window was.
    """
    if len({p.batch_size for p in sweep_of(points)}) < 2:
        return _second_point(request, points, bounds)
    noise = noise_fraction(points)
    verdicts = batching.choose(points, bounds.limits, request.min_efficiency)
    best = verdicts.fastest.point if verdicts.fastest else None
    tried = {c.point.batch_size for c in verdicts.candidates if not verdicts.rules.is_undecided(c.point)}
    passed = {c.point.batch_size for c in verdicts.candidates if c.passed and c.point in known}
    ends = (size for size in tried - passed if not best or size > best.batch_size)
    above = min(ends, default=bounds.max_batch_size + 1)
    near = verdicts.rules.is_near(verdicts.candidates[0].point, 2 * noise)
    if above == 1 and near and len(points) == len(verdicts.candidates):
        return measure(request, 1, "even B=1 misses a limit, but by less than the noise; it is measured once more")
    for deviations, worthwhile in AIMS[: None if is_bold else 1]:
        aim = 1 + deviations * noise
        edge = boundary(points, bounds, aim)
        target = (
            bounds.max_batch_size if edge.batch_size >= bounds.max_batch_size else tidy(edge.batch_size, request.engine)
        )
        target = max(1, min(target, above - 1))
        if target in tried or (best and target <= best.batch_size):
            continue
        if best is None or gain_fraction(points, target, best) >= worthwhile:
            return measure(request, target, f"{edge.limit} is expected just above B={target}")
    return None


def _second_point(request: Request, points: Sequence[Point], bounds: Bounds) -> Measure | None:
    """A line needs two sound points. With only one, go half way (in factors) from it to the smallest unsound one."""
    sound = max((p.batch_size for p in sweep_of(points)), default=0)
    unsound = min((p.batch_size for p in points if p.batch_size > sound), default=0)
    middle = min(math.isqrt(sound * unsound), bounds.max_batch_size)
    if middle <= sound:
        return None
    return measure(request, middle, f"half way between B={sound} and B={unsound}, which cannot be trusted")


def _largest(request: Request, findings: Findings) -> int:
    """The largest B that may still be tried: engines that failed set it to what they named, else to half of theirs."""
    failed = [_below(request, f) for f in _failures(findings)]
    return max(1, min([request.max_batch_size, *failed]))


def _below(request: Request, failed: Failed) -> int:
    limit = failed.batch_size_limit
    return failed.batch_size // 2 if limit is None else tidy(limit, request.engine)


def _remedy(failed: Failed) -> str:
    return "a smaller one may serve" if failed.batch_size_limit is None else f"it serves {failed.batch_size_limit}"


def _failures(findings: Findings) -> tuple[Failed, ...]:
    return tuple(f for f in findings.lasting_failures if f.on.kv_cache_bytes is None)
