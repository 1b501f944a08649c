"""Documents of measurements: small ones made of points, and the published sweeps (their README has provenance and constants)."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_core.convert import MeasuredOn, from_csv
from slm_core.measurements import Cost, Engine, Gpu, Ledger, MeasurementDocument, Model, Workload
from slm_core.units import GIB

from tests.builders.points import SINGLES

if TYPE_CHECKING:
    from slm_core.measurements import Point

DATA = Path(__file__).parents[1] / "data" / "memory-gap-h100"
SWEEP = ("batch_sweep.csv",)
SWEEP_AND_PACKS = ("batch_sweep.csv", "replication.csv")
H100_64GB = Gpu(product="NVIDIA-H100-64GB", memory_bytes=int(63.43 * GIB))
"""The GPU of those runs."""
UTILIZATION = 0.9
CONSTANTS = {
    "opt-1.3b": (2.45, 192, 54.48),
    "opt-2.7b": (4.96, 320, 51.97),
    "llama-2-7b": (12.55, 512, 44.36),
    "llama-2-13b": (24.28, 800, 32.61),
}
"""Weights in GiB, KV KiB per token and KV pool in GB of each model there."""
MODELS = ("opt-1.3b", "opt-2.7b", "llama-2-7b")
"""Those whose sweep is in the table."""
LEDGER = Ledger(
    device_bytes=64 * GIB,
    weights_bytes=3 * GIB,
    activation_peak_bytes=GIB,
    context_bytes=GIB,
    kv_bytes_per_token=192 * 1024,
    kv_pool_bytes=54 * GIB,
)
"""Memory of a small engine on a GPU of 64 GiB."""


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


def published_ledger(model: str) -> Ledger:
    """Memory of one engine. NB: the activation peak is a guess, of which nothing was published; the pool has less than is left."""
    weights_gib, kv_kib, pool_gb = CONSTANTS[model]
    return Ledger(
        device_bytes=H100_64GB.memory_bytes,
        weights_bytes=int(weights_gib * GIB),
        activation_peak_bytes=GIB // 2,
        context_bytes=int(0.67 * GIB),
        kv_bytes_per_token=kv_kib * 1024,
        kv_pool_bytes=int(pool_gb * 1e9),
    )


def published(model: str, *files: str, ledger: bool = True) -> MeasurementDocument:
    """The published runs of a model as one document: its sweep, unless other files are named."""
    read = [_read((DATA / name).read_text(), model, name, ledger=ledger) for name in files or SWEEP]
    return replace(read[0], points=tuple(point for one in read for point in one.points))


def published_packs(model: str) -> MeasurementDocument:
    """Packs and their single engines, without chunked prefill. Each of R engines had 0.9 / R of the device for its own."""
    used = H100_64GB.memory_bytes * UTILIZATION
    beside_pool = used - CONSTANTS[model][2] * 1e9
    rows = [
        row | {"kv_pool_bytes": str(int(used / int(row["replicas"]) - beside_pool))}
        for row in csv.DictReader(io.StringIO((DATA / "replication.csv").read_text()))
        if row["model"] == model and row["chunked_prefill"] == "off"
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return _read(out.getvalue(), model, "replication.csv")


def _read(text: str, model: str, source: str, *, ledger: bool = True) -> MeasurementDocument:
    memory = published_ledger(model) if ledger else None
    on = MeasuredOn(engine=Engine(version="0.6.3"), gpu=H100_64GB, ledger=memory)
    return from_csv(text, model=model, on=on, source=source)


@cache
def imported(model: str = "opt-1.3b") -> MeasurementDocument:
    """The published sweep of one engine, as somebody imports it for a GPU of the fleet."""
    on = MeasuredOn(gpu=Gpu(product="NVIDIA-H100-80GB-HBM3", memory_bytes=80 << 30), engine=Engine(version="0.6.2"))
    return from_csv((DATA / "batch_sweep.csv").read_text(), model=model, on=on, source="batch_sweep.csv")
