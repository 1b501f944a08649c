"""Random engines and questions, and what is true of them: the simulation itself knows what the search has to find out.

Figures are those of `tests.simulated_engine`, without noise. Must never know how a search goes about it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core.configuration import EngineConfiguration
from slm_core.measurements import SharingMode
from slm_core.search.steps import Request
from slm_core.slo import Slo, Statistic
from slm_core.units import GIB

from tests.simulated_engine.physics import Lengths, SimulatedEngine, pool_tokens, steady_state
from tests.simulated_engine.rig import DEVIATIONS, SPREAD_NOISE_FRACTION, TTFT_SPREAD_FRACTION

if TYPE_CHECKING:
    from random import Random

    from tests.simulated_engine.physics import Expected

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
        max_engines=4,
        max_model_len=engine.max_model_len,
    )
    return Case(engine=engine, lengths=lengths, request=request)


def _slo(random: Random, engine: SimulatedEngine, lengths: Lengths) -> Slo:
    percentile = random.choices(list(Statistic), (6, 1, 1, 1))[0]
    kind = random.choices(("factor", "absolute", "ttft", "none"), (4, 4, 1, 1))[0]
    somewhere = steady_state(engine, lengths, alone(8192), math.exp(random.uniform(math.log(2), math.log(400))))
    if kind == "factor":
        return Slo(itl_factor=random.uniform(1.2, 6), itl_statistic=percentile)
    if kind == "absolute":
        return Slo(itl_ms=somewhere.itl_ms * random.uniform(0.95, 1.3), itl_statistic=percentile)
    if kind == "ttft":
        return Slo(
            itl_ms=somewhere.itl_ms * 1.2,
            ttft_ms=somewhere.ttft_ms * random.uniform(0.9, 1.5),
            itl_statistic=percentile,
            ttft_statistic=percentile,
        )
    return Slo()


def alone(max_num_batched_tokens: int) -> EngineConfiguration:
    """One engine with all the memory."""
    return start(1, SharingMode.EXCLUSIVE, max_num_batched_tokens, None)


def start(
    replicas: int, mode: SharingMode, max_num_batched_tokens: int, kv_pool_bytes: int | None
) -> EngineConfiguration:
    return EngineConfiguration(
        batch_size=1,
        kv_cache_bytes=kv_pool_bytes,
        max_num_batched_tokens=max_num_batched_tokens,
        engines_per_gpu=replicas,
        sharing_mode=mode,
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

    def state(self, on: EngineConfiguration, batch_size: int) -> Expected:
        """Noise-free figures of each engine."""
        return steady_state(self.case.engine, self.case.lengths, on, batch_size)

    def excess_fraction(self, expected: Expected) -> float:
        """By how much the worst latency exceeds its limit; negative: it keeps it."""
        deviations = DEVIATIONS.get(self.slo.itl_statistic, 0.0)
        itl_ms = expected.itl_ms * (1 + deviations * expected.itl_spread_fraction)
        ttft_ms = expected.ttft_ms * (1 + deviations * TTFT_SPREAD_FRACTION)
        return max(itl_ms / self.itl_limit_ms, ttft_ms / (self.slo.ttft_ms or math.inf)) - 1 + self.margin_fraction

    def noise_fraction(self) -> float:
        """Deviation of a measured figure from its limit: its window, its start, its percentile, and a measured limit."""
        apart = DEVIATIONS.get(self.slo.itl_statistic, 0.0) * (TTFT_SPREAD_FRACTION if self.slo.ttft_ms else 0.1)
        figure = math.hypot(self.case.engine.noise_fraction * 1.15, SPREAD_NOISE_FRACTION * apart / (1 + apart))
        return figure * (math.sqrt(2) if self.slo.itl_factor else 1)

    def best_single(self) -> float:
        """Output tokens per second of the best batch size, all of them and both step budgets tried."""
        request = self.case.request
        budgets = {request.max_num_batched_tokens}
        if self.slo.ttft_ms is not None or self.slo.itl_statistic is not Statistic.MEAN:
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
        for replicas in range(2, request.max_engines + 1):
            room = engine.device_bytes // replicas - fixed
            if room < floor:
                break
            on = start(replicas, SharingMode.MPS, request.max_num_batched_tokens, room)
            top = max([top, *(replicas * self._rate(on, size) for size in sizes(largest))])
        return top

    def _rate(self, on: EngineConfiguration, size: int) -> float:
        expected = self.state(on, size)
        efficient = (
            on.engines_per_gpu > 1
            or expected.output_tokens_per_second > self.case.request.min_efficiency * size * self.one
        )
        roomy = expected.held_tokens_peak <= 0.98 * pool_tokens(self.case.engine, on)
        return expected.output_tokens_per_second if roomy and efficient and self.excess_fraction(expected) <= 0 else 0.0


def sizes(largest: int) -> list[int]:
    """Every batch size up to 64, then steps of 2 %."""
    found = list(range(1, min(largest, 64) + 1))
    while found and found[-1] < largest:
        found.append(min(largest, math.ceil(found[-1] * 1.02)))
    return found
