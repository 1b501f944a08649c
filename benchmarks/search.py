"""How good is the search? Thousands of decisions in virtual time, held against exhaustive sweeps under the same SLO.

    python benchmarks/search.py [--json] [--cases 600] [--seed 1]

Random engines come from the simulation (`slm_runtime.simulated`), which knows what every batch size would really give;
the published sweeps (tests/data/memory-gap-h100) are replayed, interpolated between their points. What is counted:

- points: of the sweep and of the confirmations of one engine, packs left out (`pack_points_*` counts those);
- chosen_vs_exhaustive: true throughput of the chosen B over the best of all B under the same SLO, one engine. The
  sweep is an oracle's: every B, no noise. Where ITL hardly grows with B, 1 % of noise in ITL is 10 % of B, so
- chosen_vs_surely_kept: the same against the best B that keeps the SLO by one deviation of a measurement, which is the
  nearest that any sweep with that noise could tell apart;
- packed_vs_exhaustive: the same with packs allowed on both sides;
- slo_violations: fraction of choices whose true latency exceeds the true limit by more than three times the noise;
- prediction_error: of T(B) at the published batch sizes that the search did not measure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY / "runtime")]

from slm_runtime.document import Latency, SharingMode  # noqa: E402 - the repository's own packages, not yet installed
from slm_runtime.fit import fit_points  # noqa: E402
from slm_runtime.search.loop import run_search  # noqa: E402
from slm_runtime.search.next_step import best  # noqa: E402
from slm_runtime.search.steps import Request, StartEngines  # noqa: E402
from slm_runtime.search.sweep import swept  # noqa: E402
from slm_runtime.simulated.physics import Lengths, SimulatedEngine, pool_tokens, steady_state  # noqa: E402
from slm_runtime.simulated.rig import DEVIATIONS, SPREAD_NOISE_FRACTION, TTFT_SPREAD_FRACTION, SimulatedRig  # noqa: E402
from slm_runtime.slo import Percentile, Slo  # noqa: E402
from unit.runtime_search import published  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slm_runtime.document import Ledger, Point
    from slm_runtime.search.steps import Findings, Measure
    from slm_runtime.simulated.physics import Expected

GIB = 2**30
DEVICES = ((24, 0.3e9), (24, 0.6e9), (40, 1.5e9), (64, 2.0e9), (80, 2.0e9), (80, 3.3e9), (141, 4.8e9))
"""(GiB, bytes per millisecond) of L4, A10, A100 40, H100 64, A100 80, H100 80 and H200."""


@dataclass(frozen=True, slots=True)
class Case:
    """One engine and one question."""

    engine: SimulatedEngine
    lengths: Lengths
    request: Request


def draw(random: Random) -> Case:
    """A plausible engine, workload and SLO."""
    memory_gib, bandwidth = random.choice(DEVICES)
    weights = math.exp(random.uniform(math.log(0.2), math.log(min(26.0, memory_gib * 0.5)))) * GIB
    kv_bytes = int(weights / GIB * random.choice((8, 16, 30, 60)) * 1024) + 4096
    reached = bandwidth * random.uniform(0.55, 0.9)
    compute_ms = weights / (bandwidth * random.uniform(80, 250))
    lengths = Lengths(
        input_tokens_mean=math.exp(random.uniform(math.log(30), math.log(2000))),
        output_tokens_mean=math.exp(random.uniform(math.log(40), math.log(600))),
        variation=random.choice((0.0, 0.3, 0.6, 0.9)),
    )
    engine = SimulatedEngine(
        name="random",
        device_bytes=memory_gib * GIB,
        weights_bytes=int(weights),
        activation_peak_bytes=int(random.uniform(0.3, 3) * GIB),
        context_bytes=int(random.uniform(0.3, 1) * GIB),
        kv_bytes_per_token=kv_bytes,
        max_model_len=4096,
        host_ms=random.uniform(0.3, 5),
        host_ms_per_sequence=random.uniform(0, 0.05),
        weights_ms=weights / reached,
        sequence_ms=compute_ms,
        kv_ms_per_token=kv_bytes / (reached * random.uniform(0.4, 1)),
        prefill_ms_per_token=compute_ms,
        chunk_ms=random.uniform(0, 1),
        queueing=random.uniform(0.5, 1),
        interference_fraction=random.uniform(0, 0.05),
        tail_fraction=random.uniform(0.01, 0.08),
        noise_fraction=random.uniform(0.002, 0.015),
        start_seconds=random.uniform(20, 60),
    )
    request = Request(
        slo=_slo(random, engine, lengths),
        max_gpu_seconds=1e6,
        max_batch_size=random.choice((128, 256, 512, 1024)),
        max_num_batched_tokens=random.choice((2048, 8192)),
        min_efficiency=random.choice((0.05, 0.1, 0.1, 0.2)),
        max_replicas=4,
        max_model_len=engine.max_model_len,
    )
    return Case(engine=engine, lengths=lengths, request=request)


def _slo(random: Random, engine: SimulatedEngine, lengths: Lengths) -> Slo:
    percentile = random.choices(list(Percentile), (6, 1, 1, 1))[0]
    kind = random.choices(("factor", "absolute", "ttft", "none"), (4, 4, 1, 1))[0]
    somewhere = steady_state(engine, lengths, alone(8192), math.exp(random.uniform(math.log(2), math.log(400))))
    if kind == "factor":
        return Slo(itl_factor=random.uniform(1.2, 6), percentile=percentile)
    if kind == "absolute":
        return Slo(itl_ms=somewhere.itl_ms * random.uniform(0.95, 1.3), percentile=percentile)
    if kind == "ttft":
        return Slo(
            itl_ms=somewhere.itl_ms * 1.2, ttft_ms=somewhere.ttft_ms * random.uniform(0.9, 1.5), percentile=percentile
        )
    return Slo()


def alone(max_num_batched_tokens: int) -> StartEngines:
    """One engine with all the memory."""
    return start(1, SharingMode.NONE, max_num_batched_tokens, None)


def start(replicas: int, mode: SharingMode, max_num_batched_tokens: int, kv_pool_bytes: int | None) -> StartEngines:
    return StartEngines(
        replicas=replicas,
        mode=mode,
        batch_size=1,
        kv_pool_bytes=kv_pool_bytes,
        max_num_batched_tokens=max_num_batched_tokens,
        because="",
    )


class Truth:
    """What the simulation knows and the search has to find out."""

    def __init__(self, case: Case, *, margin_fraction: float = 0.0) -> None:
        self.case = case
        self.margin_fraction = margin_fraction
        self.slo = case.request.slo
        self.one = self.state(alone(case.request.max_num_batched_tokens), 1).output_tokens_per_second
        reference = self.state(alone(case.request.max_num_batched_tokens), min(32, case.request.max_batch_size))
        factor = self.slo.itl_factor
        self.itl_limit_ms = self.slo.itl_ms or (factor * reference.itl_ms if factor else math.inf)

    def state(self, on: StartEngines, batch_size: int) -> Expected:
        """Noise-free figures of each engine."""
        return steady_state(self.case.engine, self.case.lengths, on, batch_size)

    def excess_fraction(self, expected: Expected) -> float:
        """By how much the worst latency exceeds its limit; negative: it keeps it."""
        deviations = DEVIATIONS.get(self.slo.percentile, 0.0)
        itl_ms = expected.itl_ms * (1 + deviations * expected.itl_spread_fraction)
        ttft_ms = expected.ttft_ms * (1 + deviations * TTFT_SPREAD_FRACTION)
        return max(itl_ms / self.itl_limit_ms, ttft_ms / (self.slo.ttft_ms or math.inf)) - 1 + self.margin_fraction

    def noise_fraction(self) -> float:
        """Deviation of a measured figure from its limit: its window, its start, its percentile, and a measured limit."""
        apart = DEVIATIONS.get(self.slo.percentile, 0.0) * (TTFT_SPREAD_FRACTION if self.slo.ttft_ms else 0.1)
        figure = math.hypot(self.case.engine.noise_fraction * 1.15, SPREAD_NOISE_FRACTION * apart / (1 + apart))
        return figure * (math.sqrt(2) if self.slo.itl_factor else 1)

    def best_single(self) -> float:
        """Output tokens per second of the best batch size, all of them and both step budgets tried."""
        request = self.case.request
        budgets = {request.max_num_batched_tokens}
        if self.slo.ttft_ms is not None or self.slo.percentile is not Percentile.MEAN:
            budgets.add(request.max_num_batched_tokens // 4)
        rates = [self._rate(alone(budget), size) for budget in budgets for size in sizes(request.max_batch_size)]
        return max(rates, default=0.0)

    def best_pack(self) -> float:
        """The same for packs under MPS, whose slices hold R engines and whose B is at most that of one engine."""
        engine, request = self.case.engine, self.case.request
        fixed = engine.weights_bytes + engine.activation_peak_bytes + engine.context_bytes
        floor = engine.max_model_len * engine.kv_bytes_per_token
        top = 0.0
        largest = max(
            (s for s in sizes(request.max_batch_size) if self._rate(alone(request.max_num_batched_tokens), s)),
            default=0,
        )
        for replicas in range(2, request.max_replicas + 1):
            room = engine.device_bytes // replicas - fixed
            if room < floor:
                break
            on = start(replicas, SharingMode.MPS, request.max_num_batched_tokens, room)
            top = max([top, *(replicas * self._rate(on, size) for size in sizes(largest))])
        return top

    def _rate(self, on: StartEngines, size: int) -> float:
        expected = self.state(on, size)
        efficient = (
            on.replicas > 1 or expected.output_tokens_per_second > self.case.request.min_efficiency * size * self.one
        )
        roomy = expected.held_tokens_peak <= 0.98 * pool_tokens(self.case.engine, on)
        return expected.output_tokens_per_second if roomy and efficient and self.excess_fraction(expected) <= 0 else 0.0


def sizes(largest: int) -> list[int]:
    """Every batch size up to 64, then steps of 2 %."""
    found = list(range(1, min(largest, 64) + 1))
    while found and found[-1] < largest:
        found.append(min(largest, math.ceil(found[-1] * 1.02)))
    return found


@dataclass(frozen=True, slots=True)
class Result:
    """One case, answered."""

    points: int
    pack_points: int
    starts: int
    seconds: float
    ratio: float | None
    """Absent: nothing keeps the SLO, and the search said so."""
    sure_ratio: float | None
    """The same against the best B that keeps the SLO by one deviation of a measurement."""
    violation: bool
    kv_peak_fraction: float | None
    confirmed: bool


async def answer(case: Case, seed: int, *, packs: bool) -> Result:
    request = case.request if packs else replace(case.request, max_replicas=1)
    findings = await run_search(
        request, SimulatedRig(engine=case.engine, lengths=case.lengths, random=Random(seed)), lambda _: None
    )
    truth = Truth(case)
    chosen = best(request, findings)
    exhaustive = max(truth.best_single(), truth.best_pack() if packs else 0.0)
    sure = 0.0 if packs else Truth(case, margin_fraction=truth.noise_fraction()).best_single()
    singles = [p for p in findings.points if p.replicas == 1]
    ratio, sure_ratio, violation = 0.0 if exhaustive else None, 0.0 if sure else None, False
    if chosen is not None:
        budget = chosen.max_num_batched_tokens or request.max_num_batched_tokens
        expected = truth.state(
            start(chosen.replicas, chosen.sharing_mode, budget, chosen.kv_pool_bytes), chosen.batch_size
        )
        violation = truth.excess_fraction(expected) > 3 * truth.noise_fraction()
        rate = chosen.replicas * expected.output_tokens_per_second
        ratio = rate / exhaustive if exhaustive else None
        sure_ratio = rate / sure if sure else None
    return Result(
        points=len(singles),
        pack_points=len(findings.points) - len(singles),
        starts=findings.engine_starts,
        seconds=findings.gpu_seconds,
        ratio=ratio,
        sure_ratio=sure_ratio,
        violation=violation,
        kv_peak_fraction=chosen.kv_peak_fraction if chosen else None,
        confirmed=bool(chosen and chosen.confirmed),
    )


class ReplayRig:
    """The published sweep of one model as a rig: lines between its points, no noise, no clock but a nominal one."""

    def __init__(self, model: str) -> None:
        document = published.sweep(model)
        self.ledger, self.points = document.ledger, document.points
        self.good = [p for p in document.points if not p.marks]
        self.pool: int | None = None
        self.seconds = 0.0

    async def start(self, step: StartEngines) -> Ledger:
        """Nothing but the pool is remembered."""
        assert self.ledger is not None
        self.seconds += 40
        self.pool = step.kv_pool_bytes or self.ledger.kv_pool_bytes
        return self.ledger

    async def measure(self, step: Measure) -> Point:
        """What the sweep says of this B."""
        self.seconds += 15
        return self.at(step.batch_size)

    async def stop(self) -> None:
        """There is nothing to stop."""

    def gpu_seconds(self) -> float:
        """40 s for a start and 15 s for a point."""
        return self.seconds

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


async def replay() -> Iterator[tuple[float, int, list[float]]]:
    """For each published model and SLO: chosen over exhaustive, points, and prediction errors at unmeasured B."""
    return iter([await _replay(model, factor) for model in published.MODELS for factor in (2, 3, 4)])


async def _replay(model: str, factor: float) -> tuple[float, int, list[float]]:
    rig = ReplayRig(model)
    request = Request(slo=Slo(itl_factor=factor), max_gpu_seconds=1e6, max_batch_size=768, max_replicas=1)
    findings = await run_search(request, rig, lambda _: None)
    chosen = best(request, findings)
    assert chosen is not None
    rig.pool = None
    limit_ms = factor * rig.at(32).itl_ms.mean_ms
    one = rig.at(1).throughput_tokens_per_second
    rig.pool = rig.ledger.kv_pool_bytes if rig.ledger else None
    feasible = [
        p.throughput_tokens_per_second
        for p in map(rig.at, sizes(768))
        if not p.preemptions
        and p.itl_ms.mean_ms <= limit_ms
        and p.throughput_tokens_per_second > 0.1 * p.batch_size * one
    ]
    return chosen.throughput_tokens_per_second / max(feasible), len(findings.points), _errors(findings, rig.good)


def _errors(findings: Findings, measured: Sequence[Point]) -> list[float]:
    fit = fit_points(swept(findings))
    assert fit is not None
    used = {p.batch_size for p in swept(findings)}
    return [
        abs(fit.predict(p.batch_size).throughput_tokens_per_second / p.throughput_tokens_per_second - 1)
        for p in measured
        if p.batch_size not in used
    ]


def percentile(values: Sequence[float], fraction: float) -> float:
    """Nearest rank."""
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]


async def run(cases: int, seed: int) -> dict[str, float]:
    """All figures."""
    random = Random(seed)
    drawn = [draw(random) for _ in range(cases)]
    single = [await answer(case, seed + i, packs=False) for i, case in enumerate(drawn)]
    packed = [await answer(case, seed + i, packs=True) for i, case in enumerate(drawn)]
    replayed = list(await replay())
    errors = [error for _, _, of_model in replayed for error in of_model]
    ratios = [r.ratio for r in single if r.ratio is not None] + [ratio for ratio, _, _ in replayed]
    sure_ratios = [r.sure_ratio for r in single if r.sure_ratio is not None]
    packed_ratios = [r.ratio for r in packed if r.ratio is not None]
    points = [r.points for r in single] + [count for _, count, _ in replayed]
    peaks = [r.kv_peak_fraction for r in single if r.kv_peak_fraction is not None]
    return {
        "cases": len(single) + len(replayed),
        "points_p95": percentile(points, 0.95),
        "points_max": max(points),
        "points_median": statistics.median(points),
        "seconds_median": statistics.median(r.seconds for r in single),
        "engine_starts_median": statistics.median(r.starts for r in single),
        "chosen_vs_exhaustive_median": statistics.median(ratios),
        "chosen_vs_exhaustive_p05": percentile(ratios, 0.05),
        "chosen_vs_exhaustive_min": min(ratios),
        "chosen_vs_surely_kept_median": statistics.median(sure_ratios),
        "chosen_vs_surely_kept_p05": percentile(sure_ratios, 0.05),
        "slo_violations": statistics.fmean(r.violation for r in [*single, *packed]),
        "unconfirmed": statistics.fmean(not r.confirmed for r in single if r.kv_peak_fraction is not None),
        "kv_peak_within_bounds": statistics.fmean(0.85 <= peak <= 0.98 for peak in peaks),
        "prediction_error_mean": statistics.fmean(errors),
        "prediction_error_max": max(errors),
        "packed_vs_exhaustive_median": statistics.median(packed_ratios),
        "packed_vs_exhaustive_p05": percentile(packed_ratios, 0.05),
        "pack_points_p95": percentile([r.pack_points for r in packed], 0.95),
        "pack_engine_starts_median": statistics.median(r.starts for r in packed),
        "pack_seconds_median": statistics.median(r.seconds for r in packed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="how good is the search, against exhaustive sweeps in virtual time")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--cases", type=int, default=600, help="random engines (default 600)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    began = time.perf_counter()
    figures = asyncio.run(run(args.cases, args.seed))
    if args.json:
        print(json.dumps({key: round(value, 4) for key, value in figures.items()}))
        return
    for key, value in figures.items():
        print(f"{key:32} {value:.4g}")
    print(f"{'wall seconds':32} {time.perf_counter() - began:.1f}")


if __name__ == "__main__":
    main()
