"""vLLM's log: where memory went. Why an engine failed is for `vllm_failures` to read.

Source: `compile_or_warm_up_model` and `determine_available_memory` of vllm/v1/worker/gpu_worker.py. Must never present a
guess as a reading: what nobody says is None.
"""

from __future__ import annotations

import re

from slm_core.engines.base import StartLog
from slm_core.units import GIB

_MEMORY = {
    "weights": r"Model loading took ([\d.]+) GiB",
    "consumed": r"Actual usage is ([\d.]+) GiB for consumed memory",
    "activation_peak": r"([\d.]+) GiB for peak activation",
    "graphs": r"([\d.]+) GiB for CUDAGraph memory|Graph capturing finished in .* took ([\d.]+) GiB",
    "free_at_start": r"Free memory on device \(([\d.]+)/",
    "total": r"Free memory on device \([\d.]+/([\d.]+) GiB\)",
    "kv_pool": r"Available KV cache memory: ([\d.]+) GiB",
    "checkpoint": r"Checkpoint size: ([\d.]+) GiB",
}
_ESTIMATED_GRAPHS = re.compile(r"CUDA graph pool memory: [\d.]+ GiB \(actual\), ([\d.]+) GiB \(estimated\)")
_NOT_APPLIED = "CUDA graph memory profiling is disabled"
"""What it warns of where the estimate is no part of the peak (VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS=0)."""


def read_memory_lines(text: str) -> StartLog:
    """Find the memory lines in a log.

    NB: the peak that is logged holds an estimate of the graphs, whose actual size is logged beside it: without this they
    would be counted twice.
    """
    found = {}
    for name, pattern in _MEMORY.items():
        said = re.search(pattern, text)
        found[name] = round(float(next(filter(None, said.groups()))) * GIB) if said else None
    estimated = _ESTIMATED_GRAPHS.search(text)
    if found["activation_peak"] is not None and estimated is not None and _NOT_APPLIED not in text:
        found["activation_peak"] = max(0, found["activation_peak"] - round(float(estimated[1]) * GIB))
    return StartLog(**found)
