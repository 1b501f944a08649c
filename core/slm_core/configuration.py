"""The configuration of one GPU: R engines of batch B, in one sharing mode, with K bytes of KV cache each.

The search, the points, the advisor and status all use this one type. Assumes nothing of engines or clusters. Must never
hold a figure: measured and predicted figures of a configuration are kept beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slm_core.measurements import SharingMode

if TYPE_CHECKING:
    from slm_core.measurements import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfiguration:
    """How one GPU is used: the engines that share it, all of them alike."""

    batch_size: int
    """B: sequences that each engine runs at once (--max-num-seqs)."""
    kv_cache_bytes: int | None = None
    """KV pool of each engine (--kv-cache-memory-bytes). Absent: not decided, or all the memory that the engine finds."""
    max_num_batched_tokens: int | None
    """Token budget of each step (--max-num-batched-tokens). Absent: not known."""
    engines_per_gpu: int = 1
    """R."""
    sharing_mode: SharingMode = SharingMode.EXCLUSIVE
    """Exclusive exactly when there is one engine."""

    @classmethod
    def of(cls, point: Point) -> EngineConfiguration:
        """What a point measures, but for its KV bytes: two points of one configuration may differ in their pools."""
        return cls(
            batch_size=point.batch_size,
            max_num_batched_tokens=point.max_num_batched_tokens,
            engines_per_gpu=point.replicas,
            sharing_mode=point.sharing_mode,
        )

    def is_like(self, other: EngineConfiguration) -> bool:
        """The same engines, shared the same way, but for their sizes: batch and KV bytes."""
        return self == replace(other, batch_size=self.batch_size, kv_cache_bytes=self.kv_cache_bytes)
