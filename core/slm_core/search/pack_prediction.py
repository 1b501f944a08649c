"""What R engines on one GPU are expected to do, before they are measured.

How R engines stretch each other's steps is predicted with the machine repairman's queue: an engine holds the GPU for a
fraction f of its step and thinks on the host for the rest. f is learnt from the first pack that is measured. Must never
stand for a measurement: it picks the B to try, and spares starts that cannot pay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slm_core.latency_model import fit_points
from slm_core.search.boundary import tidy
from slm_core.search.sweep import best_single, limits_of
from slm_core.search.trial import pool_bytes
from slm_core.sharing import sharing_of
from slm_core.slo import Limits
from slm_core.slo_check import figure_ms

if TYPE_CHECKING:
    from slm_core.configuration import EngineConfiguration
    from slm_core.latency_model import Fit
    from slm_core.measurements import Point
    from slm_core.search.steps import Findings, Measured, Request

GPU_FRACTION = 0.65
"""Part of a step that an engine is taken to hold the GPU, before any pack was measured (0.55-0.75 as published)."""
OPTIMISTIC_GPU_FRACTION = 0.05
"""The same for an engine that is bound by its host. Where not even that could win, no pack is started."""
LEAST_MARGIN = 1.1
"""The first B of a pack over the one at which it would gain just enough."""
AIM_FRACTION = 0.99
"""Pack measurements are expensive, so aim below the limit: this fraction of it."""
NEAR_FACTOR = 1.25
"""How far B may be from the first guess, in factors, in a pack of another question that the stretch is learnt from."""


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
