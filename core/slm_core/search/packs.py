"""Packs: R engines on one GPU, each started with the KV bytes that it would really be given.

A pack is a hypothesis to be measured, never assumed ("Mind the Memory Gap", arXiv 2503.08311: packs win where engines
leave the GPU idle between steps, and lose elsewhere). Must never start one that is predicted not to pay.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from slm_core.candidates import judge
from slm_core.choice import choose_among
from slm_core.configuration import EngineConfiguration
from slm_core.latency_model import fit_points
from slm_core.load import is_at, predict_single
from slm_core.point_checks import SOUND, confirmed, latency
from slm_core.search.boundary import tidy
from slm_core.search.chosen import chosen_single, load_of
from slm_core.search.curve import curve_step
from slm_core.search.pack_prediction import AIM_FRACTION, PackPrediction, reference
from slm_core.search.sweep import limits_of
from slm_core.search.trial import failures, is_too_small, load_step, spent, tries, try_step
from slm_core.slo import METRICS, Limits
from slm_core.slo_check import figure_ms, slo_misses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.measurements import Point
    from slm_core.search.steps import Findings, Measured, Request, Step

MAX_TRIES = 3
"""Batch sizes measured for one R and one question."""
STEP_FRACTION = 0.03
"""Expected gain for which a pack that keeps the SLO is measured again at a larger B."""


def pack_step(request: Request, findings: Findings) -> Step | None:
    """The next pack to measure, or None when no further pack can pay."""
    best = reference(request, findings)
    fit = fit_points(findings.points)
    if best is None or fit is None:
        return None
    for mode in request.modes:
        to_beat = throughput_at_load(request, findings, best)
        for replicas in [request.engines] if request.engines else range(2, request.max_engines + 1):
            budget = best.max_num_batched_tokens or request.max_num_batched_tokens
            one = replace(EngineConfiguration.of(best), max_num_batched_tokens=budget)
            pack = replace(one, engines_per_gpu=replicas, sharing_mode=mode)
            if any(f.batch_size_limit is None for f in failures(findings, pack)):
                if replicas > 2 and not request.engines:
                    return None
                break  # this way of sharing does not run here
            step = _next_try(request, findings, pack, to_beat) or _loaded(request, findings, pack)
            if step is not None:
                return step
            won = _won(request, findings, pack)
            if won is None:
                return None
            throughput = throughput_at_load(request, findings, won.point)
            pays = throughput >= to_beat * (1 + request.min_gain)
            step = curve_step(request, findings, _as_tried(won)) if pays or request.engines else None
            if step is not None or not pays:
                return step
            to_beat = throughput
        else:
            return None
    return None


def throughput_at_load(request: Request, findings: Findings, point: Point) -> float:
    """Measured throughput of a configuration at the load to decide for, or with full batches where that load was not measured.

    NB: held against full batches of one engine, a pack at a load always loses; so what a former session cannot measure
    any more is predicted.
    """
    load = load_of(request, findings)
    at_load = [
        p.throughput_tokens_per_second
        for p in findings.points
        if p.in_flight is not None
        and is_at(p, load)
        and (p.batch_size, p.replicas, p.sharing_mode) == (point.batch_size, point.replicas, point.sharing_mode)
    ]
    if not at_load and load is not None and point.replicas == 1 and _missed_its_load(request, findings, load):
        return predict_single(fit_points(findings.points), point, load).throughput_tokens_per_second
    return at_load[-1] if at_load else point.throughput_tokens_per_second


def _missed_its_load(request: Request, findings: Findings, load: int) -> bool:
    """A former session's sweep ended without the load, for which alone its engine is not started."""
    chosen = chosen_single(request, findings)
    singles = (p for p in findings.points if p.replicas == 1 and p.in_flight is not None)
    is_former = findings.earlier > 0 and chosen is not None and not is_at(chosen, load)
    return is_former and not any(is_at(p, load) for p in singles)


def best_try(tried: Sequence[Measured], limits: Limits) -> Point | None:
    """The fastest of these packs that can be trusted, kept within its KV pool, and keeps the SLO."""
    chain = (*SOUND, confirmed, partial(latency, limits=limits))
    best = choose_among([judge(m.point, chain) for m in tried])
    return best.fastest.point if best else None


def _next_try(request: Request, findings: Findings, pack: EngineConfiguration, to_beat: float) -> Step | None:
    """The next batch size to measure with this R, or None when R is settled or cannot pay."""
    tried = tries(findings, pack)
    if spent(findings, pack) >= MAX_TRIES:
        return None
    prediction = PackPrediction.of(request, findings, pack)
    if prediction is None:
        return None
    limits = limits_of(request, findings)
    won = best_try(tried, limits)
    size = prediction.first_batch(limits)
    for m in (m for m in tried if not is_too_small(m.point) and slo_misses(m.point, limits)):
        # NB: of another question's miss only the batch is known to be too large; it may lie far beyond the limit.
        shrink = min(_shrink(m.point, limits), 1) if m.asked else 1
        size = min(size, tidy(m.point.batch_size * shrink, request.engine), m.point.batch_size - 1)
    if tried and is_too_small(tried[-1].point) and tried[-1].point.batch_size == size:
        because = f"the KV pools of {tried[-1].on.kv_cache_bytes} bytes were too small"
        return try_step(request, findings, replace(pack, batch_size=size), because)
    # A user's own R is measured whatever is predicted for it: the advice must be able to say what it costs.
    required = 0.0 if request.engines else to_beat * (1 + request.min_gain / 2)
    if request.engines and size < 1 and not spent(findings, pack):
        size = min(1, prediction.largest_batch(Limits()))  # learnt far from here, for another question
    floor = _required_for_another_start(won) if won else required
    if size < 1 or (won and size <= won.batch_size) or prediction.optimistic_throughput(limits, size) < floor:
        return None
    why = f"B={size} fits {prediction.held_by(limits)}"
    because = f"{pack.engines_per_gpu} engines may win where one leaves the GPU idle; {why}"
    return try_step(request, findings, replace(pack, batch_size=size), because)


def _required_for_another_start(won: Point) -> float:
    """Throughput that must be predicted for a larger B: engine starts are expensive, and a gain within the noise is not visible."""
    return won.throughput_tokens_per_second * (1 + max(STEP_FRACTION, won.throughput_ci_fraction or 0.0))


def _shrink(point: Point, limits: Limits) -> float:
    """Factor on B that would fix a miss, of TTFT say; what follows the line is fixed by what the stretch has taught.

    Squared, because TTFT falls more slowly than B.
    """
    factors = [
        (AIM_FRACTION * limit_ms / figure) ** 2
        for metric in METRICS
        if not metric.follows_line
        and (limit_ms := metric.limit_ms(limits))
        and (latency := metric.of(point)) is not None
        and (figure := figure_ms(latency, metric.statistic(limits))) is not None
    ]
    return min(factors, default=1.0)


def _loaded(request: Request, findings: Findings, pack: EngineConfiguration) -> Step | None:
    """The pack at the named load: while it runs, or started once more where it does not."""
    won = _won(request, findings, pack)
    return None if won is None else load_step(request, findings, _as_tried(won))


def _won(request: Request, findings: Findings, pack: EngineConfiguration) -> Measured | None:
    """The try whose point is the best with this R."""
    tried = tries(findings, pack)
    best = best_try(tried, limits_of(request, findings))
    return None if best is None else next(m for m in reversed(tried) if m.point == best)


def _as_tried(won: Measured) -> EngineConfiguration:
    """Its engines, with the batch that it was measured with."""
    return replace(won.on, batch_size=won.point.batch_size)
