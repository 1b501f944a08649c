"""What can be said before anything is measured: memory ledger, expected T(B), feasible batches.

    one step = host + active weights / bandwidth + B (host per sequence + KV of one sequence / bandwidth)

A decode step reads all active weights once and the KV cache of every sequence, so time per step is a line in B, as
measured. A pure roofline is optimistic by 1.5-3.6x; the calibration below is fitted to published sweeps. Assumes
steady decoding with mean lengths. Must never justify a pack: only a measurement does, and every figure says that it
is an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core.batching import KV_TARGET_FRACTION
from slm_core.candidates import Source
from slm_core.engines.registry import default
from slm_core.measurements import Engine, Gpu, Latency, Ledger, MeasurementDocument, Model, Point
from slm_core.units import GIB

from slm_operator.advisor.advise import answer
from slm_operator.advisor.validate import AdviceError, Problem

if TYPE_CHECKING:
    from slm_core.architecture import Architecture
    from slm_core.measurements import Workload
    from slm_core.slo import Slo

    from slm_operator.advisor.advice import Advice, Settings
    from slm_operator.estimator.gpus import Accelerator

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
ENGINE = default()
"""Nothing names an engine before anything is measured."""
PACK_IDLE_FRACTION = 0.15
"""A pack looks worth measuring where the host, not the memory, takes at least this part of a step at the largest batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What separates engines from rooflines, fitted to the published sweeps of OPT-1.3B, OPT-2.7B and Llama-2-7B.

    By the least mean error of throughput over all their batches. The engine of those sweeps is of 2024: newer ones are faster,
    so estimates tend to be careful.
    """

    weight_bandwidth_fraction: float = 0.82
    """Of the data sheet's bandwidth, while weights are read."""
    kv_bandwidth_fraction: float = 0.46
    """The same while KV blocks are gathered."""
    host_ms_per_layer: float = 0.091
    """Launches and bookkeeping of one step."""
    host_ms_per_sequence: float = 0.045
    """Sampling, detokenising and scheduling of one sequence, and its part of prefill."""


PUBLISHED = Calibration()


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """All that is known without a measurement."""

    ledger: Ledger
    points: tuple[Point, ...]
    """Estimated figures of one engine at each batch that the memory allows."""
    largest_batch_size: int
    """The most sequences of mean length that fit; 0 when not even the weights do."""
    pack_worth_measuring: bool
    because: str
    """Why, or why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is estimated: a model on a GPU under a workload."""

    model: Architecture
    gpu: Accelerator
    workload: Workload
    """Mean output length at least 1."""
    calibration: Calibration = PUBLISHED
    max_model_len: int | None = None
    """Longest sequence in tokens, of which the engine's pool must hold one. None: not known."""
    weights_from: str = "the model's configuration"
    """What the weights were counted from, in words."""
    not_followed: tuple[str, ...] = ()
    """Arguments of the engine that change its memory in a way that nothing here computes."""

    def host_ms(self, batch: int) -> float:
        """Part of a step in which the GPU waits for the host."""
        return self.calibration.host_ms_per_layer * self.model.layers + self.calibration.host_ms_per_sequence * batch

    def memory_ms(self, batch: int) -> float:
        """Part of a step in which weights and the KV cache of half-way sequences are read."""
        per_ms = self.gpu.bytes_per_second / 1000
        half_way = self.workload.input_tokens_mean + self.workload.output_tokens_mean / 2
        weights = self._read_bytes(batch) / (per_ms * self.calibration.weight_bandwidth_fraction)
        cache = batch * self.model.kv_bytes_per_sequence(half_way)
        return weights + cache / (per_ms * self.calibration.kv_bandwidth_fraction)

    def itl_ms(self, batch: int) -> float:
        """Time of one decode step."""
        return self.host_ms(batch) + self.memory_ms(batch)

    @property
    def sequence_tokens(self) -> float:
        """Mean length of a finished sequence."""
        return self.workload.input_tokens_mean + self.workload.output_tokens_mean

    def _read_bytes(self, batch: int) -> float:
        """Weights that a step reads: with experts, the more sequences the more of them are wanted."""
        model = self.model
        always = model.active_bytes - model.expert_share * model.expert_bytes
        return always + model.expert_bytes * (1 - (1 - model.expert_share) ** batch)


def estimate(subject: Subject) -> Estimate:
    """Ledger and T(B) of one engine that has the GPU to itself."""
    ledger = estimate_ledger(subject.model, subject.gpu)
    sequence_bytes = subject.model.kv_bytes_per_sequence(subject.sequence_tokens)
    largest = int(ledger.kv_pool_bytes * KV_TARGET_FRACTION / sequence_bytes)
    points = tuple(_point(subject, ledger, size) for size in BATCH_SIZES if size <= largest)
    worth, because = _pack_looks_worth(subject, ledger, points)
    return Estimate(
        ledger=ledger, points=points, largest_batch_size=largest, pack_worth_measuring=worth, because=because
    )


