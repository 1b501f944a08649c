"""Nodes with GPUs, as NVIDIA's stack labels them and fills their slots."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_core.measurements import SharingMode
from slm_operator.api import names
from slm_operator.partitioning.base import SliceClass
from slm_operator.partitioning.plugin_config import config_key
from slm_operator.settings import DevicePlugin
from slm_operator.watch import projection

from tests.builders.metadata import Raw, raw_meta

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.watch.records import NodeRecord

WHOLE = SliceClass(mode=SharingMode.EXCLUSIVE, engines_per_gpu=1)
MPS_2 = SliceClass(mode=SharingMode.MPS, engines_per_gpu=2)
MPS_3 = SliceClass(mode=SharingMode.MPS, engines_per_gpu=3)
MPS_4 = SliceClass(mode=SharingMode.MPS, engines_per_gpu=4)
H100 = "NVIDIA-H100-80GB-HBM3"
OPTED_IN = {names.OPT_IN_LABEL: "true"}


def feature_labels(gpus: int, slice_class: SliceClass = WHOLE, product: str = H100) -> dict[str, str]:
    """What feature discovery says of GPUs that are divided so."""
    strategy = {"Exclusive": "none", "TimeSlicing": "time-slicing", "MPS": "mps"}[slice_class.mode]
    return {
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.count": str(gpus),
        "nvidia.com/gpu.memory": "81920",
        "nvidia.com/gpu.compute.major": "9",
        "nvidia.com/gpu.replicas": str(slice_class.engines_per_gpu),
        "nvidia.com/gpu.sharing-strategy": strategy,
    }


def slots(gpus: int, slice_class: SliceClass = WHOLE) -> dict[str, int]:
    """What the device plugin offers of them."""
    shared = slice_class.mode is not SharingMode.EXCLUSIVE
    return {
        names.NVIDIA_GPU: 0 if shared else gpus,
        names.NVIDIA_SHARED_GPU: gpus * slice_class.engines_per_gpu if shared else 0,
    }


def raw_node(
    name: str = "gpu-1",
    *,
    labels: Mapping[str, str] | None = None,
    allocatable: Mapping[str, object] | None = None,
    capacity: Mapping[str, object] | None = None,
    ready: bool = True,
    spec: Raw | None = None,
    **head: Any,
) -> Raw:
    """A node with what is said of it, and nothing of GPUs by itself. `capacity`: where it is not what is allocatable."""
    devices = {"allocatable": allocatable or {}, "capacity": (allocatable if capacity is None else capacity) or {}}
    counted = {name: {resource: str(count) for resource, count in counts.items()} for name, counts in devices.items()}
    return {
        "metadata": raw_meta(name, "", labels=dict(labels or {}), **head),
        "spec": spec or {},
        "status": {
            **counted,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "nodeInfo": {"kubeletVersion": "v1.34.2", "osImage": "Debian"},
        },
    }


def raw_gpu_node(
    name: str = "gpu-1",
    *,
    gpus: int = 1,
    slice_class: SliceClass = WHOLE,
    product: str = H100,
    labels: Mapping[str, str] | None = None,
    **more: Any,
) -> Raw:
    """An opted-in node with so many GPUs, each divided by its class. `labels` come last."""
    own = OPTED_IN | feature_labels(gpus, slice_class, product) | dict(labels or {})
    return raw_node(name, **{"labels": own, "allocatable": slots(gpus, slice_class)} | more)


def read_node(raw: Raw, **changed: Any) -> NodeRecord:
    """A raw node's record, with the fields that a case is about."""
    return replace(projection.node(raw), **changed)


def node(
    name: str = "gpu-1",
    *,
    gpus: int = 1,
    slice_class: SliceClass = WHOLE,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **changed: Any,
) -> NodeRecord:
    """The record of an opted-in node, with the fields that a case is about."""
    said = {"labels": labels, "annotations": dict(annotations or {})}
    return read_node(raw_gpu_node(name, gpus=gpus, slice_class=slice_class, **said), **changed)


def partitioned_node(
    name: str = "gpu-1",
    slice_class: SliceClass = MPS_2,
    serves: str = "team.chat",
    *,
    requested: str = "",
    **more: Any,
) -> NodeRecord:
    """A node that we partitioned for whom it serves, by its label or by another that is `requested`, and from `default`."""
    marks = {names.CLASS_LABEL: slice_class.label, names.SERVES_LABEL: serves}
    config = {DevicePlugin().config_label: requested or config_key(slice_class)}
    former = {names.FORMER_CONFIG_ANNOTATION: "default"}
    return node(name, slice_class=slice_class, **{"labels": marks | config, "annotations": former} | more)
