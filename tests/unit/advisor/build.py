"""Documents for the advisor's tests: the published sweeps, and small ones made of a straight line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from slm_core.convert import MeasuredOn, from_csv
from slm_core.measurements import (
    Cost,
    Engine,
    Gpu,
    Latency,
    Ledger,
    MeasurementDocument,
    Model,
    Point,
    SharingMode,
    Workload,
)
from slm_core.units import GIB

DATA = Path(__file__).parents[2] / "data" / "memory-gap-h100"
H100 = Gpu(product="NVIDIA-H100-64GB", memory_bytes=int(63.43 * GIB))

# Weights in GiB, KV KiB per token, KV pool in GB: the constants of the published runs (README of the data).
CONSTANTS = {
    "opt-1.3b": (2.45, 192, 54.48),
    "opt-2.7b": (4.96, 320, 51.97),
    "llama-2-7b": (12.55, 512, 44.36),
    "llama-2-13b": (24.28, 800, 32.61),
}


def published_ledger(model: str) -> Ledger:
    weights, kv_kib, pool = CONSTANTS[model]
    return Ledger(
        device_bytes=H100.memory_bytes,
        weights_bytes=int(weights * GIB),
        activation_peak_bytes=GIB // 2,
        context_bytes=int(0.67 * GIB),
        kv_bytes_per_token=kv_kib * 1024,
        kv_pool_bytes=int(pool * 1e9),
    )


def published(model: str, *files: str, ledger: bool = True) -> MeasurementDocument:
    """The published runs of a model as one document."""
    on = MeasuredOn(engine=Engine(version="0.6.3"), gpu=H100, ledger=published_ledger(model) if ledger else None)
    read = [from_csv((DATA / name).read_text(), model=model, on=on, source=name) for name in files]
    return replace(read[0], points=tuple(p for document in read for p in document.points))


SWEEP = ("batch_sweep.csv",)
SWEEP_AND_PACKS = ("batch_sweep.csv", "replication.csv")

A_MS, B_MS = 4.0, 0.1
"""ITL = 4 ms + 0.1 ms x B: T(1) = 243.9 of output, T(32) = 4444, at most 10,000."""


def point(batch: int = 32, **changes: Any) -> Point:
    """A point that obeys Little's law on the line above. Twice as many tokens in total as of output."""
    replicas = changes.get("replicas", 1)
    itl = changes.pop("itl", A_MS + B_MS * batch)
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
    return point(batch, **({"replicas": replicas, "itl": itl, "output": output, "confirmed": True} | changes))


LEDGER = Ledger(
    device_bytes=64 * GIB,
    weights_bytes=3 * GIB,
    activation_peak_bytes=GIB,
    context_bytes=GIB,
    kv_bytes_per_token=192 * 1024,
    kv_pool_bytes=54 * GIB,
)
SINGLES = tuple(point(b) for b in (1, 32, 64, 128))
"""Efficiency at B = 128: 7619 / (128 x 243.9) = 0.244."""


def document(*points: Point, **changes: Any) -> MeasurementDocument:
    """A document measured by the runtime, on a GPU of 64 GiB."""
    values: dict[str, Any] = {
        "model": Model(uri="hf://some/model"),
        "engine": Engine(version="0.32"),
        "gpu": Gpu(product="NVIDIA-H100-64GB", memory_bytes=64 * GIB),
        "workload": Workload(source="fixed", input_tokens_mean=100, output_tokens_mean=100),
        "ledger": LEDGER,
        "points": points or SINGLES,
        "cost": Cost(gpu_seconds=300, engine_starts=2, startup_seconds=100),
    }
    return MeasurementDocument(**(values | changes))
