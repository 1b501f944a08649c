"""What the advisor is asked with and what it answers: settings, checks, candidates, advice.

Exists so that status, `kubectl slm`, the report and the tests read one set of values and print one set of sentences.
Assumes nothing. Must never decide: these are nouns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from slm_core.slo import Means, means_of
from slm_core.tuning import MAX_SLICES, Tuning

if TYPE_CHECKING:
    from slm_core.measurements import Point, SharingMode


class Objective(StrEnum):
    """What the GPU is for."""

    THROUGHPUT = "Throughput"
    """The most tokens per second from one GPU."""
    FREE_MEMORY = "FreeMemory"
    """No fewer tokens per second than the best single engine, in the least memory."""


class ModeChoice(StrEnum):
    """The user's word on sharing (spec.sharing.mode)."""

    AUTO = "Auto"
    MPS = "MPS"
    TIME_SLICING = "TimeSlicing"
    NONE = "None"


class Source(StrEnum):
    """Where a part of the advice comes from."""

    MEASURED = "Measured"
    """From a measured point."""
    PREDICTED = "Predicted"
    """Between measured points, on the line ITL = a + b B fitted to them."""
    ESTIMATED = "Estimated"
    """From the model's configuration and the GPU's data sheet. Never enough for a pack."""
    USER_CHOICE = "UserChoice"
    """The user said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Tuning):
    """What the user may set, with the defaults of spec.advisor and spec.sharing."""

    objective: Objective = Objective.THROUGHPUT
    """What the GPU is for."""
    mode: ModeChoice = ModeChoice.AUTO
    """Sharing modes that may be advised. None allows no pack."""
    replicas_per_gpu: int | None = None
    """The user's own number of engines per GPU. Wins over the advice, at a cost that the advice states."""
    max_replicas_per_gpu: int | None = None
    """Packs of more engines are not advised."""
    concurrency: int | None = None
    """Requests in flight per GPU to decide for. Absent: the document's, else full batches."""
    requests_per_second: float | None = None
    """Request rate per GPU to decide for, turned into requests in flight by Little's law."""
    gpu_memory_bytes: int | None = None
    """Memory of the GPU that will serve. Absent: that of the GPU that was measured."""
    plugin_max_replicas: int = MAX_SLICES
    """Most slices of one GPU that the device plugin makes: fewer below compute capability 7.5."""


class Verdict(StrEnum):
    """What became of a candidate."""

    CHOSEN = "Chosen"
    KEPT = "Kept"
    """Passed every check, and another did better."""
    REJECTED = "Rejected"
    """Failed the last check of its list."""


