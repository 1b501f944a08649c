"""The single engine after the sweep: another step budget where the tail asks for it, and the confirmation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_core import batching
from slm_core.configuration import EngineConfiguration
from slm_core.latency_model import sweep_of
from slm_core.load import is_at
from slm_core.point_checks import is_sound, only_one_sequence_is_sound
from slm_core.search.boundary import boundary, gain_fraction, noise_fraction, tidy
from slm_core.search.chosen import chosen_single, load_of
from slm_core.search.sweep import WORTHWHILE_FRACTION, best_single, bounds_of, limits_of, measure, swept
from slm_core.search.trial import (
    failures,
    floor_bytes,
    is_settled,
    is_too_small,
    load_step,
    spent,
    tries,
    try_step,
)

if TYPE_CHECKING:
    from slm_core.measurements import Point
    from slm_core.search.steps import Findings, Request, Step

MAX_TRIES = 4
"""Points with final KV bytes before the search settles for what it has."""
SMALLER_BUDGET = 4
"""The baseline's step budget over the smaller one that is tried."""


def single(request: Request, max_num_batched_tokens: int | None) -> EngineConfiguration:
    """One engine, with this step budget or the baseline's, of the largest batch."""
    budget = max_num_batched_tokens or request.max_num_batched_tokens
    return EngineConfiguration(batch_size=request.max_batch_size, max_num_batched_tokens=budget)


def tuned_step(request: Request, findings: Findings) -> Step | None:
    """One try with a smaller step budget, where TTFT or the ITL tail keeps B well below what the mean would allow."""
    bounds, points = bounds_of(request, findings), swept(findings)
    on_line = bounds.limits.on_line
    if on_line == bounds.limits or only_one_sequence_is_sound(points):
        return None
    edge = boundary(points, replace(bounds, limits=on_line), 1 - noise_fraction(points))
    target = max(1, tidy(edge.batch_size, request.engine))
    best = best_single(request, findings, points)
    budget = max(request.max_num_batched_tokens // SMALLER_BUDGET, target)
    tuned = single(request, budget)
    held_back = best is None or (target > best.batch_size and gain_fraction(points, target, best) >= request.min_gain)
    if not held_back or budget >= request.max_num_batched_tokens:
        return None
    known = any(m.asked or m.point.batch_size == target for m in tries(findings, tuned))
    if known or failures(findings, tuned):
        return None
    because = f"TTFT or the ITL tail keeps B below {target}; a step budget of {budget} tokens may not"
    return try_step(request, findings, replace(tuned, batch_size=target), because)


def loaded_step(request: Request, findings: Findings) -> Step | None:
    """The chosen single engine at the named load, if its own is another, on the sweep's engine while it still runs.

    NB: what a former session measured may be beyond the engine that runs now: another step budget, a larger batch.
    """
    running, load = findings.running, load_of(request, findings)
    if load is None or running is None or running.kv_cache_bytes is not None:
        return None
    chosen = chosen_single(request, findings)
    if chosen is None or chosen.batch_size > running.batch_size or not EngineConfiguration.of(chosen).is_like(running):
        return None
    alike = [m for m in findings.measured if m.on.is_like(running) and m.step.batch_size == chosen.batch_size]
    if any(is_at(m.point, load) for m in alike):
        return None
    return measure(request, chosen.batch_size, f"the load to decide for is {load} in flight", in_flight=load)


def confirm_step(request: Request, findings: Findings) -> Step | None:
    """Measure the chosen single engine with its real KV bytes; where that fails, with more of them or at a lower B."""
    chosen = chosen_single(request, findings)
    last = next((m for m in reversed(findings.measured) if m.on.engines_per_gpu == 1 and m.on.kv_cache_bytes), None)
    budget = chosen.max_num_batched_tokens if chosen else last.on.max_num_batched_tokens if last else None
    configuration = single(request, budget)
    tried = tries(findings, configuration)
    if spent(findings, configuration) >= MAX_TRIES:
        return None
    if tried and tried[-1].asked and is_too_small(tried[-1].point):
        because = f"the KV pool of {tried[-1].on.kv_cache_bytes} bytes is too small for B={tried[-1].point.batch_size}"
        return try_step(request, findings, replace(configuration, batch_size=tried[-1].point.batch_size), because)
    floor, size_of_choice = floor_bytes(request, findings), chosen.batch_size if chosen else 0
    of_choice = ((at, m) for at, m in enumerate(tried) if m.point.batch_size == size_of_choice)
    settled = [m for at, m in of_choice if is_settled(tried[: at + 1], floor)]
    size, because = _confirmed_next(request, findings, chosen, tuple(m.point for m in tried if m.asked))
    if settled and (size == size_of_choice or any(m.asked for m in settled)):
        return load_step(request, findings, replace(settled[-1].on, batch_size=size_of_choice))
    chosen_size = replace(configuration, batch_size=size)
    return try_step(request, findings, chosen_size, f"B={size} is chosen; {because}") if size else None


def _confirmed_next(
    request: Request, findings: Findings, chosen: Point | None, tried: tuple[Point, ...]
) -> tuple[int, str]:
    """The batch size to confirm, 0 for none: the choice, or one below those that missed a limit when confirmed."""
    limits, noise = limits_of(request, findings), noise_fraction(findings.points)
    result = batching.choose(findings.points, limits, request.min_efficiency)
    missed = [c.point for c in result.candidates if c.point in tried and is_sound(c.point) and not c.passed]
    if not tried or tried[-1] not in missed:
        return (chosen.batch_size if chosen else 0), "it is confirmed with the KV bytes that it would be given"
    if len(tried) == 1 and result.rules.is_near(missed[0], 2 * noise):
        return tried[-1].batch_size, "it missed a limit by less than the noise, and is measured once more"
    edge = boundary(sweep_of(findings.points), bounds_of(request, findings), 1 - 2 * len(missed) * noise).batch_size
    lower = max(0, tidy(min(edge, *(p.batch_size - 1 for p in missed)), request.engine))
    fastest = result.fastest.point if result.fastest else None
    worthwhile = lower and (fastest is None or gain_fraction(findings.points, lower, fastest) >= WORTHWHILE_FRACTION)
    size = lower if worthwhile or chosen is None else chosen.batch_size
    return size, "larger ones missed a limit when they were confirmed"
