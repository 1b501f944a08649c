"""How good is the search? Thousands of decisions in virtual time, held against exhaustive sweeps under the same SLO.

Random engines come from the simulation (`tests.simulated_engine`), which knows what every batch size would really give;
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

import math
import statistics
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from slm_core.search.next_step import best
from slm_runtime.search_loop import run_search

from benchmarks.search.cases import Case, Truth, draw, start
from benchmarks.search.replay import replay
from tests.simulated_engine.rig import SimulatedRig

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    request = case.request if packs else replace(case.request, max_engines=1)
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


def percentile(values: Sequence[float], fraction: float) -> float:
    """Nearest rank."""
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]


async def run(cases: int, seed: int) -> dict[str, float]:
    """All figures."""
    random = Random(seed)
    drawn = [draw(random) for _ in range(cases)]
    single = [await answer(case, seed + i, packs=False) for i, case in enumerate(drawn)]
    packed = [await answer(case, seed + i, packs=True) for i, case in enumerate(drawn)]
    replayed = await replay()
    errors = [error for r in replayed for error in r.errors]
    ratios = [r.ratio for r in single if r.ratio is not None] + [r.ratio for r in replayed]
    sure_ratios = [r.sure_ratio for r in single if r.sure_ratio is not None]
    packed_ratios = [r.ratio for r in packed if r.ratio is not None]
    points = [r.points for r in [*single, *replayed]]
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
