"""The published measurements as documents (tests/data/memory-gap-h100, its README for provenance and constants)."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from slm_core.convert import MeasuredOn, from_csv
from slm_core.measurements import Engine, Gpu, Ledger, MeasurementDocument
from slm_core.units import GIB

DATA = Path(__file__).parents[2] / "data" / "memory-gap-h100"
MODELS = ("opt-1.3b", "opt-2.7b", "llama-2-7b")

DEVICE_BYTES = int(63.43 * GIB)
UTILIZATION = 0.9
WEIGHTS_BYTES = {"opt-1.3b": 2.45 * GIB, "opt-2.7b": 4.96 * GIB, "llama-2-7b": 12.55 * GIB, "llama-2-13b": 24.28 * GIB}
KV_BYTES_PER_TOKEN = {
    "opt-1.3b": 192 * 1024,
    "opt-2.7b": 320 * 1024,
    "llama-2-7b": 512 * 1024,
    "llama-2-13b": 800 * 1024,
}
KV_POOL_BYTES = {"opt-1.3b": 54.48e9, "opt-2.7b": 51.97e9, "llama-2-7b": 44.36e9, "llama-2-13b": 32.61e9}
CONTEXT_BYTES = 0.67 * GIB


def ledger(model: str) -> Ledger:
    """Memory of one engine. What weights, context and pool leave of the used 90 % is the activation peak."""
    used = DEVICE_BYTES * UTILIZATION
    activation = used - WEIGHTS_BYTES[model] - CONTEXT_BYTES - KV_POOL_BYTES[model]
    return Ledger(
        device_bytes=DEVICE_BYTES,
        weights_bytes=int(WEIGHTS_BYTES[model]),
        activation_peak_bytes=int(activation),
        context_bytes=int(CONTEXT_BYTES),
        kv_bytes_per_token=KV_BYTES_PER_TOKEN[model],
        kv_pool_bytes=int(KV_POOL_BYTES[model]),
    )


def measured_on(model: str) -> MeasuredOn:
    return MeasuredOn(
        engine=Engine(version="0.6 (October 2024, V0)"),
        gpu=Gpu(product="NVIDIA-H100-64GB", memory_bytes=DEVICE_BYTES),
        ledger=ledger(model),
    )


def sweep(model: str) -> MeasurementDocument:
    """One engine, B swept."""
    text = (DATA / "batch_sweep.csv").read_text()
    return from_csv(text, model=model, on=measured_on(model), source="batch_sweep.csv")


def replication(model: str, chunked_prefill: str = "off") -> MeasurementDocument:
    """Packs and their single engines. Each of R engines had 0.9 / R of the device, so its pool follows."""
    rows = list(csv.DictReader(io.StringIO((DATA / "replication.csv").read_text())))
    with_pools = [
        row
        | {
            "kv_pool_bytes": str(
                int(DEVICE_BYTES * UTILIZATION / int(row["replicas"]) - ledger(row["model"]).fixed_bytes)
            )
        }
        for row in rows
        if row["model"] in MODELS and row["chunked_prefill"] == chunked_prefill
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=with_pools[0])
    writer.writeheader()
    writer.writerows(with_pools)
    return from_csv(out.getvalue(), model=model, on=measured_on(model), source="replication.csv")
