"""What fits where: KV bytes, slices and what stays free.

A slice is one of R equal shares of the GPU. Under MPS the device plugin enforces it, under time slicing nothing does,
so that this ledger is the only guard. Assumes the ledger of one engine; where the document has none, nothing is known
and the answers are None. Must never round in the engine's favour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core import batching
from slm_core.configuration import EngineConfiguration
from slm_core.load import is_partial

if TYPE_CHECKING:
    from slm_core.measurements import Point

    from slm_operator.advisor.context import Context


RESERVE_FRACTION, RESERVE_BYTES = 0.01, 512 << 20
"""Of a device, the larger: what the driver keeps, and what the MPS server takes outside of every client's limit."""


def slice_bytes(context: Context, replicas: int, *, proven: bool = False) -> int:
    """Memory of one of `replicas` slices that an engine may use, 0 where the device is not known.

    The plugin divides all of it, in whole MiB, though not all can be used: without the reserve the last engine to start may
    find too little. `proven`: just these engines ran on such a device.
    """
    device = context.device_bytes
    if replicas == 1:
        return device
    reserve = 0 if proven else int(max(device * RESERVE_FRACTION, RESERVE_BYTES))
    return max(device - reserve, 0) // replicas >> 20 << 20


def is_proven(context: Context, point: Point) -> bool:
    """Whether these engines ran, with the KV bytes that they would be given, on no larger a device than the one to serve."""
    return point.confirmed and context.ledger is not None and context.device_bytes >= context.ledger.device_bytes


def kv_room(context: Context, replicas: int, *, proven: bool = False) -> int | None:
    """Bytes that a slice leaves for KV. Negative: one engine does not even start. None without a ledger."""
    return slice_bytes(context, replicas, proven=proven) - context.fixed_bytes if context.ledger else None


def kv_bytes(context: Context, point: Point) -> int | None:
    """KV bytes of each engine of this configuration, by the published rule with headroom (`slm_core.batching`).

    A single engine that does not tell its pool had the ledger's; a pack that does not is given all that its slice
    leaves, for it was measured in no more. Where full batches were measured too they decide: a thin load may peak.
    """
    if is_partial(point):
        point = context.basis.full.get(EngineConfiguration.of(point), point)
    if point.kv_pool_bytes is None and point.replicas > 1:
        return kv_room(context, point.replicas, proven=is_proven(context, point))
    pool = context.ledger.kv_pool_bytes if context.ledger else None
    return batching.kv_bytes(point, floor_bytes=context.floor_bytes, pool_bytes=pool)


def is_at_floor(context: Context, kv: int | None) -> bool:
    """Whether one longest sequence decided these KV bytes, and not the load."""
    return bool(context.floor_bytes) and kv == context.floor_bytes


def used_bytes(context: Context, replicas: int, kv: int | None) -> int | None:
    """Memory of all engines of a GPU."""
    return None if context.ledger is None or kv is None else replicas * (context.fixed_bytes + kv)


def freed_bytes(context: Context, replicas: int, kv: int | None) -> int | None:
    """Memory of the GPU that the engines leave free."""
    used = used_bytes(context, replicas, kv)
    return None if used is None else max(slice_bytes(context, 1) - used, 0)


def most_that_fit(context: Context, kv: int) -> int:
    """The largest number of engines with `kv` bytes each whose slices hold them; 0 when not even one. Needs a ledger."""
    fitting = (r for r in range(context.settings.plugin_max_replicas, 0, -1) if (kv_room(context, r) or 0) >= kv)
    return next(fitting, 0)