def estimate_ledger(model: Architecture, gpu: Accelerator) -> Ledger:
    """Memory of one engine that has the GPU to itself."""
    overheads = ENGINE.overheads
    logits = overheads.sampled_sequences * model.vocabulary * 4 * 2
    activations = ENGINE.smallest_token_budget * 8 * model.hidden_size * 2 + logits
    fixed = model.weights_bytes + activations + overheads.context_bytes
    return Ledger(
        device_bytes=gpu.memory_bytes,
        weights_bytes=model.weights_bytes,
        activation_peak_bytes=activations,
        context_bytes=overheads.context_bytes,
        kv_bytes_per_token=model.kv_bytes_per_token,
        kv_pool_bytes=max(0, int(gpu.memory_bytes * overheads.memory_fraction) - fixed),
    )


def advise_unmeasured(uri: str, subject: Subject, slo: Slo, settings: Settings) -> Advice:
    """Advice from an estimate, labelled Estimated: one engine per GPU, unless the user chose a number.

    Raises AdviceError, as `advise` does; also when not one sequence fits the GPU, of mean or of the longest length.
    """
    guess, gpu = estimate(subject), subject.gpu
    if problem := _too_large(subject, guess):
        raise AdviceError((problem,))
    document = MeasurementDocument(
        model=Model(uri=uri, max_model_len=subject.max_model_len),
        engine=Engine(name=ENGINE.name, version="unmeasured"),
        gpu=Gpu(product=gpu.product, memory_bytes=gpu.memory_bytes),
        workload=subject.workload,
        ledger=guess.ledger,
        points=guess.points,
        provenance=f"estimated: {gpu.source}",
    )
    notes = [f"This is an estimate from {subject.weights_from} ({gpu.source}), not a measurement.", guess.because]
    if subject.not_followed:
        notes.insert(1, f"It does not follow {', '.join(subject.not_followed)}, which changes memory too.")
    return answer(document, slo, settings, Source.ESTIMATED, tuple(notes))


def _too_large(subject: Subject, guess: Estimate) -> Problem | None:
    """Why the engine would not start, or could serve nobody."""
    gpu, ledger = subject.gpu, guess.ledger
    if not guess.points:
        need, have = f"{ledger.fixed_bytes / GIB:.1f} GiB", f"{gpu.memory_bytes / GIB:.1f} GiB"
        because = f"an engine is estimated to need {need} before its first sequence, and {gpu.product} has {have}"
        return Problem("model", because, "use a larger GPU, or a quantised model")
    longest = subject.max_model_len
    if longest is None:
        return None
    need_bytes = ENGINE.sequence_kv_tokens(longest) * ledger.kv_bytes_per_token
    if need_bytes <= ledger.kv_pool_bytes:
        return None
    because = (
        f"one sequence of {longest:,} tokens is estimated to need {need_bytes / GIB:.1f} GiB of KV, "
        f"and {gpu.product} has {ledger.kv_pool_bytes / GIB:.1f} GiB for it"
    )
    return Problem("engine.maxModelLen", because, "give a smaller spec.engine.maxModelLen, or use a larger GPU")


def _point(subject: Subject, ledger: Ledger, batch: int) -> Point:
    step, workload = subject.itl_ms(batch), subject.workload
    output = 1000 * batch / step
    return Point(
        batch_size=batch,
        throughput_tokens_per_second=output * subject.sequence_tokens / workload.output_tokens_mean,
        output_tokens_per_second=output,
        throughput_ci_fraction=0.0,  # NB: an estimate has errors, and no noise: nothing is "measured more by chance"
        itl_ms=Latency(mean_ms=step),
        kv_pool_bytes=ledger.kv_pool_bytes,
        kv_peak_fraction=batch * subject.model.kv_bytes_per_sequence(subject.sequence_tokens) / ledger.kv_pool_bytes,
        mean_running=batch,
        window_seconds=0,
        requests=0,
        input_tokens_mean=workload.input_tokens_mean,
        output_tokens_mean=workload.output_tokens_mean,
    )


def _pack_looks_worth(subject: Subject, ledger: Ledger, points: tuple[Point, ...]) -> tuple[bool, str]:
    """A second engine fills the gaps that the host leaves, if its weights fit beside the first."""
    if 2 * ledger.fixed_bytes >= subject.gpu.memory_bytes * ENGINE.overheads.memory_fraction:
        return False, "A pack is not worth measuring: two engines do not fit this GPU."
    largest = max((p.batch_size for p in points), default=1)
    idle = subject.host_ms(largest) / subject.itl_ms(largest)
    if idle < PACK_IDLE_FRACTION:
        return False, f"A pack is hardly worth measuring: memory works for all but an estimated {idle:.0%} of a step."
    return (
        True,
        f"A pack is worth measuring: memory is idle for an estimated {idle:.0%} of a step, which a second engine may fill.",
    )
