"""What fits where: KV bytes, slices and what stays free.

A slice is one of R equal shares of the GPU. Under MPS the device plugin enforces it, under time slicing nothing does,
so that this ledger is the only guard. Assumes the ledger of one engine; where the document has none, nothing is known
and the answers are None. Must never round in the engine's favour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core import batching

if TYPE_CHECKING:
    from slm_core.measurements import Point

    from slm_operator.advisor.case import Case


def slice_bytes(case: Case, replicas: int) -> int:
    """Memory of one of `replicas` slices, 0 where the device is not known. The plugin counts whole MiB."""
    return case.device_bytes // replicas >> 20 << 20 if replicas > 1 else case.device_bytes


def kv_room(case: Case, replicas: int) -> int | None:
    """Bytes that a slice leaves for KV. Negative: one engine does not even start. None without a ledger."""
    return slice_bytes(case, replicas) - case.fixed_bytes if case.ledger else None


def kv_bytes(case: Case, point: Point) -> int | None:
    """KV bytes of each engine of this configuration, by the published rule with headroom (`slm_core.batching`).

    A single engine that does not tell its pool had the ledger's; a pack that does not is given all that its slice
    leaves, for it was measured in no more.
    """
    if point.kv_pool_bytes is None and point.replicas > 1:
        return kv_room(case, point.replicas)
    pool = case.ledger.kv_pool_bytes if case.ledger else None
    return batching.kv_bytes(point, floor_bytes=case.floor_bytes, pool_bytes=pool)


def used_bytes(case: Case, replicas: int, kv: int | None) -> int | None:
    """Memory of all engines of a GPU."""
    return None if case.ledger is None or kv is None else replicas * (case.fixed_bytes + kv)


def freed_bytes(case: Case, replicas: int, kv: int | None) -> int | None:
    """Memory of the GPU that the engines leave free."""
    used = used_bytes(case, replicas, kv)
    return None if used is None else max(slice_bytes(case, 1) - used, 0)


def most_that_fit(case: Case, kv: int) -> int:
    """The largest number of engines with `kv` bytes each whose slices hold them; 0 when not even one. Needs a ledger."""
    fitting = (r for r in range(case.settings.plugin_max_replicas, 0, -1) if (kv_room(case, r) or 0) >= kv)
    return next(fitting, 0)
