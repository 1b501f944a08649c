"""One engine during decode: what its board does, where its memory goes, what CPUs and streaming cost it.

One start with graphs serves all windows; a second one, eager, is only for its memory. CPUs are taken away by affinity,
which is no quota: an engine with two CPUs here is not throttled as a container's would be. Must never change clocks,
power limits or any other setting of the board.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from slm_core.engines.base import Options
from slm_core.engines.registry import command_and_arguments, engine_of
from slm_core.failure import EngineFault, Failure
from slm_runtime import host, nvml
from slm_runtime.engine_process import EngineProcess, Launch, start_engine
from slm_runtime.ledger import Observed, kv_bytes_per_token, make_ledger, read_config
from slm_runtime.load import ClosedLoop
from slm_runtime.processes import group_of
from slm_runtime.prompts import text_tokens
from slm_runtime.tokenizer import identify
from slm_runtime.window import Scrape, facts
from slm_runtime.workload import Lengths, parse_lengths, usable

from benchmarks.gpu_stages.job import Unavailable
from benchmarks.gpu_stages.machine import Kind
from benchmarks.gpu_stages.shapes import write_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from slm_runtime.nvml import Device, Reading

    from benchmarks.gpu_stages.job import Job

READ_SECONDS = 0.1
"""Between two readings of the board."""
SCRAPE_SECONDS = 0.5
OPEN_SECONDS = 60.0
DRAIN_SECONDS = 15.0
TICKS = os.sysconf("SC_CLK_TCK")
CPU_KV_BYTES = 256 * 2**20
"""KV pool of an engine without a GPU, which would otherwise take the machine."""
BATCHED_TOKENS = 8192


async def run(job: Job) -> None:
    """With graphs: memory, the board at each B, streams, CPUs. Then the memory of an eager engine."""
    scale = job.scale
    job.keep("model", scale.published.like)
    model = write_model(scale.published, Path(job.folder))
    with nvml.device() as device:
        bench = _Bench(job, model, device)
        async with bench.engine() as engine:
            await job.figure("ledger_with_graphs", lambda: bench.ledger(engine))
            for size in scale.batch_sizes:
                await job.figure(f"board_at_{size}", _bound(bench.hold, engine, size))
            await job.figure("all_watched", lambda: bench.hold(engine, scale.batch_sizes[-1], watched=True))
            for count in scale.cpus:
                await job.figure(f"on_{count}_cpus", _bound(bench.hold_on, engine, count))
        async with bench.engine("--enforce-eager") as engine:
            await job.figure("ledger_eager", lambda: bench.ledger(engine))


def _bound(measure: Callable[..., Awaitable[Any]], engine: EngineProcess, number: int) -> Callable[[], Awaitable[Any]]:
    return lambda: measure(engine, number)


@dataclass(frozen=True, slots=True)
class _Spent:
    """CPU time of the engine and of the load generator until a moment, in seconds."""

    engine: float
    client: float


class _Bench:
    """The model, the device and the lengths of requests."""

    def __init__(self, job: Job, model: Path, device: Device | None) -> None:
        self._job = job
        self._model = model
        self._device = device
        self._config = read_config(str(model))
        self._used_before = 0
        self._windows = 0

    @contextlib.asynccontextmanager
    async def engine(self, *more: str) -> AsyncIterator[EngineProcess]:
        """An engine at the largest B, gone at the end."""
        command, arguments = command_and_arguments(self._job.engine)
        kind = engine_of(command)
        options = Options(
            model=str(self._model),
            served_name="m",
            batch_size=self._job.scale.batch_sizes[-1],
            max_num_batched_tokens=BATCHED_TOKENS,
            kv_bytes=None if self._job.kind is Kind.GPU else CPU_KV_BYTES,
            memory_fraction=None,
            fixed=(*arguments, "--load-format", "dummy", *more),
            left_out=tuple(kind.optional_flags),  # nothing is served here, and the engine may be an old one
        )
        self._used_before = self._device.read().used_bytes if self._device else 0
        words = (*command, *kind.arguments(command, options))
        launch = Launch(kind=kind, command=words, timeout_seconds=self._job.seconds)
        engine = await start_engine(launch)
        try:
            yield engine
        finally:
            await engine.stop()

    async def ledger(self, engine: EngineProcess) -> dict[str, Any]:
        """The product's ledger of this engine, and what NVML shows beside it."""
        if self._device is None:
            used = host.resident_bytes(group_of(engine.pid))
        else:
            used = self._device.read().used_bytes - self._used_before
        report = await engine.memory()
        seen = Observed(
            report=report,
            computed_kv_bytes_per_token=kv_bytes_per_token(self._config, report.kv_dtype),
            weights_on_disk=None,
            device_bytes=self._device.memory_bytes if self._device else host.memory_bytes(),
            used_bytes=used,
            is_gpu=self._device is not None,
        )
        ledger, notes = make_ledger(seen)
        # NB: where the log does not say what was consumed, the context is NVML's rest, and the sum proves nothing.
        said = {f"log_says_{name}_bytes": value for name, value in asdict(report.log).items()}
        added = {"sum_bytes": ledger.fixed_bytes + ledger.kv_pool_bytes, "notes": list(notes)}
        return {**asdict(ledger), **added, **said, "engine_version": (await identify(engine)).version}

    async def hold(self, engine: EngineProcess, batch_size: int, *, watched: bool = False) -> dict[str, Any]:
        """One window of full batches: the engine's counters, the board's readings, CPU time of both sides."""
        self._windows += 1
        async with ClosedLoop([engine.url], "m", self._lengths(), self._tokens, seed=self._windows) as loop:
            before = await _scrape(engine)
            if watched:
                loop.open_window(0.0, watched=batch_size)
            loop.start(batch_size, None)
            await _until_open(engine, before, loop, batch_size)
            began, spent = time.monotonic(), _spent(engine)
            with self._reading() as readings:
                window = await _window(engine, self._job.scale.hold_seconds)
            took, spent_now = time.monotonic() - began, _spent(engine)
            errors = loop.errors
        await _drained(engine)
        found = facts(window)
        return {
            "b": batch_size,
            "output_tokens_per_second": found.delta.output_tokens_per_second,
            "itl_ms": found.delta.mean_ms("itl") or 0.0,
            "mean_running": found.mean_running,
            "window_seconds": found.delta.seconds,
            "errors": errors,
            "watched": watched,
            "engine_cores": (spent_now.engine - spent.engine) / took,
            "client_cores": (spent_now.client - spent.client) / took,
            **board(await readings),
        }

    async def hold_on(self, engine: EngineProcess, count: int) -> dict[str, Any]:
        """The same with the engine on so many CPUs, and the load generator on others."""
        cores = sorted(os.sched_getaffinity(0))
        needed = count + 1 if self._job.kind is Kind.GPU else count
        if len(cores) < needed:
            raise Unavailable(f"it takes {needed} CPUs with the load generator's, {len(cores)} are here")
        mine = cores[count:] or cores
        try:
            _pin(group_of(engine.pid), cores[:count])
            _pin([os.getpid()], mine)
            return {"cpus": count, **await self.hold(engine, self._job.scale.batch_sizes[-1])}
        finally:
            _pin([*group_of(engine.pid), os.getpid()], cores)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[asyncio.Task[list[Reading]]]:
        """Readings of the board for as long as the block lasts; the task that this gives has them then."""
        over = asyncio.Event()
        task = asyncio.create_task(_readings(self._device, over))
        try:
            yield task
        finally:
            over.set()

    def _lengths(self) -> Lengths:
        drawn = parse_lengths(*self._job.scale.lengths)
        return usable(drawn.pairs, drawn.source, self._config["max_position_embeddings"])

    @property
    def _tokens(self) -> tuple[int, ...]:
        return text_tokens(self._config)


