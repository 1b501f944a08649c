"""vLLM's log: where memory went. Why an engine failed is for `vllm_failures` to read.

Must never present a guess as a reading: what nobody says is None.
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


def read_memory_lines(text: str) -> StartLog:
    """Find the memory lines in a log."""
    found = {}
    for name, pattern in _MEMORY.items():
        groups = next((g for g in re.findall(pattern, text)), None)
        value = next((g for g in groups if g), None) if isinstance(groups, tuple) else groups
        found[name] = None if value is None else round(float(value) * GIB)
    return StartLog(**found)
