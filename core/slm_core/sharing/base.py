"""The port of sharing modes: what a mode means for the memory, threads and start of engines on one GPU.

A mode is a row of data. The profiler measures under the limits in that row; the advisor and the planner ask the row instead
of comparing names. How a cluster *sets a node up* for a mode is known to `slm_operator.partitioning`. Must never know
Kubernetes, nor start anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slm_core.measurements import SharingMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one engine is held to, where that is not an equal share. None: an equal share."""

    memory_bytes: int | None = None
    thread_percentage: int | None = None
    """Of the GPU's threads; those of all engines may add up to more than all."""


EQUAL_SHARES = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """One sharing mode. As it stands here: equal shares of the memory, and nothing that holds an engine to its own."""

    mode: SharingMode
    """Its word in documents, in the API and on the command line of `kubectl slm`."""
    word: str
    """Its word on the profiler's command line, in tables of measurements, and in labels: mps, time-slicing, none."""
    spellings: tuple[str, ...] = ()
    """Other words for it that a table may have."""
    title: str
    """How a sentence names it."""
    allows_packs: bool = True
    """Whether several engines may share a GPU in it."""
    qualifier: str = ""
    """What a report adds to the short name of a pack, where that does not go without saying."""
    daemon: str | None = None
    """Program that must run beside the engines of a pack."""
    is_limited: bool = False
    """Whether an engine can be held to `Limits`."""

    def memory_share(self, device_bytes: int, engines: int) -> int:
        """Bytes of the GPU's memory that each of so many engines may call its own."""
        return device_bytes // engines

    def limits(self, device_bytes: int, engines: int, own: Limits = EQUAL_SHARES) -> dict[str, str]:
        """Environment that holds one of so many engines to its share, as a cluster's limits would."""
        del device_bytes, engines, own
        return {}

    def most_engines(self, capability: tuple[int, int] | None) -> int | None:
        """Most engines on one GPU of this compute capability (None: not known). None: no bound."""
        del capability
        return None
