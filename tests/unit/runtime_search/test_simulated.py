"""The simulation is only worth something if it behaves like what was measured."""

from __future__ import annotations

from random import Random

import pytest
from slm_core.configuration import EngineConfiguration
from slm_core.failure import EngineFailed
from slm_core.measurements import Mark, SharingMode
from slm_core.search.steps import Measure

from tests import builders as build
from tests.simulated_engine.physics import Lengths, SimulatedEngine, steady_state
from tests.simulated_engine.published import ENGINES, OPT_1_3B, OPT_2_7B, SHAREGPT
from tests.simulated_engine.rig import SimulatedRig

NO_POOL_LIMIT = 10**13


def engines(
    replicas: int = 1,
    mode: SharingMode = SharingMode.EXCLUSIVE,
    *,
    batch_size: int = 64,
    kv_pool_bytes: int | None = None,
    budget: int = 8192,
) -> EngineConfiguration:
    return EngineConfiguration(
        batch_size=batch_size,
        kv_cache_bytes=kv_pool_bytes,
        max_num_batched_tokens=budget,
        engines_per_gpu=replicas,
        sharing_mode=mode,
    )


def measure(batch_size: int, *, in_flight: int | None = None, min_samples: int = 0) -> Measure:
    return Measure(
        batch_size=batch_size, in_flight=in_flight, max_requests=None, min_samples=min_samples, because="test"
    )


def rig(engine: SimulatedEngine = OPT_1_3B, seed: int = 1) -> SimulatedRig:
    return SimulatedRig(engine=engine, lengths=SHAREGPT, random=Random(seed))


def errors_against(engine: SimulatedEngine, points: list) -> tuple[list[float], list[float]]:
    """Relative errors of ITL and throughput, at the width that each run had on average."""
    itl, rate = [], []
    for p in points:
        lengths = Lengths(input_tokens_mean=p.input_tokens_mean, output_tokens_mean=p.output_tokens_mean, variation=0.9)
        on = engines(p.replicas, p.sharing_mode, kv_pool_bytes=NO_POOL_LIMIT)
        expected = steady_state(engine, lengths, on, p.mean_running / p.replicas)
        itl.append(abs(expected.itl_ms / p.itl_ms.mean_ms - 1))
        rate.append(abs(expected.output_tokens_per_second * p.replicas / p.output_tokens_per_second - 1))
    return itl, rate


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_calibrated_engines_follow_the_published_sweeps(engine: SimulatedEngine) -> None:
    points = [p for p in build.published(engine.name).points if not p.marks]
    for errors in errors_against(engine, points):
        assert sum(errors) / len(errors) <= 0.02
        assert max(errors) <= 0.07


@pytest.mark.parametrize("engine", [OPT_1_3B, OPT_2_7B], ids=lambda e: e.name)
def test_packs_queue_for_the_gpu_as_published(engine: SimulatedEngine) -> None:
    packs = [p for p in build.published_packs(engine.name).points if p.replicas > 1 and not p.marks]
    assert packs
    for errors in errors_against(engine, packs):
        assert max(errors) <= 0.04


@pytest.mark.parametrize(
    ("engine", "replicas", "running", "gain"),
    [(OPT_1_3B, 2, 83, 10494 / 9121), (OPT_1_3B, 4, 75, 9860 / 9121), (OPT_2_7B, 2, 83, 6344 / 6172)],
)
def test_time_slicing_gains_as_little_as_published(
    engine: SimulatedEngine, replicas: int, running: float, gain: float
) -> None:
    sliced = steady_state(
        engine, SHAREGPT, engines(replicas, SharingMode.TIME_SLICING, kv_pool_bytes=NO_POOL_LIMIT), running
    )
    alone = steady_state(engine, SHAREGPT, engines(kv_pool_bytes=NO_POOL_LIMIT), 89)
    assert replicas * sliced.output_tokens_per_second / alone.output_tokens_per_second == pytest.approx(gain, rel=0.03)


async def test_littles_law_holds_in_a_full_batch() -> None:
    it = rig()
    await it.start(engines(batch_size=256))
    for batch_size in (1, 16, 256):
        point = await it.measure(measure(batch_size))
        assert point.output_tokens_per_second * point.itl_ms.mean_ms / 1000 == pytest.approx(
            point.mean_running, rel=0.05
        )


async def test_a_pool_too_small_preempts_and_is_marked() -> None:
    it = rig()
    await it.start(engines(kv_pool_bytes=4 * 10**9))
    point = await it.measure(measure(64))
    assert point.preemptions > 0
    assert point.kv_peak_fraction == 1.0
    assert point.marks == (Mark.PREEMPTED,)
    assert point.mean_running < 64


async def test_the_kv_peak_of_a_full_batch_is_as_published() -> None:
    it = rig()
    await it.start(engines(batch_size=256))
    point = await it.measure(measure(227))
    assert point.kv_peak_fraction == pytest.approx(0.3805, rel=0.15)


async def test_light_load_fills_no_batch_and_heavy_load_queues() -> None:
    it = rig()
    await it.start(engines(2, SharingMode.MPS, kv_pool_bytes=8 * 10**9))
    light, full, heavy = [await it.measure(measure(64, in_flight=n)) for n in (32, 128, 256)]
    assert light.mean_running == 32
    assert light.itl_ms.mean_ms < full.itl_ms.mean_ms
    assert light.ttft_ms is not None
    assert heavy.ttft_ms is not None
    assert heavy.ttft_ms.mean_ms > 10 * light.ttft_ms.mean_ms
    assert heavy.throughput_tokens_per_second == pytest.approx(full.throughput_tokens_per_second, rel=0.06)


async def test_percentiles_come_with_their_samples() -> None:
    it = rig()
    await it.start(engines())
    few, many = await it.measure(measure(1)), await it.measure(measure(64, min_samples=459))
    assert few.itl_ms.p99_ms is None
    assert many.itl_ms.samples >= 459
    assert many.itl_ms.p99_ms is not None
    assert many.itl_ms.p99_ms > many.itl_ms.mean_ms


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (engines(2, SharingMode.MPS, kv_pool_bytes=40 * 10**9), "out of memory"),
        (engines(kv_pool_bytes=10**6), "do not hold one sequence of 2048 tokens"),
    ],
)
async def test_engines_that_do_not_fit_do_not_start(start: EngineConfiguration, reason: str) -> None:
    with pytest.raises(EngineFailed, match=reason):
        await rig().start(start)


async def test_the_same_seed_measures_the_same() -> None:
    points = []
    for _ in range(2):
        it = rig(seed=7)
        await it.start(engines())
        points.append(await it.measure(measure(64)))
    assert points[0] == points[1]
