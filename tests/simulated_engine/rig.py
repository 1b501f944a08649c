"""Lets the search drive a simulated engine: expectations with noise, seconds that only a number keeps.

Assumes a seeded `random.Random`. Can be made to misbehave as engines do. Must never wait in real time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_core.failure import EngineFailed, EngineFault, Failure
from slm_core.measurements import Latency, Ledger, Mark, Point, SharingMode
from slm_core.search.steps import EngineReport
from slm_core.slo import MIN_SAMPLES, Statistic

from tests.simulated_engine.physics import pool_bytes, steady_state

if TYPE_CHECKING:
    from random import Random

    from slm_core.configuration import EngineConfiguration
    from slm_core.search.steps import Measure

    from tests.simulated_engine.physics import Expected, Lengths, SimulatedEngine

WINDOW_SECONDS = 10.0
"""Usual length of a window until its interval is narrow enough."""
DEVIATIONS = {Statistic.P50: 0.0, Statistic.P90: 1.28, Statistic.P99: 2.33}
"""Standard deviations above the mean of each percentile of a normal distribution."""
SPREAD_NOISE_FRACTION = 0.05
"""Noise of a percentile's distance from the mean, over that distance."""
TTFT_SPREAD_FRACTION = 0.4
"""Spread of TTFT over its mean: newcomers meet a step at a random time."""


