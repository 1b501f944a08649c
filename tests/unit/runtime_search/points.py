"""Points for tests, with the fields that a case is about."""

from __future__ import annotations

from typing import Any

from slm_core.measurements import Latency, Point


def point(batch_size: int, itl_ms: float = 10.0, **changes: Any) -> Point:
    """One engine, full batches, T by Little's law, as many input as output tokens."""
    output = 1000 * batch_size / itl_ms
    fields: dict[str, Any] = {
        "batch_size": batch_size,
        "throughput_tokens_per_second": 2 * output,
        "output_tokens_per_second": output,
        "itl_ms": Latency(mean_ms=itl_ms),
        "kv_pool_bytes": 10**9,
        "kv_peak_fraction": min(1.0, batch_size / 1000),
        "mean_running": float(batch_size),
        "window_seconds": 10.0,
        "requests": 100,
        "input_tokens_mean": 100.0,
        "output_tokens_mean": 100.0,
    }
    return Point(**fields | changes)
