"""What an engine would do in steady state: a latency model of decoding, and no more of the world than that.

One step of B sequences costs the host a gap (scheduling, sampling) and the GPU a pass: weights are read once, the KV
cache of every sequence is read, and prompts of newcomers are prefilled in chunks. Sources: arXiv 2503.08311 (decode is
bound by DRAM bandwidth, the GPU idles between steps), arXiv 2404.03353. Engines that share a GPU queue for it like
machines for one repairman. Everything here is an expectation; noise is added by the rig. Must never be used to decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core.measurements import SharingMode

if TYPE_CHECKING:
    from slm_core.configuration import EngineConfiguration

BLOCK_TOKENS = 16
"""Tokens of one KV block."""
PEAK_DEVIATIONS = 2.5
"""How far above its mean the KV use peaks inside a window, in standard deviations."""
PREEMPTION_LOSS = 0.05
"""Throughput lost to recomputing what was preempted, as a fraction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Token lengths of a workload."""

    input_tokens_mean: float
    output_tokens_mean: float
    variation: float
    """Standard deviation of the lengths over their mean; 0: fixed lengths."""

    @property
    def held_tokens_mean(self) -> float:
        """Tokens that a running sequence holds at a random time; long sequences run longer, so they weigh more."""
        biased = self.output_tokens_mean * (1 + self.variation**2) / 2
        return self.input_tokens_mean + biased + BLOCK_TOKENS / 2

    @property
    def held_tokens_deviation(self) -> float:
        """Standard deviation of the same, for gamma-distributed outputs."""
        square = self.variation**2
        output = (1 + square) * (1 + 2 * square) / 3 - ((1 + square) / 2) ** 2
        return math.hypot(self.output_tokens_mean * math.sqrt(output), self.input_tokens_mean * self.variation)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedEngine:
    """One model served by one engine on one device."""

    name: str
    device_bytes: int
    weights_bytes: int
    activation_peak_bytes: int
    context_bytes: int
    kv_bytes_per_token: int
    max_model_len: int
    host_ms: float
    """Host work in each step."""
    host_ms_per_sequence: float
    weights_ms: float
    """Reading the weights once."""
    sequence_ms: float
    """Compute of one sequence's token; hidden behind the weights until they are outweighed."""
    kv_ms_per_token: float
    """Reading the KV cache of one held token."""
    prefill_ms_per_token: float
    chunk_ms: float = 0.2
    """Overhead of each prefill chunk."""
    queueing: float = 0.9
    """How far engines that share the GPU collide: 0 they take perfect turns, 1 they meet at random."""
    interference_fraction: float = 0.0
    """Growth of GPU time for each other engine under MPS."""
    slicing_fraction: float = 0.5
    """GPU time lost to time slicing with many engines."""
    tail_fraction: float = 0.03
    """Spread of requests' mean ITL that prefill does not explain."""
    noise_fraction: float = 0.005
    """Spread of repeated windows."""
    start_seconds: float = 40.0
    """Until an engine is ready that finds its step compiled."""
    compile_seconds: float = 0.0
    """What the first engine of a batch size and step budget takes on top."""
    state_bytes: int = 0
    """KV bytes that each sequence needs however short it is, as of models with a state."""
    utilization: float = 0.9
    """Part of the device that a lone engine takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Steady state of each of R like engines; rates are over one engine."""

    running: float
    """Sequences running; below the batch size where the KV pool cannot hold it."""
    itl_ms: float
    ttft_ms: float
    output_tokens_per_second: float
    itl_spread_fraction: float
    """Standard deviation of requests' mean ITL over its mean."""
    held_tokens_peak: float
    """Expected peak of the tokens that the batch wants to hold, whatever the pool."""
    preempts: bool


def pool_tokens(engine: SimulatedEngine, start: EngineConfiguration) -> float:
    """KV pool of each engine in tokens."""
    return pool_bytes(engine, start) / engine.kv_bytes_per_token


