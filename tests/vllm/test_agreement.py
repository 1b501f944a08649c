"""A recorded run: a second profile of the real vLLM agrees with the first, and an exhaustive sweep finds nothing better.

    make record agreement

The question is relative (an ITL of at most twice that of B = 32), so each run answers it on the machine as it is then,
and the noise is what the run's own repeats say. Two cores are enough for "one engine does not fill the machine, two do".
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import pytest
from slm_core.batching import choose
from slm_core.latency_model import fit_line
from slm_core.measurements import SharingMode
from slm_core.slo import Slo
from slm_core.slo_check import resolve

from tests.testbed.tiny_model import tiny_model

from .profiling import ENGINE_LIMITS, Run, Swept, exhaustive_sweep, profile

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument, Point

pytestmark = [pytest.mark.vllm, pytest.mark.record, pytest.mark.timeout(3600)]

REFERENCE = 32
SLO = Slo(itl_factor=2.0)
SIZES = (REFERENCE, 48, 64, 80, 96, 112, 128)
AGREES = 0.05
"""Of throughput, besides what the windows themselves call noise."""
NOTHING_BETTER = 0.98


@pytest.fixture(scope="session")
def whole(runtime: Path) -> Run:
    """One whole profile with packs of two."""
    return profile(runtime, tiny_model(), "--max-engines-per-gpu", "2", engine=ENGINE_LIMITS)


def best_single(document: MeasurementDocument) -> Point:
    """What the published advisor chooses among the single engines of a document."""
    singles = [point for point in document.points if point.replicas == 1]
    chosen = choose(singles, resolve(SLO, singles), 0.1).chosen
    assert chosen, document
    return chosen.point


def keep(**figures: object) -> None:
    """Into the record, beside what it has already."""
    if record := os.environ.get("SLM_RECORD"):
        path = Path(record)
        kept = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(kept | figures, indent=1) + "\n")


def test_a_whole_profile_measures_a_pack(whole: Run) -> None:
    document = whole.document
    assert whole.status == 0, whole.events[-1]
    assert document.complete, document.incomplete_because
    assert document.cost is not None
    keep(gpu_seconds=round(document.cost.gpu_seconds), startup_seconds=round(document.cost.startup_seconds))
    assert any(p.replicas == 2 and p.sharing_mode is SharingMode.TIME_SLICING for p in document.points)
    singles = {point.batch_size: point for point in document.points if point.replicas == 1}
    one, reference = singles[1], singles[REFERENCE]
    assert reference.throughput_tokens_per_second > 2 * one.throughput_tokens_per_second


@dataclass(frozen=True, slots=True)
class Difference:
    """Two choices for the same question."""

    batch_sizes: tuple[int, int]
    throughput_fraction: float
    """Difference over the first's."""
    noise_fraction: float
    """Both intervals together: what the windows themselves call noise."""


def difference(first: Point, second: Point) -> Difference:
    one, other = first.throughput_tokens_per_second, second.throughput_tokens_per_second
    return Difference(
        batch_sizes=(first.batch_size, second.batch_size),
        throughput_fraction=round(abs(one - other) / one, 4),
        noise_fraction=round((first.throughput_ci_fraction or 0) + (second.throughput_ci_fraction or 0), 4),
    )


def test_a_second_profile_agrees_with_the_first(runtime: Path, whole: Run) -> None:
    again = profile(runtime, tiny_model(), "--max-engines-per-gpu", "1", engine=ENGINE_LIMITS).document
    found = difference(best_single(whole.document), best_single(again))
    keep(second_profile=[*found.batch_sizes, found.throughput_fraction, found.noise_fraction])
    assert found.throughput_fraction <= AGREES + found.noise_fraction


def fitted(swept: list[Swept]) -> dict[int, tuple[float, float]]:
    """Size to ITL in ms and throughput on a line through a whole sweep: one step is as noisy as one point of a profile."""
    sizes, weights = [float(p.batch_size) for p in swept], [1.0] * len(swept)
    itl_ms = fit_line(sizes, [p.itl_ms for p in swept], weights)
    turn = fit_line(sizes, [p.batch_size / p.throughput for p in swept], weights)
    return {p.batch_size: (itl_ms.at(p.batch_size), p.batch_size / turn.at(p.batch_size)) for p in swept}


def test_an_exhaustive_sweep_finds_nothing_better(whole: Run) -> None:
    """Up and down again, with the chosen size in it: each size is seen twice, and the two say how noisy the machine is."""
    chosen = best_single(whole.document).batch_size
    sizes = tuple(sorted({*SIZES, chosen}))
    passes = [exhaustive_sweep(order) for order in (sizes, sizes[::-1])]
    line = fitted([step for one in passes for step in one])
    limit_ms = line[REFERENCE][0] * (SLO.itl_factor or 1)
    best = max(throughput for itl_ms, throughput in line.values() if itl_ms <= limit_ms)
    reached = line[chosen][1] / best
    first, second = (fitted(one) for one in passes)
    noise = fmean(abs(first[size][1] - second[size][1]) / line[size][1] for size in sizes)
    keep(chosen_batch_size=chosen, chosen_vs_exhaustive=round(reached, 4), noise_between_passes=round(noise, 4))
    assert reached >= NOTHING_BETTER - noise
