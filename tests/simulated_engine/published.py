"""Engines of the simulation calibrated on published measurements: one H100 64 GB, vLLM, ShareGPT.

Source: the raw results of "Mind the Memory Gap" (arXiv 2503.08311). Five figures of each engine were fitted to its
sweep and packs (`host_ms`, `host_ms_per_sequence`, `weights_ms`, `kv_ms_per_token`, `slicing_fraction`); compute rates
follow from the weights at 400 TFLOP/s, memory from the runs' constants. A test shows how near they come.
"""

from __future__ import annotations

from tests.builders import published_ledger
from tests.simulated_engine.physics import Lengths, SimulatedEngine

_COMPUTE_MS_PER_BYTE = 2.5e-12
"""Milliseconds that one token takes for each byte of 16-bit weights, at 400 TFLOP/s."""

SHAREGPT = Lengths(input_tokens_mean=111, output_tokens_mean=292, variation=0.9)
"""Lengths of those runs."""


def _engine(
    name: str,
    *,
    host_ms: float,
    host_ms_per_sequence: float,
    weights_ms: float,
    kv_ms_per_token: float,
) -> SimulatedEngine:
    published = published_ledger(name)
    weights_bytes, context_bytes = published.weights_bytes, published.context_bytes
    compute_ms = weights_bytes * _COMPUTE_MS_PER_BYTE
    return SimulatedEngine(
        name=name,
        device_bytes=published.device_bytes,
        weights_bytes=weights_bytes,
        activation_peak_bytes=int(0.9 * published.device_bytes)
        - weights_bytes
        - context_bytes
        - published.kv_pool_bytes,
        context_bytes=context_bytes,
        kv_bytes_per_token=published.kv_bytes_per_token,
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
    host_ms=1.24,
    host_ms_per_sequence=0.0399,
    weights_ms=2.31,
    kv_ms_per_token=0.000188,
)
OPT_2_7B = _engine(
    "opt-2.7b",
    host_ms=1.03,
    host_ms_per_sequence=0.0468,
    weights_ms=5.11,
    kv_ms_per_token=0.000288,
)
LLAMA_2_7B = _engine(
    "llama-2-7b",
    host_ms=1.99,
    host_ms_per_sequence=0.03,
    weights_ms=8.78,
    kv_ms_per_token=0.000416,
)
ENGINES = (OPT_1_3B, OPT_2_7B, LLAMA_2_7B)
