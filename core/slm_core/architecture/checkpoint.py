"""Weights as a checkpoint's own metadata has them: the header of a safetensors file, or the index of several.

Exists because what lies on disk needs no counting, and holds for families that nobody has counted. Reads names, types
and shapes; must never read a weight. Assumes the format of safetensors: 8 bytes of length, then that much JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from slm_core.architecture.fields import ConfigError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER_LENGTH_BYTES = 8
MOST_HEADER_BYTES = 100_000_000
"""The format's own limit."""
MOST_BYTES = 1 << 48
_FLOATING = frozenset({"F64", "F32", "F16", "BF16"})
"""What the engine casts to its own type; all others it keeps as they are."""
_BITS = MappingProxyType({
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "U64": 64, "I32": 32, "U32": 32, "I16": 16, "U16": 16,
    "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
})  # fmt: skip
_NOT_SERVED = ("mtp.", "model.mtp.")
"""Layers that only draft further tokens; without a flag of its own no engine loads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What the weight files of one model hold."""

    floating_elements: int
    """Weights in 16 bits and more."""
    other_bytes: int
    """Whatever is packed or in 8 bits and less."""
    total_bytes: int | None = None
    """Where only the sum of all bytes is known, whatever their types."""

    @property
    def parameters(self) -> int | None:
        """Weights, where none are packed several into one element; else None."""
        return self.floating_elements if self.floating_elements and not self.other_bytes else None

    def weights_bytes(self, bytes_per_weight: float, stored_bytes_per_weight: float | None) -> int:
        """Bytes in memory, of an engine that casts weights to so many bytes, from what is stored in so many.

        None for what is stored: quantised, so that nothing is cast.
        """
        if self.total_bytes is None:
            return round(self.floating_elements * bytes_per_weight) + self.other_bytes
        cast = 1.0 if stored_bytes_per_weight is None else bytes_per_weight / stored_bytes_per_weight
        return round(self.total_bytes * cast)


def read_index(index: object, source: str) -> Checkpoint | None:
    """What `model.safetensors.index.json` says in its metadata; None where it says nothing. Raises ConfigError."""
    metadata = index.get("metadata") if isinstance(index, dict) else None
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if total is None:
        return None
    if isinstance(total, float) and total.is_integer():
        total = int(total)  # NB: some writers sum in floating point
    if not isinstance(total, int) or isinstance(total, bool) or not 0 < total < MOST_BYTES:
        raise ConfigError(
            f"{source}: metadata.total_size: {shown(total)} is not a number of bytes: load the index again"
        )
    return Checkpoint(floating_elements=0, other_bytes=0, total_bytes=total)


def files_of(index: object, source: str) -> tuple[str, ...]:
    """The weight files that an index names. Raises ConfigError."""
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ConfigError(f"{source}: weight_map: not a table of tensors and files: load the index again")
    files = sorted(set(names.values()))
    strange = next((name for name in files if "/" in name or "\\" in name or name in ("", ".", "..")), None)
    if strange is not None:
        raise ConfigError(
            f"{source}: weight_map: {shown(strange)} is no name of a file beside it: load the index again"
        )
    return tuple(files)


def read_headers(headers: Iterable[tuple[str, object]]) -> Checkpoint:
    """The sum of the headers of all files, each with its name for messages. Raises ConfigError."""
    floating = other = 0
    for source, header in headers:
        if not isinstance(header, dict):
            raise ConfigError(f"{source}: its header is not an object: load the file again")
        for name, tensor in header.items():
            if name == "__metadata__" or name.startswith(_NOT_SERVED):
                continue
            kind, count = _tensor(source, name, tensor)
            if kind in _FLOATING:
                floating += count
            else:
                other += -(-count * _BITS[kind] // 8)
    if not floating and not other:
        raise ConfigError("the weight files hold no tensor: load them again")
    return Checkpoint(floating_elements=floating, other_bytes=other)


def _tensor(source: str, name: str, tensor: Any) -> tuple[str, int]:
    kind, shape = (tensor.get("dtype"), tensor.get("shape")) if isinstance(tensor, dict) else (None, None)
    if not isinstance(kind, str) or kind not in _BITS:
        raise ConfigError(f"{source}: {shown(name)}: the type {shown(kind)} is not known here: measure the model")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < MOST_BYTES for size in shape):
        raise ConfigError(f"{source}: {shown(name)}: {shown(shape)} is not a shape: load the file again")
    count = 1
    for size in shape:
        count *= size
        if count > MOST_BYTES:
            raise ConfigError(f"{source}: {shown(name)}: larger than any tensor: load the file again")
    return kind, count
