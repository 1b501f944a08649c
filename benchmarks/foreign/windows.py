"""What an engine did with so many clients in a closed loop, read from its counters as the SLO monitor reads them.

Rounds are repetitions some minutes apart, of which the median is told: a machine's own speed drifts, and a round takes as much
of it as another. Pure. Must never leave out a window of a round.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Self

from slm_core.counters import Counters
from slm_core.slo import Limits
from slm_operator.slo.window import Asked, Scrape, between

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class Window:
    """Figures of one engine with so many clients."""

    clients: int
    in_flight: float
    throughput_tokens_per_second: float
    itl_ms: float
    ci_fraction: float | None
    """Half width of the 95 % confidence interval of its tokens per second, as the profiler takes it."""

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Self:
        """From its counters at both ends. Raises ValueError where nothing has finished in between, or a request failed."""
        before, after = (
            Scrape(at_seconds=at, engines={ENGINE: Counters(**kept[end])})
            for at, end in ((0.0, "before"), (kept["seconds"], "after"))
        )
        found = between(before, after, Asked(limits=Limits(), pods_per_gpu=1, histograms={}))
        if found is None or kept["errors"]:
            raise ValueError(f"{kept['clients']} clients: {kept['errors']} errors, and nothing else to see: {kept}")
        seen = found[1]
        return cls(kept["clients"], seen.in_flight, seen.throughput_tokens_per_second, seen.itl_ms, kept["ciFraction"])

    @classmethod
    def median(cls, rounds: Sequence[Window]) -> Self:
        """Of windows with as many clients: of each figure the median."""
        intervals = [one.ci_fraction for one in rounds if one.ci_fraction is not None]
        return cls(
            rounds[0].clients,
            median(one.in_flight for one in rounds),
            median(one.throughput_tokens_per_second for one in rounds),
            median(one.itl_ms for one in rounds),
            median(intervals) if intervals else None,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One engine with one batch, and as many clients as it holds."""

    batch_size: int
    windows: tuple[Window, ...]
    """Of each round."""

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Self:
        """From what the run has kept of it."""
        return cls(kept["batchSize"], tuple(map(Window.read, kept["windows"])))

    @property
    def full(self) -> Window:
        """The median of the rounds."""
        return Window.median(self.windows)
