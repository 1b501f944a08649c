"""Packs: R engines on one GPU, each started with the KV bytes that it would really be given.

A pack is a hypothesis to be measured, never assumed ("Mind the Memory Gap", arXiv 2503.08311: packs win where engines
leave the GPU idle between steps, and lose elsewhere). How R engines stretch each other's steps is predicted with the
machine repairman's queue: an engine holds the GPU for a fraction f of its step and thinks on the host for the rest.
f is learnt from the first pack that is measured; the prediction only picks B and spares starts that cannot pay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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
from slm_core.search.sweep import best_single, limits_of
from slm_core.search.trial import failures, is_too_small, load_step, pool_bytes, spent, tries, try_step
from slm_core.sharing import sharing_of
from slm_core.slo import METRICS, Limits
from slm_core.slo_check import figure_ms, slo_misses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.latency_model import Fit
    from slm_core.measurements import Point
    from slm_core.search.steps import Findings, Measured, Request, Step

GPU_FRACTION = 0.65
"""Part of a step that an engine is taken to hold the GPU, before any pack was measured (0.55-0.75 as published)."""
OPTIMISTIC_GPU_FRACTION = 0.05
"""The same for an engine that is bound by its host. Where not even that could win, no pack is started."""
LEAST_MARGIN = 1.1
"""The first B of a pack over the one at which it would gain just enough."""
MAX_TRIES = 3
"""Batch sizes measured for one R and one question."""
AIM_FRACTION = 0.99
"""Pack measurements are expensive, so aim below the limit: this fraction of it."""
NEAR_FACTOR = 1.25
"""How far B may be from the first guess, in factors, in a pack of another question that the stretch is learnt from."""
STEP_FRACTION = 0.03
"""Expected gain for which a pack that keeps the SLO is measured again at a larger B."""


def stretch(replicas: int, gpu_fraction: float) -> float:
    """How much longer a step takes with R engines on the GPU: mean value analysis of one server and R customers."""
    think = 1 - gpu_fraction
    waiting, cycle = 0.0, 1.0
    for engines in range(1, replicas + 1):
        service = gpu_fraction * (1 + waiting)
        cycle = think + service
        waiting = engines * service / cycle
    return cycle


def learnt_gpu_fraction(replicas: int, measured_stretch: float) -> float:
    """The GPU fraction that explains a measured stretch; the inverse of `stretch`."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if stretch(replicas, middle) < measured_stretch else (low, middle)
    return (low + high) / 2