def pool_bytes(engine: SimulatedEngine, start: EngineConfiguration) -> int:
    """KV pool of each engine in bytes: as reported, else what a lone engine finds."""
    fixed = engine.weights_bytes + engine.activation_peak_bytes + engine.context_bytes
    return (
        start.kv_cache_bytes
        if start.kv_cache_bytes is not None
        else int(engine.device_bytes * engine.utilization) - fixed
    )


def steady_state(
    engine: SimulatedEngine, lengths: Lengths, start: EngineConfiguration, batch_size: float, waiting: float = 0
) -> Expected:
    """Expected figures of each engine of `start` with `batch_size` sequences running and `waiting` more in its queue."""
    peak = min(
        batch_size * lengths.held_tokens_mean + PEAK_DEVIATIONS * lengths.held_tokens_deviation * math.sqrt(batch_size),
        batch_size * engine.max_model_len,
    )
    room = pool_tokens(engine, start)
    preempts = peak > room
    running = batch_size * room / peak if preempts else batch_size
    assert start.max_num_batched_tokens is not None
    free = max(start.max_num_batched_tokens - running, BLOCK_TOKENS)
    chunks = max(1.0, lengths.input_tokens_mean / free)
    itl_ms = _shared_step_ms(engine, start, *_alone_ms(engine, lengths, running, chunks))
    chunk_ms = engine.chunk_ms + min(lengths.input_tokens_mean, free) * engine.prefill_ms_per_token
    ttft_ms = (0.5 + chunks) * itl_ms + chunks * chunk_ms
    request_ms = ttft_ms + (lengths.output_tokens_mean - 1) * itl_ms
    rate = 1000 * running * lengths.output_tokens_mean / request_ms * (1 - PREEMPTION_LOSS * preempts)
    collisions = chunk_ms * math.sqrt(running) / (lengths.output_tokens_mean * itl_ms)
    return Expected(
        running=running,
        itl_ms=itl_ms,
        ttft_ms=ttft_ms + (waiting + batch_size - running) * request_ms / running,
        output_tokens_per_second=rate,
        itl_spread_fraction=math.hypot(engine.tail_fraction, collisions),
        held_tokens_peak=peak,
        preempts=preempts,
    )


def _alone_ms(engine: SimulatedEngine, lengths: Lengths, running: float, chunks: float) -> tuple[float, float]:
    """Host and GPU time of one step of an engine alone, its part of the newcomers' prefill included."""
    host_ms = engine.host_ms + engine.host_ms_per_sequence * running
    compute_ms = running * engine.sequence_ms
    layers_ms = (engine.weights_ms**4 + compute_ms**4) ** 0.25  # the larger of the two, with a soft corner
    newcomers = running / lengths.output_tokens_mean
    prompt_ms = lengths.input_tokens_mean * engine.prefill_ms_per_token + chunks * engine.chunk_ms
    cache_ms = running * lengths.held_tokens_mean * engine.kv_ms_per_token
    return host_ms, layers_ms + cache_ms + newcomers * prompt_ms


def _shared_step_ms(engine: SimulatedEngine, start: EngineConfiguration, host_ms: float, gpu_ms: float) -> float:
    """Step time of each of R engines that queue for one GPU, between perfect turns and random meetings."""
    others = start.engines_per_gpu - 1
    if start.sharing_mode is SharingMode.TIME_SLICING:
        gpu_ms *= 1 + engine.slicing_fraction * others / start.engines_per_gpu
    else:
        gpu_ms *= 1 + engine.interference_fraction * others
    turns = max(host_ms + gpu_ms, start.engines_per_gpu * gpu_ms)
    queue, random = 0.0, 0.0
    for engines in range(1, start.engines_per_gpu + 1):
        served = gpu_ms * (1 + queue)
        random = host_ms + served
        queue = engines * served / random
    return engine.queueing * random + (1 - engine.queueing) * turns
