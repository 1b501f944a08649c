"""Measured points that obey Little's law, on a line that every figure of a case can be worked out from."""

from __future__ import annotations

from typing import Any

from slm_core.measurements import Latency, Point, SharingMode
from slm_core.units import GIB

A_MS, B_MS = 4.0, 0.1
"""ITL = 4 ms + 0.1 ms x B: T(1) = 243.9 of output, T(32) = 4444, at most 10,000."""


def point(batch: int = 32, itl: float | None = None, **changes: Any) -> Point:
    """One engine with full batches, or so many `replicas`: on the line, or with this ITL. As many input as output tokens."""
    replicas = changes.get("replicas", 1)
    itl = A_MS + B_MS * batch if itl is None else itl
    running = min(changes.get("in_flight") or batch * replicas, batch * replicas)
    output = changes.pop("output", 1000 * running / itl)
    values: dict[str, Any] = {
        "batch_size": batch,
        "sharing_mode": SharingMode.EXCLUSIVE if replicas == 1 else SharingMode.MPS,
        "throughput_tokens_per_second": 2 * output,
        "output_tokens_per_second": output,
        "itl_ms": Latency(mean_ms=itl),
        "kv_pool_bytes": 10 * GIB,
        "kv_peak_fraction": 0.9,
        "mean_running": output * itl / 1000,
        "window_seconds": 10.0,
        "requests": 500,
        "input_tokens_mean": 100.0,
        "output_tokens_mean": 100.0,
        "throughput_ci_fraction": 0.01,
    }
    return Point(**(values | changes))


def pack(batch: int, replicas: int = 2, gain: float = 0.2, **changes: Any) -> Point:
    """A confirmed pack that makes `gain` more than one engine with full batches of 128."""
    best = 1000 * 128 / (A_MS + B_MS * 128)
    output = changes.pop("output", best * (1 + gain))
    running = min(changes.get("in_flight") or batch * replicas, batch * replicas)
    itl = changes.pop("itl", 1000 * running / output)
    return point(batch, itl, **({"replicas": replicas, "output": output, "confirmed": True} | changes))


SINGLES = tuple(point(batch) for batch in (1, 32, 64, 128))
"""The sweep of one engine. Efficiency at B = 128: 7619 / (128 x 243.9) = 0.244."""