class CheckName(StrEnum):
    """The questions, in the order of their chain: the further a candidate came, the nearer it is."""

    SHARING = "Sharing"
    """Does the user allow it?"""
    SLICE_LIMIT = "SliceLimit"
    """Can the device plugin make so many slices?"""
    PREEMPTION = "Preemption"
    """Did the engine keep every sequence that it had begun?"""
    TRUSTED = "Trusted"
    """No doubt and no failed request?"""
    CONFIRMED = "Confirmed"
    """Does this point decide, measured with the KV bytes that would be given?"""
    MEMORY = "Memory"
    """Does it fit its slice?"""
    SLO = "SLO"
    """Does it keep the limits?"""
    LOAD = "Load"
    """Does it speak for the load that was asked for?"""
    EFFICIENCY = "Efficiency"
    """Does one engine still gain by so large a batch?"""
    GAIN = "Gain"
    """Is a pack better than the best single engine?"""
    RANK = "Rank"
    """Chosen, or behind the choice. Nothing fails it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One small question about one candidate, with its answer and its numbers."""

    name: CheckName
    passed: bool
    because: str
    """The answer as a sentence for a person."""
    value: float = 0.0
    """The figure that was compared. 0 where there is none, infinite where it is not known."""
    limit: float = 0.0
    """What it was compared with. 0 where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted(Means):
    """What is expected from one GPU in steady state, at the load that was decided for."""

    throughput_tokens_per_second: float
    """Input and output tokens per second per GPU."""
    output_tokens_per_second: float
    """Generated tokens per second per GPU."""
    batch_size: int
    """B of each engine."""
    replicas_per_gpu: int = 1
    """R."""
    source: Source = Source.MEASURED
    """Measured, Predicted or Estimated."""

    @classmethod
    def of(cls, point: Point, *, batch_size: int | None = None) -> Predicted:
        """The figures of a point as they stand. `batch_size`: of the engines that would do the same."""
        return cls(
            throughput_tokens_per_second=point.throughput_tokens_per_second,
            output_tokens_per_second=point.output_tokens_per_second,
            **means_of(point),
            batch_size=batch_size or point.batch_size,
            replicas_per_gpu=point.replicas,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One measured configuration and what was found when it was judged."""

    point: Point
    """The measurement."""
    checks: tuple[Check, ...] = ()
    """In the order in which they were made. The first that fails is the last."""
    predicted: Predicted | None = None
    """Its figures at the decided load, where they are not the point's own."""
    chosen: bool = False
    """Whether it is what is served."""

    @property
    def passed(self) -> bool:
        """Whether nothing failed yet."""
        return all(check.passed for check in self.checks)

    @property
    def verdict(self) -> Verdict:
        """What became of it."""
        if not self.passed:
            return Verdict.REJECTED
        return Verdict.CHOSEN if self.chosen else Verdict.KEPT

    @property
    def last(self) -> Check:
        """The check that tells the verdict: why it was chosen or kept, or the one that it failed."""
        return self.checks[-1]

    @property
    def because(self) -> str:
        """Why it was chosen, kept or rejected: the sentence of its last check."""
        return self.last.because

    @property
    def throughput(self) -> float:
        """Tokens per second at the decided load."""
        return self.figures.throughput_tokens_per_second

    @property
    def figures(self) -> Predicted:
        """Its figures at the decided load, for a rejected candidate as far as they were asked for."""
        return self.predicted or Predicted.of(self.point)

    def then(self, check: Check) -> Candidate:
        """With one more check."""
        return replace(self, checks=(*self.checks, check))


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the candidates were compared at."""

    in_flight: int | None = None
    """Requests in flight per GPU. Absent: every batch full."""


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
    mend: str
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
    replicas_per_gpu: Source = Source.MEASURED
    """R."""
    sharing_mode: Source = Source.MEASURED
    """Mode."""
    predicted: Source = Source.MEASURED
    """The figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """How to serve a model on one kind of GPU, and why."""

    batch_size: int
    """B of each replica (--max-num-seqs)."""
    kv_bytes: int | None
    """KV pool of each replica (--kv-cache-memory-bytes). Absent where the measurements do not tell pool sizes."""
    max_num_batched_tokens: int
    """Token budget of each step (--max-num-batched-tokens)."""
    replicas_per_gpu: int
    """R."""
    sharing_mode: SharingMode
    """None exactly when R is 1."""
    predicted: Predicted | None
    """Expected figures. Absent for a pack that the user chose and nobody measured."""
    best_single: Predicted | None
    """The single engine that packs had to beat, at the same load. Absent when none meets the SLO."""
    gain: float | None
    """Throughput over that of the best single engine, minus 1. Absent where either is."""
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
    """What is missed, by how much, and the mend. Present exactly when not feasible."""
    candidates: tuple[Candidate, ...]
    """Every measured point, judged. Single engines first, by rising batch."""
    pareto_frontier: tuple[Point, ...]
    """Trusted full-batch points that no other beats in throughput and in mean ITL, by rising ITL."""
    sentences: tuple[str, ...]
    """The advice in words, the answer first."""

    @property
    def message(self) -> str:
        """All sentences as one paragraph, for status."""
        return " ".join(self.sentences)