@dataclass(slots=True, kw_only=True)
class SimulatedRig:
    """A `Rig` in virtual time."""

    engine: SimulatedEngine
    lengths: Lengths
    random: Random
    dies_at: int | None = None
    """Batch size at which engines die."""
    refuses: frozenset[SharingMode] = frozenset()
    """Ways of sharing in which engines do not start."""
    download: float = 0.0
    """Seconds that the first start waits for the model."""
    board: dict[str, float] = field(default_factory=dict)
    """What every window sees of the board: fields of its point."""
    seconds: float = 0.0
    running: EngineConfiguration | None = None
    compiled: set[tuple[int, int | None]] = field(default_factory=set)
    _run_factor: float = field(default=1.0, init=False)
    _downloaded: float = field(default=0.0, init=False)

    async def start(self, on: EngineConfiguration) -> EngineReport:
        """Start R engines one after the other, if their slices hold them."""
        assert self.running is None, "stop first"
        seconds = self._start_seconds(on)
        self.seconds += sum(seconds) + self.download - self._downloaded
        self._downloaded = self.download
        pool = pool_bytes(self.engine, on)
        ledger = self._ledger(pool)
        if on.sharing_mode in self.refuses:
            raise EngineFailed(f"engine 1 of {on.engines_per_gpu} did not start under {on.sharing_mode}")
        if ledger.fixed_bytes + pool > self.engine.device_bytes / on.engines_per_gpu:
            raise EngineFailed(f"out of memory: {ledger.fixed_bytes + pool} bytes in a slice of 1/{on.engines_per_gpu}")
        if pool < self.engine.max_model_len * self.engine.kv_bytes_per_token:
            raise EngineFailed(
                f"{pool} bytes of KV cache do not hold one sequence of {self.engine.max_model_len} tokens"
            )
        states = pool // self.engine.state_bytes if self.engine.state_bytes else on.batch_size
        if on.batch_size > states:
            said = f"max_num_seqs ({on.batch_size}) exceeds available Mamba cache blocks ({states})"
            raise EngineFault(Failure.MEMORY, said, batch_size_limit=states)
        self.running = on
        self._run_factor = self.random.gauss(1, self.engine.noise_fraction / 2)
        return EngineReport(
            ledger=ledger, max_model_len=self.engine.max_model_len, version="simulated", seconds=seconds
        )

    async def measure(self, step: Measure) -> Point:
        """One window in steady state."""
        assert self.running is not None, "start first"
        on = self.running
        if self.dies_at is not None and step.batch_size >= self.dies_at:
            self.seconds += WINDOW_SECONDS
            self.running = None
            raise EngineFailed(f"the engine died at B={step.batch_size}")
        wanted = (step.in_flight or step.batch_size * on.engines_per_gpu) / on.engines_per_gpu
        width = min(wanted, step.batch_size)
        expected = steady_state(self.engine, self.lengths, on, width, waiting=wanted - width)
        request_seconds = (expected.ttft_ms + self.lengths.output_tokens_mean * expected.itl_ms) / 1000
        window = self._window_seconds(step, expected, request_seconds)
        self.seconds += request_seconds + window
        return self._point(step, on, expected, window)

    async def stop(self) -> None:
        """Nothing runs afterwards."""
        self.running = None

    def gpu_seconds(self) -> float:
        """Virtual seconds since the beginning."""
        return self.seconds

    def download_seconds(self) -> float:
        """All of the download, once it has been waited for."""
        return self._downloaded

    def _start_seconds(self, on: EngineConfiguration) -> tuple[float, ...]:
        """Of each engine; the first of its batch size and step budget compiles."""
        key = (on.batch_size, on.max_num_batched_tokens)
        compiling = 0.0 if key in self.compiled else self.engine.compile_seconds
        self.compiled.add(key)
        return tuple(self.engine.start_seconds + (0 if index else compiling) for index in range(on.engines_per_gpu))

    def _window_seconds(self, step: Measure, expected: Expected, request_seconds: float) -> float:
        if step.max_requests is not None:
            return step.max_requests * request_seconds / step.batch_size
        rate = expected.output_tokens_per_second / self.lengths.output_tokens_mean
        return max(WINDOW_SECONDS, step.min_samples * 1.1 / rate)

    def _point(self, step: Measure, on: EngineConfiguration, expected: Expected, window: float) -> Point:
        noise = self.random.gauss(1, self.engine.noise_fraction) * self._run_factor
        output = expected.output_tokens_per_second * on.engines_per_gpu * noise
        lengths, pool = self.lengths, pool_bytes(self.engine, on)
        requests = max(1, int(output * window / lengths.output_tokens_mean))
        peak = expected.held_tokens_peak * self.random.gauss(1, 0.15 / math.sqrt(10 + expected.running))
        used = peak * self.engine.kv_bytes_per_token / pool
        preemptions = math.ceil(expected.running * used) if used > 1 else 0
        itl_ms = expected.itl_ms / noise * self.random.gauss(1, self.engine.noise_fraction / 4)
        return Point(
            batch_size=step.batch_size,
            replicas=on.engines_per_gpu,
            sharing_mode=on.sharing_mode,
            in_flight=step.in_flight,
            max_num_batched_tokens=on.max_num_batched_tokens,
            throughput_tokens_per_second=output * (1 + lengths.input_tokens_mean / lengths.output_tokens_mean),
            output_tokens_per_second=output,
            throughput_ci_fraction=2 * self.engine.noise_fraction,
            itl_ms=self._latency(itl_ms, expected.itl_spread_fraction, requests),
            ttft_ms=self._latency(expected.ttft_ms / noise, TTFT_SPREAD_FRACTION, requests),
            kv_pool_bytes=pool,
            kv_peak_fraction=min(1.0, used),
            preemptions=preemptions,
            mean_running=expected.running * on.engines_per_gpu,
            window_seconds=window,
            requests=requests,
            input_tokens_mean=lengths.input_tokens_mean,
            output_tokens_mean=lengths.output_tokens_mean,
            marks=(Mark.PREEMPTED,) if preemptions else (),
            **self.board,
        )

    def _latency(self, mean_ms: float, spread: float, samples: int) -> Latency:
        known = {
            percentile: mean_ms * (1 + deviations * spread * self.random.gauss(1, SPREAD_NOISE_FRACTION))
            for percentile, deviations in DEVIATIONS.items()
            if samples >= MIN_SAMPLES[percentile]
        }
        return Latency(
            mean_ms=mean_ms,
            p50_ms=known.get(Statistic.P50),
            p90_ms=known.get(Statistic.P90),
            p99_ms=known.get(Statistic.P99),
            samples=samples,
        )

    def _ledger(self, pool: int) -> Ledger:
        engine = self.engine
        return Ledger(
            device_bytes=engine.device_bytes,
            weights_bytes=engine.weights_bytes,
            activation_peak_bytes=engine.activation_peak_bytes,
            context_bytes=engine.context_bytes,
            kv_bytes_per_token=engine.kv_bytes_per_token,
            kv_pool_bytes=pool,
            nvml_used_bytes=None,
        )
