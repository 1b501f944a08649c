"""The measurement document: what was measured of one model on one kind of GPU, and how.

It is the only thing that passes from the runtime (which measures) to the operator (which decides), as JSON in a pod's
log, in `SLMProfile`, or in a file in git. So its types live here, are plain frozen dataclasses, and need nothing but
the standard library: the runtime runs inside engine images that it does not choose.

Assumes that every figure carries its unit in its name. Must never hold a decision: the advisor makes those.

The docstring of each field becomes its description in the CRD (`kubectl explain slmp.spec.measurements`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA = "slm-operator.io/measurements/v1"
"""Version of this document. A reader refuses any other."""


CPU = "CPU"
"""Product of a document that was measured without a GPU."""
MOST_TEXT = 1024
"""Most characters of any text in it."""
MOST_ITEMS = {"points": 500, "args": 128, "marks": 8}
"""Most items of each list, by its JSON name. A search measures tens of points; one takes 1.4 KB in the operator."""


class SharingMode(StrEnum):
    """How the engines of one GPU share it. The words are those of the API; NVIDIA's label says none, time-slicing, mps."""

    EXCLUSIVE = "Exclusive"
    TIME_SLICING = "TimeSlicing"
    MPS = "MPS"

    @classmethod
    def _missing_(cls, value: object) -> SharingMode | None:
        """NB: documents measured before this word had a name of its own say "None"; what was measured stays readable."""
        return cls.EXCLUSIVE if value == "None" else None


class Mark(StrEnum):
    """Why a point must not be taken as it stands."""

    PREEMPTED = "Preempted"
    """The engine preempted sequences: the KV pool was too small for this batch."""
    ERRORS = "Errors"
    """Requests failed inside the window."""
    LITTLES_LAW = "LittlesLaw"
    """Throughput, ITL and running sequences contradict each other by more than 5 %."""
    THROTTLED = "Throttled"
    """The GPU was slowed by heat or a fault of its power supply, or its clock drifted under the power cap, inside the window."""
    PREFIX_CACHE = "PrefixCache"
    """More than 3 % of the prompts' tokens came from the engine's prefix cache: prefill cost less than the workload's."""
    CLIENT = "Client"
    """The load generator used most of a core: it, and not the engine, may be what was measured."""
    WIDE = "Wide"
    """The interval is wider than 20 % even at the window's cap: the point says nearly nothing, and is not chosen."""


class Sampling(StrEnum):
    """How an engine chose the tokens of its answers."""

    GREEDY = "Greedy"
    """Always the likeliest one: cheaper than what most clients ask for."""
    MODEL_DEFAULTS = "ModelDefaults"
    """As the model's own generation_config.json says, which is what clients get who ask for nothing else."""


