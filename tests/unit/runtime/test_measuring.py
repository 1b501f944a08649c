"""What points of a running engine show: that it knew the prompts, and that its front end is behind."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slm_core.configuration import EngineConfiguration
from slm_core.failure import EngineFault, Failure
from slm_core.measurements import Mark, SharingMode
from slm_core.search.steps import Measure
from slm_runtime.engine_process import EngineProcess, Launch
from slm_runtime.launches import Subject
from slm_runtime.measuring import Conditions, Measurement
from slm_runtime.prompts import text_tokens
from slm_runtime.rig import EngineRig
from slm_runtime.window import Pace
from slm_runtime.workload import parse_lengths

PACE = Pace(poll_seconds=0.02, min_seconds=0.2, max_seconds=0.4)
SWEEP = EngineConfiguration(batch_size=8, max_num_batched_tokens=512)


def measure(batch_size: int = 4) -> Measure:
    return Measure(batch_size=batch_size, in_flight=None, max_requests=None, min_samples=0, because="a test")


@asynccontextmanager
async def running(model: Path, notes: list[str] | None = None) -> AsyncIterator[EngineRig]:
    command = (sys.executable, "-m", "light_engine")
    subject = Subject(model=str(model), served_name="m", command=command, timeout_seconds=60)
    rig = EngineRig(
        subject, parse_lengths("48", "8"), Conditions(pace=PACE), None, ([] if notes is None else notes).append
    )
    try:
        await rig.start(SWEEP)
        yield rig
    finally:
        await rig.stop()


def test_the_first_request_holds_text_as_every_prompt_does(model: Path) -> None:
    (model / "config.json").write_text('{"vocab_size": 8, "image_token_id": 5}')
    subject = Subject(model=str(model), served_name="m", command=("vllm", "serve"))
    rig = EngineRig(subject, parse_lengths("48", "8"), Conditions(pace=PACE), None, lambda _: None)
    assert set(rig._first_request()["prompt"]) <= set(text_tokens({"vocab_size": 8, "image_token_id": 5}))  # type: ignore[call-overload]


@pytest.mark.parametrize(("fraction", "count"), [(0.06, 1), (0.05, 0), (None, 0)])
def test_a_container_at_its_cpu_limit_is_said(fraction: float | None, count: int) -> None:
    point: Any = SimpleNamespace(errors=0, marks=(), cpu_throttled_fraction=fraction)
    measurement: Any = None
    assert len(list(Measurement.notes(measurement, point))) == count


@pytest.mark.parametrize(("failure", "tries"), [(Failure.PORT, 3), (Failure.DIED, 1)])
async def test_a_taken_port_is_tried_again(
    model: Path, monkeypatch: pytest.MonkeyPatch, failure: Failure, tries: int
) -> None:
    launches: list[Launch] = []

    async def fail(launch: Launch) -> EngineProcess:
        launches.append(launch)
        raise EngineFault(failure, "a test")

    monkeypatch.setattr("slm_runtime.rig.start_engine", fail)
    subject = Subject(model=str(model), served_name="m", command=("vllm", "serve"))
    rig = EngineRig(subject, parse_lengths("48", "8"), Conditions(pace=PACE), None, lambda _: None)
    with pytest.raises(EngineFault):
        await rig.start(SWEEP)
    assert len(launches) == tries


async def test_engines_that_share_cores_are_said_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: Launch) -> EngineProcess:
        raise EngineFault(Failure.NEVER_HEALTHY, "a test")

    monkeypatch.setattr("slm_runtime.rig.start_engine", fail)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    notes: list[str] = []
    subject = Subject(model=str(model), served_name="m", command=("vllm", "serve"))
    rig = EngineRig(subject, parse_lengths("48", "8"), Conditions(pace=PACE), None, notes.append)
    pack = replace(SWEEP, engines_per_gpu=2, sharing_mode=SharingMode.TIME_SLICING, kv_cache_bytes=1 << 26)
    for _ in range(2):
        with pytest.raises(EngineFault):
            await rig.start(pack)
    assert notes == ["2 engines share 1 core: what they gain here says little"]


@pytest.mark.slow
@pytest.mark.usefixtures("light_command")
async def test_no_measurement_meets_a_prompt_of_an_earlier_one(model: Path) -> None:
    async with running(model) as rig:
        for batch_size in (4, 4, 2):
            assert Mark.PREFIX_CACHE not in (await rig.measure(measure(batch_size))).marks
        counters = await rig._engines[0].counters()
        assert counters.prefix_queries > 48 * 8
        assert counters.prefix_hits == 0


@pytest.mark.usefixtures("light_command")
@pytest.mark.slow
async def test_prompts_that_the_engine_knew_are_marked_and_said(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    async with running(model, notes) as rig:
        monkeypatch.setattr(rig._seeds, "getrandbits", lambda _: 1)
        await rig.measure(measure())
        again = await rig.measure(measure())
    assert Mark.PREFIX_CACHE in again.marks
    assert not again.is_trusted
    assert any("prefix cache" in note for note in notes)


@pytest.mark.usefixtures("light_command")
@pytest.mark.slow
async def test_a_front_end_that_is_behind_costs_throughput(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its core counts short latencies all the while; only requests that are streamed show what clients wait for."""
    rates = {}
    for event_ms in (0, 100):
        monkeypatch.setenv("LIGHT_ENGINE_EVENT_MS", str(event_ms))
        async with running(model) as rig:
            point = await rig.measure(measure(8))
            rates[event_ms] = point.output_tokens_per_second
    assert rates[100] < 0.6 * rates[0], "ten answers a second, of eight tokens each"
