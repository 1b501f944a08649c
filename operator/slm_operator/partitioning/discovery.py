"""What NVIDIA's feature discovery says of a node's GPUs, whoever divides them: its labels, and how to read them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PRODUCT_LABEL = "nvidia.com/gpu.product"
COUNT_LABEL = "nvidia.com/gpu.count"
MEMORY_LABEL = "nvidia.com/gpu.memory"
MIG_CONFIG_LABEL = "nvidia.com/mig.config"
"""What MIG manager is to make of the GPUs."""
MIG_SLICES_LABEL = "nvidia.com/gpu.slices.gi"
"""How large each device is. There under strategy `single` alone, where each `nvidia.com/gpu` is a MIG device."""
MIG_DEVICES = "nvidia.com/mig-"
"""Names of resources that are MIG devices, under strategy `mixed`."""
VIRTUAL_LABEL = "nvidia.com/vgpu.present"
SHARED_SUFFIX = "-SHARED"
"""Of the product, where slices bear the name of GPUs."""
CLOUD_SHARING_LABELS = ("cloud.google.com/gke-gpu-sharing-strategy", "cloud.google.com/gke-gpu-partition-size")
"""Of node pools whose GPUs are divided by the cloud's own device plugin."""
COMPUTE_MAJOR_LABEL = "nvidia.com/gpu.compute.major"
COMPUTE_MINOR_LABEL = "nvidia.com/gpu.compute.minor"
DRIVER_LABEL = "nvidia.com/cuda.driver-version.full"
CUDA_LABEL = "nvidia.com/cuda.runtime-version.full"
"""The newest CUDA that the driver runs."""
DRIVER_UPGRADE_LABEL = "nvidia.com/gpu-driver-upgrade-state"
"""Where a node is in an upgrade of its driver by the GPU Operator."""
_UPGRADE_DONE = "upgrade-done"
FORMER_CUDA_LABELS = ("nvidia.com/cuda.runtime.major", "nvidia.com/cuda.runtime.minor")
"""The same, as older releases say it."""
_DIGITS = re.compile(r"[0-9]{1,18}")
"""NB: str.isdigit() takes signs that int() refuses, and int() refuses thousands of digits."""
_USUAL_CAPABILITY = ("8", "0")
"""What a part that is not said is taken for."""


def number(text: str | None) -> int:
    """A label's count; 0 for anything that is none."""
    return int(text) if text is not None and _DIGITS.fullmatch(text) else 0


def compute_capability(labels: Mapping[str, str]) -> tuple[int, int] | None:
    """(7, 5), say. None when a label is no number."""
    pairs = zip((COMPUTE_MAJOR_LABEL, COMPUTE_MINOR_LABEL), _USUAL_CAPABILITY, strict=True)
    major, minor = (labels.get(name, usual) for name, usual in pairs)
    return _version(major, minor)


def driver_upgrade(labels: Mapping[str, str]) -> str | None:
    """Where the GPU Operator is in upgrading a node's driver; None where it is not."""
    said = labels.get(DRIVER_UPGRADE_LABEL)
    return said if said and said != _UPGRADE_DONE else None


def newest_cuda(labels: Mapping[str, str]) -> tuple[int, int] | None:
    """The newest CUDA that the driver of a node runs: (13, 0). None where nothing says it."""
    former = ".".join(labels.get(name, "") for name in FORMER_CUDA_LABELS)
    major, _, minor = labels.get(CUDA_LABEL, former).partition(".")
    return _version(major, minor)


def _version(major: str, minor: str) -> tuple[int, int] | None:
    return (int(major), int(minor)) if _DIGITS.fullmatch(major) and _DIGITS.fullmatch(minor) else None
