"""Slices: NVIDIA's device plugin offers every GPU of a node as R equal shares, once the node's label says so.

What the plugin, its daemons and feature discovery call each sharing mode stands here; what its configuration file says
is in plugin_config.py, and the steps from one class to another are in planning/fleet/node. Source: docs/concepts/gpu-sharing.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core.measurements import SharingMode
from slm_core.sharing.exclusive import EXCLUSIVE

from slm_operator.api import names
from slm_operator.partitioning import discovery
from slm_operator.partitioning.base import UNSHARED, Partitioning, SliceClass

if TYPE_CHECKING:
    from collections.abc import Mapping

STRATEGY_LABEL = "nvidia.com/gpu.sharing-strategy"
REPLICAS_LABEL = "nvidia.com/gpu.replicas"
DEVICE_PLUGIN = "device-plugin"
CONFIG_MANAGERS = frozenset({"config-manager", "nvidia-device-plugin-sidecar"})
"""Names of the sidecar in the GPU Operator and in the plugin's own chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A daemon of NVIDIA's stack without which a node has no slice of a mode to give."""

    part: str
    title: str
    """How a sentence names it."""
    containers: tuple[str, ...]
    """What its container is called; labels and names differ by installation, these do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One sharing mode as NVIDIA's stack has it."""

    label: str
    """Its word in the label of feature discovery."""
    stanza: str
    """Its field in the plugin's configuration."""
    daemon: Daemon | None = None
    mounts_shared_memory: bool = False
    """Whether the plugin mounts a /dev/shm of its own into every container."""


MPS_DAEMON = Daemon(part="mps-control-daemon", title="MPS control daemon", containers=("mps-control-daemon-ctr",))
STRATEGIES: Mapping[SharingMode, Strategy] = {
    SharingMode.MPS: Strategy(label="mps", stanza="mps", daemon=MPS_DAEMON, mounts_shared_memory=True),
    SharingMode.TIME_SLICING: Strategy(label="time-slicing", stanza="timeSlicing"),
}
SHARING_DAEMONS = tuple(one.daemon for one in STRATEGIES.values() if one.daemon is not None)
PARTS: Mapping[str, str] = {
    "nvidia-device-plugin-ctr": DEVICE_PLUGIN,
    "nvidia-device-plugin": DEVICE_PLUGIN,
    **{name: one.part for one in SHARING_DAEMONS for name in one.containers},
}
"""Which part of NVIDIA's stack a container is, by its name in NVIDIA's own chart and in the GPU Operator."""
UNSHARED_STRATEGY = "none"
"""The label's word for GPUs that nobody shares."""
_MODES = {one.label: mode for mode, one in STRATEGIES.items()} | {UNSHARED_STRATEGY: EXCLUSIVE.mode}


NODE_SLICES = Partitioning(
    name="NodeSlices",
    resource=names.NVIDIA_SHARED_GPU,
    changes_nodes=True,
    mounts_shared_memory=frozenset(mode for mode, one in STRATEGIES.items() if one.mounts_shared_memory),
)


def shown_class(labels: Mapping[str, str]) -> SliceClass | None:
    """How feature discovery says the GPUs of a node are partitioned. None when it does not say."""
    mode = _MODES.get(labels.get(STRATEGY_LABEL, ""))
    replicas = discovery.number(labels.get(REPLICAS_LABEL))
    if mode is None or replicas == 0:
        return None
    return UNSHARED if mode is UNSHARED.mode else SliceClass(mode=mode, engines_per_gpu=replicas)


def daemon_of(slice_class: SliceClass) -> Daemon | None:
    """What must run on a node beside the device plugin before slices of this class can be had there."""
    strategy = STRATEGIES.get(slice_class.mode)
    return strategy.daemon if strategy is not None else None


def gpu_of_device(device: str) -> str:
    """UUID of the GPU behind a device id of the kubelet. Those of slices are UUID::n."""
    return device.partition("::")[0]
