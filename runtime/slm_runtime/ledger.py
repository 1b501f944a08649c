"""Where the memory of one engine goes, as the engine says it, checked against the model's configuration.

How an engine says it is for `slm_core.engines` to know. Must never present a guess as a reading: what nobody says ends
up in the line `context`, which is defined as the rest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_core.architecture import ConfigError, read_architecture
from slm_core.measurements import Ledger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.engines.base import MemoryReport

_AGREE_FRACTION = 0.02
"""Sizes read from logs are rounded to 0.01 GiB."""


def read_config(model: str) -> dict[str, Any]:
    """The model's config.json, or nothing where the model is not a local folder or the file not readable.

    NB: the engine judges the file. Whatever is read of it here is checked, and not known where it is odd.
    """
    path = Path(model) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def kv_bytes_per_token(config: Mapping[str, Any], kv_dtype: str = "auto", dtype: str = "auto") -> int | None:
    """KV bytes of one token over all layers, by the configuration: None where it or its family is not known.

    A sliding window bounds how many tokens are kept, not the bytes of one.
    """
    try:
        return read_architecture(config, kv_dtype=kv_dtype, dtype=dtype).kv_bytes_per_token or None
    except ConfigError:
        return None


def dtype_of(config: Mapping[str, Any]) -> str:
    """The data type that a config.json names; `auto` where it names none."""
    return next((found for name in ("dtype", "torch_dtype") if isinstance(found := config.get(name), str)), "auto")


def weights_on_disk(model: str) -> int | None:
    """Bytes of the weight files of a local model."""
    folder = Path(model)
    files = [*folder.glob("*.safetensors")] or [*folder.glob("*.bin")]
    return sum(file.stat().st_size for file in files) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is known of an engine that has just become ready."""

    report: MemoryReport
    computed_kv_bytes_per_token: int | None
    weights_on_disk: int | None
    device_bytes: int
    used_bytes: int | None
    """Device memory that the engine took, by NVML; on CPU its resident memory."""
    is_gpu: bool


def make_ledger(seen: Observed) -> tuple[Ledger, tuple[str, ...]]:
    """The ledger, and notes on what does not add up."""
    notes = []
    per_token, pool = _kv(seen)
    computed = seen.computed_kv_bytes_per_token
    if computed is not None and abs(per_token / computed - 1) > _AGREE_FRACTION:
        notes.append(
            f"the engine keeps {per_token} KV bytes per token, the model's configuration says {computed}: "
            "the engine's figure is used"
        )
    log = seen.report.log
    weights = log.weights or seen.weights_on_disk or log.checkpoint or 0
    activation, graphs = log.activation_peak or 0, log.graphs or 0
    context = _context(seen, weights, activation, graphs, pool)
    ledger = Ledger(
        device_bytes=seen.device_bytes,
        weights_bytes=weights,
        activation_peak_bytes=activation,
        graphs_bytes=graphs,
        context_bytes=context,
        kv_bytes_per_token=per_token,
        kv_pool_bytes=pool,
        nvml_used_bytes=seen.used_bytes if seen.is_gpu else None,
    )
    if ledger.nvml_used_bytes:
        off = (ledger.fixed_bytes + pool) / ledger.nvml_used_bytes - 1
        if abs(off) > _AGREE_FRACTION:
            notes.append(f"the ledger adds up to {off:+.1%} of what NVML shows")
    return ledger, tuple(notes)


def _context(seen: Observed, weights: int, activation: int, graphs: int, pool: int) -> int:
    """What nothing else names. Of what the engine says and what the device shows the larger: neither tells all.

    NB: what an engine allocates after it has logged its memory (attention's workspaces, the sampler) only NVML shows;
    what it gave back by then only its log.
    """
    log = seen.report.log
    own = 0
    if log.consumed is not None:
        # What was gone before the engine looked first is its CUDA context, when it is alone on the device.
        first = max(0, log.total - log.free_at_start) if log.total and log.free_at_start else 0
        own = max(0, log.consumed - weights) + first
    if seen.used_bytes is None:
        return own
    # On CPU the pool is not resident before it is used, and its activations are part of the rest.
    rest = seen.used_bytes - weights - (activation + graphs + pool if seen.is_gpu else 0)
    return max(own, rest)


def _kv(seen: Observed) -> tuple[int, int]:
    """KV bytes per token and of the pool."""
    tokens, pool = seen.report.kv_pool_tokens, seen.report.kv_pool_bytes
    computed = seen.computed_kv_bytes_per_token
    if pool and tokens:
        per_token = pool // tokens
        # The pool is rounded down to whole blocks, and logs to 0.01 GiB: where both agree, the computed figure is exact.
        if computed and abs(per_token / computed - 1) <= _AGREE_FRACTION:
            per_token = computed
        return per_token, pool
    if computed and tokens:
        return computed, computed * tokens
    return (computed or 0), (pool or 0)
