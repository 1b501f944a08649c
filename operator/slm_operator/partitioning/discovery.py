"""What NVIDIA's feature discovery says of a node's GPUs, whoever divides them: its labels, and how to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PRODUCT_LABEL = "nvidia.com/gpu.product"
COUNT_LABEL = "nvidia.com/gpu.count"
MEMORY_LABEL = "nvidia.com/gpu.memory"
MIG_CONFIG_LABEL = "nvidia.com/mig.config"
COMPUTE_MAJOR_LABEL = "nvidia.com/gpu.compute.major"
COMPUTE_MINOR_LABEL = "nvidia.com/gpu.compute.minor"
CUDA_MAJOR_LABELS = ("nvidia.com/cuda.runtime-version.major", "nvidia.com/cuda.runtime.major")
"""Of the newest CUDA that the driver supports; the second name is the older one."""
_USUAL_CAPABILITY = ("8", "0")
"""What a part that is not said is taken for."""


def number(text: str | None) -> int:
    """A label's count; 0 for anything that is none."""
    return int(text) if text is not None and text.isdigit() else 0


def compute_capability(labels: Mapping[str, str]) -> tuple[int, int] | None:
    """(7, 5), say. None when a label is no number."""
    pairs = zip((COMPUTE_MAJOR_LABEL, COMPUTE_MINOR_LABEL), _USUAL_CAPABILITY, strict=True)
    major, minor = (labels.get(name, usual) for name, usual in pairs)
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
