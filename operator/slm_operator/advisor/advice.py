"""The advisor's settings and its result, the advice.

Status, `kubectl slm`, the report and the tests all read these values and print the same sentences. Must never decide:
these are plain data types.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from slm_core.candidates import Source
from slm_core.tuning import MAX_SLICES, Tuning

from slm_operator.advisor.economy import cost_per_million_tokens, saved_gpu_hours_fraction

if TYPE_CHECKING:
    from slm_core.candidates import Candidate, CheckName, Predicted
    from slm_core.choice import Alternative
    from slm_core.configuration import EngineConfiguration
    from slm_core.measurements import Point, SharingMode

    from slm_operator.advisor.economy import Price


class Objective(StrEnum):
    """What the GPU is for."""

    THROUGHPUT = "Throughput"
    """The most tokens per second from one GPU."""
    FREE_MEMORY = "FreeMemory"
    """No fewer tokens per second than the best single engine, in the least memory."""
    COST = "CostPerToken"
    """The least money for a token. On GPUs of one price that is the most tokens per second."""
    ENERGY = "EnergyPerToken"
    """The least energy for a token, as the board's watts were measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Tuning):
    """What the user may set, with the defaults of spec.advisor and spec.sharing."""

    objective: Objective = Objective.THROUGHPUT
    """What the GPU is for."""
    mode: SharingMode | None = None
    """The sharing mode that the user requested. None: whichever was measured best."""
    against_mps: str | None = None
    """Why these engines could not be served under MPS, in a sentence. None: they can."""
    engines_per_gpu: int | None = None
    """The user's own number of engines per GPU. Wins over the advice, at a cost that the advice states."""
    max_engines_per_gpu: int | None = None
    """Packs of more engines are not advised."""
    concurrency: int | None = None
    """Requests in flight per GPU to decide for. Absent: the document's, else full batches."""
    requests_per_second: float | None = None
    """Request rate per GPU to decide for, turned into requests in flight by Little's law."""
    gpu_memory_bytes: int | None = None
    """Memory of the GPU that will serve. Absent: that of the GPU that was measured."""
    plugin_max_replicas: int = MAX_SLICES
    """Most slices of one GPU that the device plugin makes: fewer below compute capability 7.5."""
    price: Price | None = None
    """Of the GPU that will serve. None: not known."""
    priced: bool = False
    """Other products have a price, so that one without is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the candidates were compared at."""

    in_flight: int | None = None
    """Requests in flight per GPU. Absent: every batch full."""


class KvReason(StrEnum):
    """What decides the KV bytes of each engine."""

    LOAD = "Load"
    """The highest use that was seen, and some room."""
    LONGEST_SEQUENCE = "LongestSequence"
    """One sequence of the longest length needs more than the load did: without it an engine refuses to start."""
    UNKNOWN = "Unknown"
    """The measurements do not tell pool sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closest:
    """What comes nearest when nothing satisfies."""

    check: CheckName
    """The check that could not be passed, most often SLO or Memory."""
    value: float | None
    """What is achievable: milliseconds for SLO, GiB for Memory. Absent: not known."""
    limit: float
    """What was asked, in the same unit."""
    because: str
    """By how much it misses."""
    remedy: str
    """What would have to change."""

    @property
    def missed_by(self) -> float | None:
        """The miss, as a fraction of what was asked. Absent: not known, or nothing was allowed."""
        return self.value / self.limit - 1 if self.value is not None and self.limit else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Where each part of the advice comes from."""

    batch_size: Source = Source.MEASURED
    """B, and max_num_batched_tokens with it."""
    kv_bytes: Source = Source.MEASURED
    """KV pool of each replica."""
    engines_per_gpu: Source = Source.MEASURED
    """R."""
    sharing_mode: Source = Source.MEASURED
    """Mode."""
    predicted: Source = Source.MEASURED
    """The figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """How to serve a model on one kind of GPU, and why."""

    configuration: EngineConfiguration
    """What to serve. KV bytes are absent where the measurements do not tell pool sizes."""
    predicted: Predicted | None
    """Expected figures. Absent for a pack that the user chose and nobody measured."""
    best_single: Predicted | None
    """The fastest single engine at the same load, which packs had to beat; where one engine is served, that one. Absent when
    none meets the SLO."""
    gain: float | None
    """Throughput over that of the best single engine, minus 1. Absent where either is."""
    alternatives: tuple[Alternative, ...]
    """What measured more than the choice, by no more than chance, at a higher latency. The fastest first."""
    kv_reason: KvReason
    """What decided KV bytes."""
    freed_bytes: int | None
    """GPU memory that the replicas leave free. Absent without a ledger."""
    load: Load
    """The load that was decided for."""
    pays_from_in_flight: int | None
    """Requests in flight per GPU from which the pack pays. Absent for one engine, and where it is not known."""
    source: Parts
    """Where each part comes from."""
    feasible: bool
    """Whether every limit holds. If not, the figures are the closest achievable."""
    closest: Closest | None
    """What is missed, by how much, and the remedy. Present exactly when not feasible."""
    price: Price | None
    """Of the GPU. None: not known."""
    joules_per_token: float | None
    """Of the configuration at the decided load. None: its watts were not measured there."""
    candidates: tuple[Candidate, ...]
    """Every measured point, judged. Single engines first, by rising batch."""
    pareto_frontier: tuple[Point, ...]
    """Trusted full-batch points that no other beats in throughput and in mean ITL, by rising ITL."""
    sentences: tuple[str, ...]
    """The advice in words, the answer first."""

    @property
    def cost_per_million_tokens(self) -> float | None:
        """In the price's currency. None: not known."""
        return cost_per_million_tokens(self.predicted, self.price)

    @property
    def saved_gpu_hours_fraction(self) -> float | None:
        """Of the GPU hours of the best single engine, what the pack does without. None: nothing is saved, or it is not known."""
        return saved_gpu_hours_fraction(self.gain, self.configuration.engines_per_gpu)

    @property
    def message(self) -> str:
        """All sentences as one paragraph, for status."""
        return " ".join(self.sentences)
