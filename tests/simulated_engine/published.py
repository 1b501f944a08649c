"""Engines of the simulation calibrated on published measurements: one H100 64 GB, vLLM, ShareGPT.

Source: the raw results of "Mind the Memory Gap" (arXiv 2503.08311). Five figures of each engine were fitted to its
sweep and packs (`host_ms`, `host_ms_per_sequence`, `weights_ms`, `kv_ms_per_token`, `slicing_fraction`); compute rates
follow from the weights at 400 TFLOP/s, memory from the runs' constants. A test shows how near they come.
"""

from __future__ import annotations

from tests.simulated_engine.physics import Lengths, SimulatedEngine

_GIB = 2**30
_COMPUTE_MS_PER_BYTE = 2.5e-12
"""Milliseconds that one token takes for each byte of 16-bit weights, at 400 TFLOP/s."""
_DEVICE_BYTES = int(63.43 * _GIB)
_CONTEXT_BYTES = int(0.67 * _GIB)

SHAREGPT = Lengths(input_tokens_mean=111, output_tokens_mean=292, variation=0.9)
"""Lengths of those runs."""


def _engine(
    name: str,
    *,
    weights_gib: float,
    kv_kib_per_token: int,
    pool_bytes: float,
    host_ms: float,
    host_ms_per_sequence: float,
    weights_ms: float,
    kv_ms_per_token: float,
) -> SimulatedEngine:
    weights_bytes = int(weights_gib * _GIB)
    compute_ms = weights_bytes * _COMPUTE_MS_PER_BYTE
    return SimulatedEngine(
        name=name,
        device_bytes=_DEVICE_BYTES,
        weights_bytes=weights_bytes,
        activation_peak_bytes=int(0.9 * _DEVICE_BYTES) - weights_bytes - _CONTEXT_BYTES - int(pool_bytes),
        context_bytes=_CONTEXT_BYTES,
        kv_bytes_per_token=kv_kib_per_token * 1024,
        max_model_len=2048,
        host_ms=host_ms,
        host_ms_per_sequence=host_ms_per_sequence,
        weights_ms=weights_ms,
        sequence_ms=compute_ms,
        kv_ms_per_token=kv_ms_per_token,
        prefill_ms_per_token=compute_ms,
        chunk_ms=0.0,
        queueing=1.0,
        slicing_fraction=0.5,
        noise_fraction=0.01,
    )


OPT_1_3B = _engine(
    "opt-1.3b",
    weights_gib=2.45,
    kv_kib_per_token=192,
    pool_bytes=54.48e9,
    host_ms=1.24,
    host_ms_per_sequence=0.0399,
    weights_ms=2.31,
    kv_ms_per_token=0.000188,
)
OPT_2_7B = _engine(
    "opt-2.7b",
    weights_gib=4.96,
    kv_kib_per_token=320,
    pool_bytes=51.97e9,
    host_ms=1.03,
    host_ms_per_sequence=0.0468,
    weights_ms=5.11,
    kv_ms_per_token=0.000288,
)
LLAMA_2_7B = _engine(
    "llama-2-7b",
    weights_gib=12.55,
    kv_kib_per_token=512,
    pool_bytes=44.36e9,
    host_ms=1.99,
    host_ms_per_sequence=0.03,
    weights_ms=8.78,
    kv_ms_per_token=0.000416,
)
ENGINES = (OPT_1_3B, OPT_2_7B, LLAMA_2_7B)