def board(readings: Sequence[Reading]) -> dict[str, Any]:
    """What NVML showed in a window: power, clocks, and in which share of the readings each reason lowered the clocks."""
    if not readings:
        return {"readings": 0}
    watts = [reading.power_watts for reading in readings if reading.power_watts is not None]
    clocks = [reading.sm_clock_mhz for reading in readings if reading.sm_clock_mhz is not None]
    reasons = Counter(reason for reading in readings for reason in reading.slowed_by or ())
    return {
        "readings": len(readings),
        "mean_power_watts": fmean(watts) if watts else None,
        "highest_power_watts": max(watts, default=None),
        "mean_sm_clock_mhz": fmean(clocks) if clocks else None,
        "lowest_sm_clock_mhz": min(clocks, default=None),
        "slowed_share": {reason: count / len(readings) for reason, count in sorted(reasons.items())},
    }


async def _readings(device: Device | None, over: asyncio.Event) -> list[Reading]:
    found = []
    while device and not over.is_set():
        found.append(device.read())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), READ_SECONDS)
    return found


async def _scrape(engine: EngineProcess) -> Scrape:
    return Scrape(at=time.monotonic(), counters=await engine.counters())


async def _until_open(engine: EngineProcess, before: Scrape, loop: ClosedLoop, width: int) -> None:
    """Every request in flight has had its first token, or a minute is over. Raises EngineFault when all are refused."""
    now = before
    while now.counters.ttft_count - before.counters.ttft_count < width and now.at - before.at < OPEN_SECONDS:
        await asyncio.sleep(0.1)
        now = await _scrape(engine)
        if loop.errors >= width and not loop.answered:
            raise EngineFault(Failure.ANSWERS_ERRORS, f"{loop.errors} requests failed: {loop.last_errors[-1]}")


async def _window(engine: EngineProcess, seconds: float) -> list[Scrape]:
    window = [await _scrape(engine)]
    while window[-1].at - window[0].at < seconds:
        await asyncio.sleep(min(SCRAPE_SECONDS, seconds / 4))
        window.append(await _scrape(engine))
    return window


async def _drained(engine: EngineProcess) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS
    while (await engine.counters()).running and time.monotonic() < deadline:  # noqa: ASYNC110 - another process's state
        await asyncio.sleep(0.1)


def _spent(engine: EngineProcess) -> _Spent:
    ticks = 0
    for pid in group_of(engine.pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return _Spent(ticks / TICKS, time.process_time())


def _pin(pids: Sequence[int], cores: Sequence[int]) -> None:
    """All threads that these processes have now; the next ones inherit it."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread.name), cores)
