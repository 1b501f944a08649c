"""The published sweeps (tests/data/memory-gap-h100) searched as if they were measured, interpolated between their points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slm_core.latency_model import fit_points
from slm_core.measurements import Latency
from slm_core.search.next_step import best
from slm_core.search.steps import EngineReport, Request
from slm_core.search.sweep import swept
from slm_core.slo import Slo
from slm_runtime.search_loop import run_search

from benchmarks.search.cases import sizes
from tests import builders as build

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.configuration import EngineConfiguration
    from slm_core.measurements import Point
    from slm_core.search.steps import Findings, Measure


class ReplayRig:
    """The published sweep of one model as a rig: lines between its points, no noise, no clock but a nominal one."""

    def __init__(self, model: str) -> None:
        document = build.published(model)
        self.ledger, self.points = document.ledger, document.points
        self.good = [p for p in document.points if not p.marks]
        self.pool: int | None = None
        self.seconds = 0.0

    async def start(self, on: EngineConfiguration) -> EngineReport:
        """Nothing but the pool is remembered."""
        assert self.ledger is not None
        self.seconds += 40
        self.pool = on.kv_cache_bytes or self.ledger.kv_pool_bytes
        return EngineReport(ledger=self.ledger, max_model_len=None, version="unknown", seconds=(40,))

    async def measure(self, step: Measure) -> Point:
        """What the sweep says of this B."""
        self.seconds += 15
        return self.at(step.batch_size)

    async def stop(self) -> None:
        """There is nothing to stop."""

    def gpu_seconds(self) -> float:
        """40 s for a start and 15 s for a point."""
        return self.seconds

    def download_seconds(self) -> float:
        """It was here."""
        return 0

    def at(self, size: int) -> Point:
        """The point at any B, beyond the ends as the last two points continue."""
        above = next((i for i, p in enumerate(self.good) if p.batch_size >= size and i), len(self.good) - 1)
        low, high = self.good[above - 1], self.good[above]
        part = (size - low.batch_size) / (high.batch_size - low.batch_size)

        def line(of_low: float, of_high: float) -> float:
            return of_low + part * (of_high - of_low)

        turn = line(low.batch_size / low.output_tokens_per_second, high.batch_size / high.output_tokens_per_second)
        assert self.ledger is not None
        used = line(low.kv_peak_fraction, high.kv_peak_fraction) * self.ledger.kv_pool_bytes / (self.pool or 1)
        return replace(
            high,
            batch_size=size,
            output_tokens_per_second=size / turn,
            throughput_tokens_per_second=size
            / turn
            * high.throughput_tokens_per_second
            / high.output_tokens_per_second,
            itl_ms=Latency(mean_ms=line(low.itl_ms.mean_ms, high.itl_ms.mean_ms)),
            kv_pool_bytes=self.pool,
            kv_peak_fraction=min(used, 1.0),
            preemptions=int(used > 1),
            mean_running=line(low.mean_running, high.mean_running),
        )


@dataclass(frozen=True, slots=True)
class Replayed:
    """One published model and SLO, searched."""

    ratio: float
    """Throughput of the chosen B over that of the best of all."""
    points: int
    errors: list[float]
    """Of the predictions at published batch sizes that the search did not measure, as fractions."""


async def replay() -> list[Replayed]:
    """Each published model under three SLOs."""
    return [await _replay(model, factor) for model in build.MODELS for factor in (2, 3, 4)]


async def _replay(model: str, factor: float) -> Replayed:
    rig = ReplayRig(model)
    request = Request(slo=Slo(itl_factor=factor), max_gpu_seconds=1e6, max_batch_size=768, max_engines=1)
    findings = await run_search(request, rig, lambda _: None)
    chosen = best(request, findings)
    assert chosen is not None
    rig.pool = rig.ledger.kv_pool_bytes if rig.ledger else None
    limit_ms = factor * rig.at(32).itl_ms.mean_ms
    one = rig.at(1).throughput_tokens_per_second
    feasible = [
        p.throughput_tokens_per_second
        for p in map(rig.at, sizes(768))
        if not p.preemptions
        and p.itl_ms.mean_ms <= limit_ms
        and p.throughput_tokens_per_second > 0.1 * p.batch_size * one
    ]
    return Replayed(
        ratio=chosen.throughput_tokens_per_second / max(feasible),
        points=len(findings.points),
        errors=_errors(findings, rig.good),
    )


def _errors(findings: Findings, measured: Sequence[Point]) -> list[float]:
    fit = fit_points(swept(findings))
    assert fit is not None
    used = {p.batch_size for p in swept(findings)}
    return [
        abs(fit.predict(p.batch_size).throughput_tokens_per_second / p.throughput_tokens_per_second - 1)
        for p in measured
        if p.batch_size not in used
    ]
