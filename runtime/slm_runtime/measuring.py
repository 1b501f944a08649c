"""One point: load running engines until their window is steady, and say what it showed.

Exists apart from the rig, which starts and stops engines, because a point knows nothing of how engines came to run.
Assumes that the engines idle before and are left idle after. Must never hide a doubt: it marks the point, or fails.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slm_core.counters import CounterDelta, over_engines
from slm_core.failure import EngineFault, Failure
from slm_core.measurements import Mark, Point
from slm_core.slo import ITL, METRICS, means_between

from slm_runtime import host
from slm_runtime.board import board_over
from slm_runtime.load import ClosedLoop
from slm_runtime.processes import group_of
from slm_runtime.window import Pace, Scrape, facts, is_open, latency, marks, may_close

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_core.configuration import EngineConfiguration
    from slm_core.search.steps import Measure
    from slm_core.slo import Metric

    from slm_runtime.board import Board
    from slm_runtime.engine_process import EngineProcess
    from slm_runtime.nvml import Device, Reading
    from slm_runtime.window import Facts
    from slm_runtime.workload import Lengths

OPEN_SECONDS = 120.0
"""A loop that is not full after so long is measured as it is, and marked for what waits."""
DRAIN_SECONDS = 15.0
CPU_THROTTLED_FRACTION = 0.05
"""Of a window; above it the CPU limit is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The engines that run, and what they are asked for."""

    engines: tuple[EngineProcess, ...]
    on: EngineConfiguration
    kv_pool_bytes: int
    """Of each engine."""
    served_name: str
    tokens: tuple[int, ...]
    """Ids that prompts are made of."""
    lengths: Lengths
    device: Device | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How to measure, whatever is measured."""

    pace: Pace
    limited: tuple[Metric, ...] = ()
    """What the SLO limits besides ITL: its percentile needs as many samples."""
    seed: int = 0
    """Of all that is drawn. NB: another one for each profile, or a cache that outlives engines knows the prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUse:
    """CPU time until a moment, or over a window: of all engines together, and of the container's quota."""

    seconds: float
    periods: int
    throttled: int

    @classmethod
    def now(cls, engines: tuple[EngineProcess, ...]) -> CpuUse:
        """Until now."""
        periods, throttled = host.cpu_periods()
        seconds = sum(host.cpu_seconds(group_of(engine.pid)) for engine in engines)
        return cls(seconds=seconds, periods=periods, throttled=throttled)

    def since(self, before: CpuUse) -> CpuUse:
        """What came on top. A process that has ended takes its time with it."""
        return CpuUse(
            seconds=max(0.0, self.seconds - before.seconds),
            periods=self.periods - before.periods,
            throttled=self.throttled - before.throttled,
        )

    @property
    def throttled_fraction(self) -> float | None:
        """None without a quota."""
        return self.throttled / self.periods if self.periods > 0 else None


