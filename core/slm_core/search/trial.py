"""One configuration with the KV bytes that it would really be given.

Exists because single engines, engines with another step budget and packs are all confirmed the same way: start with
explicit KV bytes, measure, and see whether the peak lies within bounds without a preemption. Engine starts dominate the
time of a profile, so engines that already run are measured again wherever their pool suits.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from slm_core.batching import KV_MAX_FRACTION, KV_MIN_FRACTION, KV_TARGET_FRACTION
from slm_core.latency_model import is_full_single
from slm_core.load import is_at
from slm_core.search.boundary import kv_peak_bytes
from slm_core.search.chosen import load_of
from slm_core.search.steps import StartEngines
from slm_core.search.sweep import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.configuration import EngineConfiguration
    from slm_core.measurements import Point
    from slm_core.search.steps import Failed, Findings, Measure, Measured, Request


def growth_fraction(batch_size: int, misses: int = 1) -> float:
    """KV bytes after a pool that proved too small, over those before: the peak of few sequences varies the most.

    `misses`: how many pools of the configuration proved too small; each asks for a bolder step, as a start costs more.
    """
    return (1.08 + 0.3 / math.sqrt(batch_size)) ** misses


def is_trial(on: EngineConfiguration, configuration: EngineConfiguration) -> bool:
    """`on` is this configuration, of whatever batch, with KV bytes of its own."""
    return on.kv_cache_bytes is not None and on.is_like(configuration)


def tries(findings: Findings, configuration: EngineConfiguration) -> tuple[Measured, ...]:
    """Full-batch measurements of this configuration, of whatever batch."""
    return tuple(m for m in findings.measured if m.step.in_flight is None and is_trial(m.on, configuration))


def spent(findings: Findings, configuration: EngineConfiguration) -> int:
    """How often this question has tried this configuration, of whatever batch, in vain or not."""
    return sum(m.asked for m in tries(findings, configuration)) + len(failures(findings, configuration))


def failures(findings: Findings, configuration: EngineConfiguration) -> tuple[Failed, ...]:
    """Steps that failed on this configuration, of whatever batch."""
    return tuple(f for f in findings.lasting_failures if is_trial(f.on, configuration))


def try_step(
    request: Request, findings: Findings, configuration: EngineConfiguration, because: str
) -> StartEngines | Measure | None:
    """Measure this configuration if engines run whose pool suits, else start such.

    None: no KV bytes are known, or just this start has failed already.
    """
    pool = pool_bytes(request, findings, configuration)
    if pool is None:
        return None
    wanted, running = replace(configuration, kv_cache_bytes=pool), findings.running
    if running is not None and is_trial(running, wanted) and _suits(findings, running, wanted):
        return measure(request, wanted.batch_size, because)
    return None if findings.refuse(wanted) else StartEngines(configuration=wanted, because=because)


def load_step(request: Request, findings: Findings, on: EngineConfiguration) -> StartEngines | Measure | None:
    """Measure engines that have proved their KV bytes at the named load: such as run, or the same once more.

    None: that load is theirs already, was measured on such engines, or killed some.
    """
    load, running = load_of(request, findings), findings.running
    alike = [m for m in findings.measured if m.step.batch_size == on.batch_size and is_trial(m.on, on)]
    died = any(not f.is_start and f.batch_size == on.batch_size for f in failures(findings, on))
    if load is None or died or any(is_at(m.point, load) for m in alike):
        return None
    because = f"the load to decide for is {load} in flight"
    if running is not None and is_trial(running, on) and holds(running, on):
        return measure(request, on.batch_size, because, in_flight=load)
    return None if findings.refuse(on) else StartEngines(configuration=on, because=because)


def holds(running: EngineConfiguration, on: EngineConfiguration) -> bool:
    """Engines that run have room for what these would run."""
    return running.batch_size >= on.batch_size and (running.kv_cache_bytes or 0) >= (on.kv_cache_bytes or 0)


def _suits(findings: Findings, running: EngineConfiguration, wanted: EngineConfiguration) -> bool:
    if wanted.batch_size > running.batch_size or running.kv_cache_bytes is None:
        return False
    if running.kv_cache_bytes == wanted.kv_cache_bytes:
        return True
    tried_already = any(m.on == running and m.step.batch_size == wanted.batch_size for m in findings.measured)
    peak = kv_peak_bytes(_singles(findings), wanted.batch_size)
    if tried_already or peak is None:
        return False
    return KV_MIN_FRACTION <= peak / running.kv_cache_bytes < KV_TARGET_FRACTION


def pool_bytes(request: Request, findings: Findings, configuration: EngineConfiguration) -> int | None:
    """KV bytes for each engine of this batch: what the last try taught, else the expected peak over the target use.

    At least one longest sequence and the states of the batch; a lone engine cannot have more than the sweep's engine
    found, with which it did start.
    """
    wanted = _wanted_pool_bytes(findings, configuration)
    if wanted is None or findings.ledger is None:
        return None
    states = math.ceil(configuration.batch_size * _state_bytes(findings))
    wanted = max(wanted, states, floor_bytes(request, findings))
    return min(wanted, findings.ledger.kv_pool_bytes) if configuration.engines_per_gpu == 1 else wanted


def _wanted_pool_bytes(findings: Findings, configuration: EngineConfiguration) -> int | None:
    size = configuration.batch_size
    last = next((m for m in reversed(tries(findings, configuration)) if m.point.batch_size == size), None)
    if last is None or last.on.kv_cache_bytes is None:
        expected = _expected_peak_bytes(findings, configuration)
        return None if expected is None else math.ceil(expected / KV_TARGET_FRACTION)
    if is_too_small(last.point):
        return math.ceil(last.on.kv_cache_bytes * growth_fraction(size, _misses(findings, configuration)))
    if last.point.kv_peak_fraction >= KV_MIN_FRACTION:
        return last.on.kv_cache_bytes
    return math.ceil(last.point.kv_peak_fraction * last.on.kv_cache_bytes / KV_TARGET_FRACTION)


def _expected_peak_bytes(findings: Findings, configuration: EngineConfiguration) -> float | None:
    """The singles' peak at B, raised by what pools of this configuration that proved too small showed.

    Slowed engines run more in step than one alone does, so more of their sequences are long at once.
    """
    expected = kv_peak_bytes(_singles(findings), configuration.batch_size)
    if expected is None:
        return None
    raised, misses = 1.0, _misses(findings, configuration)
    for tried in tries(findings, configuration):
        then = kv_peak_bytes(_singles(findings), tried.point.batch_size)
        if then and tried.on.kv_cache_bytes and is_too_small(tried.point):
            growth = growth_fraction(tried.point.batch_size, misses)
            needed = tried.on.kv_cache_bytes * growth * KV_TARGET_FRACTION
            raised = max(raised, needed / then)
    return expected * raised


def _misses(findings: Findings, configuration: EngineConfiguration) -> int:
    return sum(is_too_small(tried.point) for tried in tries(findings, configuration))


def floor_bytes(request: Request, findings: Findings) -> int:
    """KV bytes of one longest sequence, without which an engine refuses to start."""
    ledger, longest = findings.ledger, findings.max_model_len or request.max_model_len
    return request.engine.sequence_kv_tokens(longest) * ledger.kv_bytes_per_token if ledger and longest else 0


def _state_bytes(findings: Findings) -> float:
    """KV bytes that each sequence needs however short it is: pools over the B that they would have held, as engines said.

    0 for a model whose sequences have no state of a fixed size.
    """
    swept = findings.ledger.kv_pool_bytes if findings.ledger else 0
    named = ((f.on.kv_cache_bytes or swept, f.batch_size_limit) for f in findings.failures)
    return max((pool / limit for pool, limit in named if limit), default=0.0)


def is_too_small(point: Point) -> bool:
    """The pool preempted, or nearly did."""
    return bool(point.preemptions) or point.kv_peak_fraction > KV_MAX_FRACTION


def is_settled(tried: Sequence[Measured], floor: int) -> bool:
    """The KV bytes of the last of these tries are final: neither too few nor wasted, or no fewer are to be had.

    Wasted bytes are fixed once: the peak of few sequences varies by more than the bounds allow.
    """
    last = tried[-1]
    pool = last.on.kv_cache_bytes
    if pool is None or is_too_small(last.point):
        return False
    again = any(m.point.batch_size == last.point.batch_size for m in tried[:-1])
    return again or last.point.kv_peak_fraction >= KV_MIN_FRACTION or pool <= floor


def _singles(findings: Findings) -> tuple[Point, ...]:
    return tuple(p for p in findings.points if is_full_single(p))