def camel(name: str) -> str:
    """The JSON name of a field: `kv_pool_bytes` is `kvPoolBytes`."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def _bounded(schema: dict[str, Any]) -> None:
    """Writes the bounds into the JSON schema that pydantic makes of a type."""
    for name, part in schema["properties"].items():
        if name in MOST_ITEMS:
            part["maxItems"] = MOST_ITEMS[name]
        for one in (part, part.get("items", {}), *part.get("anyOf", ())):
            if one.get("type") == "string":
                one["maxLength"] = MOST_TEXT


# Pydantic reads this from plain dataclasses too: field docstrings become descriptions, names become camelCase.
_PYDANTIC_CONFIG = {
    "use_attribute_docstrings": True,
    "extra": "forbid",
    "alias_generator": camel,
    "populate_by_name": True,
    "json_schema_extra": _bounded,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A latency distribution in milliseconds."""

    mean_ms: float
    """Mean, in milliseconds. Of ITL: from the engine's counters, over every token in the window."""
    p50_ms: float | None = None
    """Median of the streamed sample, in milliseconds."""
    p90_ms: float | None = None
    """90th percentile, in milliseconds. Absent when fewer than 64 samples support it."""
    p99_ms: float | None = None
    """99th percentile, in milliseconds. Absent when fewer than 459 samples support it."""
    samples: int = 0
    """Number of samples behind the percentiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One steady-state measurement of R engines on one GPU with at most B sequences running in each."""

    batch_size: int
    """B: the largest number of sequences that each engine runs at once (--max-num-seqs, or the closed loop's width)."""
    replicas: int = 1
    """R: engines on the GPU."""
    sharing_mode: SharingMode = SharingMode.EXCLUSIVE
    """How the engines shared the GPU. Exclusive exactly when there is one engine."""
    in_flight: int | None = None
    """Requests kept in flight over all engines. Absent: full batches, B times R."""
    max_num_batched_tokens: int | None = None
    """The engine's token budget per step (--max-num-batched-tokens) during this point."""
    throughput_tokens_per_second: float
    """Input and output tokens per second over all engines, as the paper counts them."""
    output_tokens_per_second: float
    """Generated tokens per second over all engines, from the engines' counters at both ends of the window."""
    throughput_ci_fraction: float | None = None
    """Half width of the 95 % confidence interval of throughput, as a fraction of it. Absent: a single run without one."""
    itl_ms: Latency
    """Inter-token latency: (last token - first token) / (tokens - 1)."""
    ttft_ms: Latency | None = None
    """Time to first token in a closed loop."""
    kv_pool_bytes: int | None = None
    """KV pool of each engine during this point."""
    kv_peak_fraction: float
    """Highest use of the KV pool seen in any engine, as a fraction of its pool. 0 where nobody saw it, as no client does."""
    preemptions: int = 0
    """Preemptions over all engines inside the window."""
    errors: int = 0
    """Failed requests inside the window."""
    mean_running: float
    """Sequences running, averaged over the window, summed over all engines."""
    window_seconds: float
    """Length of the window."""
    requests: int
    """Requests that finished inside the window."""
    input_tokens_mean: float
    """Mean prompt length that the window really saw."""
    output_tokens_mean: float
    """Mean output length that the window really saw."""
    energy_joules: float | None = None
    """Energy of the whole board in the window. Absent without NVML."""
    mean_power_watts: float | None = None
    """Mean power of the whole board in the window. Absent without NVML."""
    mean_sm_clock_mhz: float | None = None
    """Mean clock of the GPU's multiprocessors in the window. Absent without NVML."""
    power_capped_fraction: float | None = None
    """Share of the window in which the GPU's power limit held its clock down, as it does on most boards under load. Absent without NVML."""
    mean_cpu_cores: float | None = None
    """CPU cores that each engine used, averaged over the window and the engines. Near what replicas are given: give them more."""
    cpu_throttled_fraction: float | None = None
    """Share of the window in which the container had used up its CPU limit. Absent without a limit."""
    confirmed: bool = False
    """Measured with the KV bytes that replicas would really be given, not with a larger pool."""
    marks: tuple[Mark, ...] = ()
    """Reasons to doubt this point. It is shown, and never chosen."""

    @property
    def doubts(self) -> tuple[Mark, ...]:
        """The marks that forbid using its figures at all: all but Wide, whose figures are right and only uncertain."""
        return tuple(mark for mark in self.marks if mark is not Mark.WIDE) if self.marks else ()

    @property
    def is_trusted(self) -> bool:
        """No preemption, no failed request, no doubt."""
        return not (self.preemptions or self.errors or self.doubts)

    @property
    def full_load(self) -> int:
        """Requests in flight that fill every batch."""
        return self.batch_size * self.replicas

    @property
    def load(self) -> int:
        """Requests that were in flight."""
        return self.in_flight or self.full_load

    @property
    def joules_per_token(self) -> float | None:
        """Energy of the whole board for a token, input or output: as counted, else by its mean power. None: not measured."""
        tokens_per_second = self.throughput_tokens_per_second
        if self.energy_joules and self.window_seconds:  # NB: what was imported may have a window of 0 s
            return self.energy_joules / (tokens_per_second * self.window_seconds)
        return self.mean_power_watts / tokens_per_second if self.mean_power_watts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Where the memory of one engine goes. All figures in bytes."""

    device_bytes: int
    """Memory of the whole device as the engine sees it."""
    weights_bytes: int
    """Model weights."""
    activation_peak_bytes: int
    """Peak of activations and workspace during the engine's profiling run."""
    graphs_bytes: int = 0
    """CUDA graphs. 0 with --enforce-eager and on CPU."""
    context_bytes: int
    """CUDA context and everything that no other line explains."""
    kv_bytes_per_token: int
    """KV cache bytes of one token, all layers, as the engine lays them out."""
    kv_pool_bytes: int
    """KV pool of the engine during the single-engine sweep."""
    nvml_used_bytes: int | None = None
    """What NVML showed as used by the engine. Absent without NVML."""

    @property
    def fixed_bytes(self) -> int:
        """Bytes one engine needs before its first KV block."""
        return self.weights_bytes + self.activation_peak_bytes + self.graphs_bytes + self.context_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The model that was measured."""

    uri: str
    """Where it came from: hf://, pvc://, s3://, oci:// or a path in the image."""
    revision: str | None = None
    """Commit, digest or tag, as resolved."""
    dtype: str | None = None
    """Data type of the weights as the engine loaded them."""
    max_model_len: int | None = None
    """Longest sequence that the engine accepts, in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The engine that was measured."""

    name: str = "vllm"
    """Which engine."""
    version: str
    """Its version, from the engine itself."""
    image: str | None = None
    """Container image, with its digest where known."""
    args: tuple[str, ...] = ()
    """Arguments of the sweep, those the user gave and those the runtime added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The device that was measured on."""

    product: str
    """Product name as in the node label nvidia.com/gpu.product, or CPU."""
    memory_bytes: int
    """Memory of the whole device."""
    uuid: str | None = None
    """UUID of the very device. Absent without NVML."""
    driver: str | None = None
    """Driver version. Absent without NVML."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Requested token lengths, and how they were asked for."""

    source: str
    """Where the lengths come from: fixed, a distribution's name, or a dataset's file name and digest."""
    input_tokens_mean: float
    """Mean prompt length in tokens."""
    output_tokens_mean: float
    """Mean output length in tokens."""
    input_tokens_p99: float | None = None
    """99th percentile of prompt lengths."""
    output_tokens_p99: float | None = None
    """99th percentile of output lengths."""
    concurrency: int | None = None
    """Requests in flight to decide for. Absent: full batches."""
    streamed: bool | None = None
    """Whether every answer was streamed, as clients of chat models ask for it. Absent: not known."""
    sampling: Sampling | None = None
    """How the tokens of the answers were sampled. Absent: not known."""
    requests_per_second: float | None = None
    """The rate that was asked for instead; `concurrency` is then what it came to on one engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the measurement cost, in all its sessions: one that was cut short and gone on from, or extended, had several."""

    gpu_seconds: float
    """Wall time during which the GPU was held, the model's download included."""
    engine_starts: int
    """Engines started."""
    startup_seconds: float
    """Wall time spent waiting for engines to become ready."""
    download_seconds: float = 0.0
    """Part of it for which the model was being downloaded. No budget counts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementDocument:
    """Everything measured of one (model, engine, GPU product, workload)."""

    schema: str = SCHEMA
    """Version of this document's format."""
    model: Model
    """The model that was measured."""
    engine: Engine
    """The engine that was measured."""
    gpu: Gpu
    """The device that was measured on."""
    workload: Workload
    """Requested token lengths."""
    ledger: Ledger | None = None
    """Memory of one engine. Absent in documents imported from tools that do not know it."""
    points: tuple[Point, ...]
    """Every point, single engines and packs, in the order in which they were measured."""
    complete: bool = True
    """False when the search ended early; what was measured until then is here."""
    incomplete_because: str | None = None
    """Why the search ended early."""
    cost: Cost | None = None
    """What the measurement cost. Absent in imported documents."""
    measured_at: str | None = None
    """When the measurement ended, RFC 3339."""
    provenance: str | None = field(default=None)
    """Which command or file made this document."""


for _type in (Latency, Point, Ledger, Model, Engine, Gpu, Workload, Cost, MeasurementDocument):
    _type.__pydantic_config__ = _PYDANTIC_CONFIG  # type: ignore[union-attr]