def reference(request: Request, findings: Findings) -> Point | None:
    """The single engine that packs are compared with. Its confirmation is left out, so that the reference stays the same while packs are measured."""
    baseline = request.max_num_batched_tokens
    explored = [
        m.point for m in findings.measured if m.on.kv_cache_bytes is None or m.on.max_num_batched_tokens != baseline
    ]
    return best_single(request, findings, explored)


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
            won = best_try(tries(findings, pack), limits_of(request, findings))
            if won is None or throughput_at_load(request, findings, won) < to_beat * (1 + request.min_gain):
                return None
            to_beat = throughput_at_load(request, findings, won)
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
    tried = tries(findings, pack)
    won = best_try(tried, limits_of(request, findings))
    if won is None:
        return None
    won_on = next(m.on for m in reversed(tried) if m.point == won)
    return load_step(request, findings, replace(won_on, batch_size=won.batch_size))


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPrediction:
    """The predicted figures of R engines, from the batch sweep and from the packs measured so far."""

    request: Request
    findings: Findings
    pack: EngineConfiguration
    best: Point
    fit: Fit
    stretched: float
    """Expected step of each engine over that of an engine alone."""
    learnt: bool
    """Some pack has been measured; else the stretch is a guess."""

    @classmethod
    def of(cls, request: Request, findings: Findings, pack: EngineConfiguration) -> PackPrediction | None:
        """None while a single engine is not known well enough."""
        best, fit = reference(request, findings), fit_points(findings.points)
        if best is None or fit is None:
            return None
        guess = cls(
            request=request,
            findings=findings,
            pack=pack,
            best=best,
            fit=fit,
            stretched=stretch(pack.engines_per_gpu, GPU_FRACTION),
            learnt=False,
        )
        last = guess._teacher()
        if last is None:
            return guess
        ratio = (
            last.point.itl_ms.mean_ms
            / (fit.itl.at(last.point.batch_size) * best.itl_ms.mean_ms)
            * fit.itl.at(best.batch_size)
        )
        learnt = stretch(pack.engines_per_gpu, learnt_gpu_fraction(last.on.engines_per_gpu, ratio))
        is_same = last.on.engines_per_gpu == pack.engines_per_gpu
        stretched = ratio if is_same else learnt * max(1.0, ratio / last.on.engines_per_gpu)
        return replace(guess, stretched=stretched, learnt=True)

    def _teacher(self) -> Measured | None:
        """The pack that the stretch is learnt from: the last of this question, else of others the last that is about as large.

        NB: engines with many sequences stretch each other more; learnt from those, no pack of few would ever be tried.
        """
        mode = self.pack.sharing_mode
        full = [m for m in self.findings.measured if m.on.sharing_mode == mode and m.step.in_flight is None]
        own = [m for m in full if m.asked]
        if own or not full:
            return own[-1] if own else None
        size = self.first_batch(limits_of(self.request, self.findings))
        near = [m for m in full if size / NEAR_FACTOR <= m.point.batch_size <= size * NEAR_FACTOR]
        return near[-1] if near else None

    def first_batch(self, limits: Limits) -> int:
        """The B to try next; before any pack was measured, one at which it can win."""
        size = self.largest_batch(limits)
        return size if self.learnt else max(size, self.least_batch())

    def throughput(self, batch_size: int) -> float:
        """Expected input and output tokens per second over all engines."""
        alone = self.fit.predict(batch_size).throughput_tokens_per_second
        anchor = (
            self.best.throughput_tokens_per_second / self.fit.predict(self.best.batch_size).throughput_tokens_per_second
        )
        return self.pack.engines_per_gpu * alone * anchor / self.stretched

    def optimistic_throughput(self, limits: Limits, batch_size: int) -> float:
        """The same at B. Before any pack was measured: the throughput of engines that hardly need the GPU, which is an upper bound."""
        if self.learnt:
            return self.throughput(batch_size)
        optimistic = replace(self, stretched=stretch(self.pack.engines_per_gpu, OPTIMISTIC_GPU_FRACTION), learnt=True)
        return optimistic.throughput(optimistic.largest_batch(limits))

    def has_memory_for(self, batch_size: int) -> bool:
        """Each of R engines and its KV bytes fit into its share of the device."""
        ledger = self.findings.ledger
        pool = pool_bytes(self.request, self.findings, replace(self.pack, batch_size=batch_size))
        if ledger is None or pool is None:
            return False
        share = sharing_of(self.pack.sharing_mode).memory_share(ledger.device_bytes, self.pack.engines_per_gpu)
        return ledger.fixed_bytes + pool <= share

    def largest_batch(self, limits: Limits) -> int:
        """The largest B, at most the single engine's, that memory and the ITL limit allow. 0: none."""
        size = min(self.best.batch_size, self._batch_within(limits))
        low, high = 0, max(size, 0)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.has_memory_for(middle) else (low, middle - 1)
        return low if low == self.best.batch_size else self._tidy(low)

    def least_batch(self) -> int:
        """A B just above that at which R engines at the ITL limit would gain enough: a pack that misses there cannot win.

        At the limit T is R B / ITL, against B / ITL of one engine.
        """
        even = self.best.batch_size * (1 + self.request.min_gain) / self.pack.engines_per_gpu
        return min(math.ceil(even * LEAST_MARGIN), self.largest_batch(Limits()))

    def held_by(self, limits: Limits) -> str:
        """What keeps B from being larger, in words."""
        size = self.largest_batch(limits)
        if size == self.best.batch_size:
            return "as in the single engine"
        return (
            "the ITL limit"
            if size >= self._tidy(self._batch_within(limits))
            else f"a slice of 1/{self.pack.engines_per_gpu}"
        )

    def _tidy(self, batch_size: int) -> int:
        return tidy(batch_size, self.request.engine)

    def _batch_within(self, limits: Limits) -> int:
        figure = figure_ms(self.best.itl_ms, limits.itl_statistic)
        if limits.itl_ms is None or figure is None:
            return self.best.batch_size
        allowed = AIM_FRACTION * limits.itl_ms / figure / self.stretched
        size = self.fit.itl.inverse(allowed * self.fit.itl.at(self.best.batch_size))
        return math.floor(min(max(size, 0), self.best.batch_size))