class Measurement:
    """One point being taken."""

    def __init__(self, running: Running, step: Measure, conditions: Conditions, seed: int) -> None:
        """`seed`: of this measurement alone."""
        self._running = running
        self._step = step
        self._pace = conditions.pace
        self._limited = conditions.limited
        urls = [engine.url for engine in running.engines]
        self._loop = ClosedLoop(urls, running.served_name, running.lengths, running.tokens, seed)
        self._loop.headers = running.engines[0].headers
        self._window: list[Scrape] = []
        self._readings: list[Reading] = []
        self._cpu: CpuUse
        self._last_progress: Scrape
        self._found: Facts

    def notes(self, point: Point) -> Iterator[str]:
        """What is to be said of it beside its marks."""
        if point.errors:
            yield f"{point.errors} requests failed, the last one by {self._loop.last_errors[-1]}"
        if Mark.PREFIX_CACHE in point.marks:
            yield f"{self._found.prefix_hit_fraction:.0%} of the prompts' tokens came from the engine's prefix cache, though no prompt was sent twice"
        if Mark.CLIENT in point.marks:
            yield f"the load generator itself needed {self._found.client_core_fraction:.0%} of a core"
        if (point.cpu_throttled_fraction or 0) > CPU_THROTTLED_FRACTION:
            share = f"in {point.cpu_throttled_fraction:.0%} of the window"
            yield f"the container had used up its CPU limit {share}: give it more CPU"

    async def take(self) -> Point:
        """Load, wait, read. Raises EngineFault when the engines die, hang or refuse."""
        step = self._step
        async with self._loop as loop:
            before = await self._scrape()
            width = loop.start(step.batch_size if step.in_flight is None else None, step.in_flight)
            await self._until_open(before, width)
            await self._hold_window()
            found, errors = facts(self._window, loop.sample.core_fraction()), loop.errors
        await self._drain()
        self._found = found
        board = board_over(self._readings, found.ci_fraction)
        doubts = marks(
            found,
            errors=errors,
            width=width,
            may_wait=step.in_flight is not None,
            throttled=board.is_slowed,
        )
        return replace(self._point(found, board, doubts), errors=errors, marks=doubts)

    async def _until_open(self, before: Scrape, width: int) -> None:
        needed = min(width, self._step.batch_size * len(self._running.engines))
        now = self._last_progress = before
        while not is_open(now.counters, before.counters, needed) and now.at - before.at < OPEN_SECONDS:
            now = await self._poll()
        itl = (CounterDelta.between(before.counters, now.counters, now.at - before.at).mean_ms("itl") or 0.0) / 1000
        self._loop.open_window(itl)

    async def _hold_window(self) -> None:
        began = CpuUse.now(self._running.engines)
        self._window = [await self._scrape()]
        self._read_device()
        while not may_close(self._window, self._pace, self._step.max_requests, enough_samples=self._enough()):
            self._window.append(await self._poll())
            self._read_device()
        self._cpu = CpuUse.now(self._running.engines).since(began)

    def _enough(self) -> bool:
        sample, needed = self._loop.sample, self._step.min_samples
        return all(len(sample.of(metric)) >= needed for metric in (ITL, *self._limited))

    def _read_device(self) -> None:
        if self._running.device:
            self._readings.append(self._running.device.read())

    async def _poll(self) -> Scrape:
        await asyncio.sleep(self._pace.poll_seconds)
        now = await self._scrape()
        loop, counters = self._loop, now.counters
        if loop.errors >= 10 and not loop.answered:
            raise EngineFault(
                Failure.ANSWERS_ERRORS, f"{loop.errors} requests failed, none succeeded: {loop.last_errors[-1]}"
            )
        silence = now.at - self._last_progress.at
        if counters.output_tokens > self._last_progress.counters.output_tokens:
            self._last_progress = now
        elif silence > self._pace.hang_seconds:
            raise EngineFault(
                Failure.HANGS,
                f"no token for {silence:.0f} s with {counters.running:.0f} running and {counters.waiting:.0f} waiting requests",
            )
        return now

    async def _scrape(self) -> Scrape:
        began = time.monotonic()
        counters = over_engines(await asyncio.gather(*(engine.counters() for engine in self._running.engines)))
        return Scrape(at=(began + time.monotonic()) / 2, counters=counters)

    async def _drain(self) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline:
            counters = (await self._scrape()).counters
            if not counters.running and not counters.waiting:
                return
            await asyncio.sleep(0.1)
        raise EngineFault(Failure.HANGS, f"abandoned requests still run after {DRAIN_SECONDS:.0f} s")

    @property
    def _most_running(self) -> int:
        """Sequences that can run at once: as the engines take, and as are sent."""
        slots = self._step.batch_size * self._running.on.engines_per_gpu
        return slots if self._step.in_flight is None else min(slots, self._step.in_flight)

    def _point(self, found: Facts, board: Board, doubts: tuple[Mark, ...]) -> Point:
        running, sample, delta = self._running, self._loop.sample, found.delta
        means = {ITL.field: 0.0} | means_between(delta)
        latencies: dict[str, Any] = {
            m.field: latency(means[m.field], sample.of(m)) for m in METRICS if m.field in means
        }
        # Prompt tokens come in lumps: by the workload's own ratio they add no noise of their own.
        total_per_output = 1 + running.lengths.input_mean / running.lengths.output_mean
        return Point(
            batch_size=self._step.batch_size,
            replicas=running.on.engines_per_gpu,
            sharing_mode=running.on.sharing_mode,
            in_flight=self._step.in_flight,
            max_num_batched_tokens=running.on.max_num_batched_tokens,
            throughput_tokens_per_second=delta.output_tokens_per_second * total_per_output,
            output_tokens_per_second=delta.output_tokens_per_second,
            throughput_ci_fraction=found.ci_fraction,
            **latencies,
            kv_pool_bytes=running.kv_pool_bytes,
            kv_peak_fraction=found.kv_peak_fraction,
            preemptions=found.preemptions,
            # The gauge is a sample of a few dozen scrapes, the counters are exact: where the sample does not contradict
            # them (or the point is marked), theirs is the better figure; no more run than may.
            mean_running=found.mean_running
            if Mark.LITTLES_LAW in doubts
            else min(found.decoding + found.prefilling, float(self._most_running)),
            window_seconds=delta.seconds,
            requests=found.requests,
            input_tokens_mean=found.input_tokens_mean or running.lengths.input_mean,
            output_tokens_mean=found.output_tokens_mean or running.lengths.output_mean,
            energy_joules=board.energy_joules,
            mean_power_watts=board.mean_power_watts,
            mean_sm_clock_mhz=board.mean_sm_clock_mhz,
            power_capped_fraction=board.power_capped_fraction,
            mean_cpu_cores=self._cpu.seconds / delta.seconds / len(running.engines),
            cpu_throttled_fraction=self._cpu.throttled_fraction,
        )
