"""What the charts show, as plain figures: dots, limits and bars.

Exists so that the drawing functions need to know neither the document's nor the advice's types.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """What the advice made of a measured point."""

    CHOSEN = "chosen"
    """What is deployed; when nothing satisfies, the closest."""
    BEST_SINGLE = "best"
    """The best feasible single engine: what the chosen one is measured against."""
    KEPT = "kept"
    """Passed every check, and another did better."""
    REJECTED = "rejected"
    """A check failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One measured point."""

    name: str
    """Short name: "96" of a single engine, "96 x 2" of a pack."""
    replicas: int
    in_flight: int
    """Sequences in flight on the GPU: the abscissa that single engines and packs share."""
    full: bool
    """Whether every batch was full."""
    throughput: float
    """Input and output tokens per second over the GPU."""
    ci_fraction: float | None
    itl_ms: float
    """Inter-token latency, by the statistic that the SLO names."""
    tokens_per_joule: float | None
    gain: float | None
    """Throughput over the best feasible single engine's, minus 1. Absent without one."""
    standing: Standing
    on_frontier: bool
    """No trusted point beats it in throughput and latency at once."""
    failed: str
    """Name of the check that failed; empty when none did."""
    because: str
    """The advisor's sentence."""

    @property
    def is_pack(self) -> bool:
        """Whether several engines shared the GPU."""
        return self.replicas > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The lines that the advice may not cross."""

    itl_ms: float | None
    """SLO on ITL."""
    itl_words: str
    """The SLO, for its label."""
    in_flight: int | None
    """The load that was decided for; None is full batches."""
    one_sequence: float | None
    """T(1), tokens per second, of which the efficiency limit is drawn."""
    min_efficiency: float
    min_gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One stretch of the memory bar."""

    kind: str
    """weights, activation, graphs, context, kv, free: the CSS class."""
    name: str
    gib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBar:
    """Where the memory of one GPU goes under one configuration."""

    name: str
    detail: str
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One large figure under the answer."""

    label: str
    figure: str
    unit: str = ""
    note: str = ""
    tone: str = ""
    """up, down, or nothing: whether the note is good news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the candidates table, in words and figures for a person."""

    standing: Standing
    cells: tuple[str, ...]
    """As many as `page.COLUMNS`; the last one is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that the report shows."""

    subject: str
    """The model."""
    setting: tuple[str, ...]
    """GPU, engine, workload: what the answer holds for."""
    answer: str
    because: tuple[str, ...]
    warnings: tuple[str, ...]
    tiles: tuple[Tile, ...]
    dots: tuple[Dot, ...]
    limits: Limits
    fit: tuple[tuple[float, float], ...]
    """Predicted (sequences, throughput) of one engine between the measured points."""
    memory: tuple[MemoryBar, ...]
    rows: tuple[Row, ...]
    loads: tuple[tuple[str, ...], ...]
    """What is expected of the advised configuration at some loads: cells of `page.LOAD_COLUMNS`."""
    provenance: tuple[tuple[str, str], ...]
