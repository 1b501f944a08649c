"""Single steps of the search, each from findings that are given."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.batching import KV_TARGET_FRACTION
from slm_core.configuration import EngineConfiguration
from slm_core.measurements import Ledger, SharingMode
from slm_core.search.boundary import kv_peak_bytes
from slm_core.search.continuation import findings_of
from slm_core.search.costs import expected_seconds
from slm_core.search.next_step import next_step
from slm_core.search.steps import (
    Done,
    EngineReport,
    Failed,
    Findings,
    Measure,
    Measured,
    Started,
    StartEngines,
    packs_asked,
)
from slm_core.search.sweep import measure, sweep_step
from slm_core.search.trial import pool_bytes
from slm_core.slo import Slo, Statistic

from tests.builders import point
from tests.unit.runtime_search.searches import document_of, request, rig, search

if TYPE_CHECKING:
    from slm_core.measurements import Point
    from slm_core.search.steps import Request

LEDGER = Ledger(
    device_bytes=24 * 10**9,
    weights_bytes=10**9,
    activation_peak_bytes=10**8,
    context_bytes=10**8,
    kv_bytes_per_token=100,
    kv_pool_bytes=10**9,
)


def sweep_of(asked: Request, *points: Point, seconds: float = 60.0, **changes: Any) -> Findings:
    """The sweep's engine has started, and these points were measured on it."""
    on = EngineConfiguration(batch_size=asked.max_batch_size, max_num_batched_tokens=asked.max_num_batched_tokens)
    report = EngineReport(ledger=replace(LEDGER, **changes), max_model_len=2048, version="1", seconds=(seconds,))
    started = Started(step=StartEngines(configuration=on, because=""), report=report, gpu_seconds=seconds)
    taken = (Measured(step=measure(asked, p.batch_size, ""), on=on, point=p, gpu_seconds=10.0) for p in points)
    return Findings(outcomes=(started, *taken))


@pytest.mark.parametrize(
    ("mode", "engines", "asked"),
    [
        (None, None, (4, None)),
        (None, 1, (1, None)),
        (None, 2, (4, 2)),
        (None, 6, (6, 6)),
        (SharingMode.TIME_SLICING, 2, (4, 2)),
        (SharingMode.EXCLUSIVE, None, (1, None)),
    ],
)
def test_packs_are_asked_for_unless_one_engine_is(
    mode: SharingMode | None, engines: int | None, asked: tuple[int, int | None]
) -> None:
    assert packs_asked(mode, engines, 4) == asked


def test_one_engine_is_never_given_more_than_the_sweep_found() -> None:
    asked = request()
    found = sweep_of(asked, point(1, kv_peak_fraction=0.1), point(100, kv_peak_fraction=0.97))
    one = EngineConfiguration(batch_size=100, max_num_batched_tokens=asked.max_num_batched_tokens)
    assert pool_bytes(asked, found, one) == LEDGER.kv_pool_bytes
    wanted = pool_bytes(asked, found, replace(one, engines_per_gpu=2, sharing_mode=SharingMode.MPS))
    assert wanted is not None
    assert wanted > LEDGER.kv_pool_bytes


def test_before_a_measurement_only_the_start_is_expected() -> None:
    asked = request()
    found = sweep_of(asked, seconds=60.0)
    assert expected_seconds(found, measure(asked, 1, "")) == 0
    assert expected_seconds(found, StartEngines(configuration=found.starts[0].step.configuration, because="")) == 60


def test_a_document_that_says_no_cost_is_gone_on_from() -> None:
    asked = request()
    former = document_of(asked, sweep_of(asked, point(1), point(32, 12.0)))
    found = findings_of(replace(former, cost=None), asked)
    assert found.points == former.points
    assert found.gpu_seconds == 0


@pytest.mark.parametrize(("limit", "remedy"), [(None, "a smaller one may serve"), (40, "it serves 40")])
def test_a_start_again_says_what_the_engine_said(limit: int | None, remedy: str) -> None:
    asked = request()
    on = EngineConfiguration(batch_size=256, max_num_batched_tokens=asked.max_num_batched_tokens)
    step = StartEngines(configuration=on, because="")
    again = sweep_step(
        asked, Findings(outcomes=(Failed(step=step, on=on, reason="no memory", batch_size_limit=limit),))
    )
    assert isinstance(again, StartEngines)
    assert again.because == f"the engine failed with B=256; {remedy}"


def test_one_sequence_just_over_the_limit_is_measured_again() -> None:
    asked = request(Slo(itl_ms=10.0))
    near = {"throughput_ci_fraction": 0.04}
    found = sweep_of(asked, point(1, 10.1, **near), point(32, 14.0, **near))
    step = next_step(asked, found)
    assert isinstance(step, Measure)
    assert (step.batch_size, step.because) == (
        1,
        "even B=1 misses a limit, but by less than the noise; it is measured once more",
    )


def test_a_spent_budget_has_nothing_left() -> None:
    asked = request(max_gpu_seconds=30)
    done = next_step(asked, sweep_of(asked, seconds=60.0))
    assert isinstance(done, Done)
    assert done.because.endswith("it needs about 0, 0 are left")


def test_the_first_point_needs_no_samples() -> None:
    asked = request(Slo(itl_ms=10.0, itl_statistic=Statistic.P99))
    first = next_step(asked, sweep_of(asked))
    assert isinstance(first, Measure)
    assert (first.batch_size, first.min_samples) == (1, 0)


def test_a_pool_that_was_too_large_shrinks_to_its_peak() -> None:
    asked = request()
    found = sweep_of(asked, point(1), point(100))
    on = EngineConfiguration(
        batch_size=100, max_num_batched_tokens=asked.max_num_batched_tokens, kv_cache_bytes=800_000_000
    )
    step = StartEngines(configuration=on, because="")
    found = found.add(Started(step=step, report=found.starts[0].report))
    tried = point(100, kv_pool_bytes=on.kv_cache_bytes, kv_peak_fraction=0.5)
    found = found.add(Measured(step=measure(asked, 100, ""), on=on, point=tried))
    assert pool_bytes(asked, found, on) == math.ceil(0.5 * 800_000_000 / KV_TARGET_FRACTION)


def test_one_batch_size_tells_the_peak_of_others_in_proportion() -> None:
    assert kv_peak_bytes([point(100, kv_pool_bytes=10**9, kv_peak_fraction=0.4)], 50) == 2 * 10**8


@pytest.mark.parametrize(
    ("engines", "words"),
    [
        (1, "it is confirmed with the KV bytes that it would be given"),
        (2, "2 engines may win where one leaves the GPU idle; B=56 fits the ITL limit"),
    ],
)
async def test_steps_say_in_words_why_they_are_taken(engines: int, words: str) -> None:
    _, _, events = await search(request(max_engines=engines), rig())
    assert any(event.step.because.endswith(words) for event in events)
