"""Reading a node: what its labels, resources and pods say about how its GPUs are cut.

Everything here is read from what NVIDIA's feature discovery and device plugin publish. Source of each rule:
docs/gpu-sharing.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_runtime.document import SharingMode

from slm_operator.api import names
from slm_operator.manifests.plugin_config import SliceClass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.observe.records import DaemonPodRecord, NodeRecord, PodRecord

PRODUCT_LABEL = "nvidia.com/gpu.product"
COUNT_LABEL = "nvidia.com/gpu.count"
MEMORY_LABEL = "nvidia.com/gpu.memory"
REPLICAS_LABEL = "nvidia.com/gpu.replicas"
STRATEGY_LABEL = "nvidia.com/gpu.sharing-strategy"
MIG_CONFIG_LABEL = "nvidia.com/mig.config"
COMPUTE_MAJOR_LABEL = "nvidia.com/gpu.compute.major"
CONFIG_MANAGERS = frozenset({"config-manager", "nvidia-device-plugin-sidecar"})
"""Names of the sidecar in the GPU Operator and in the plugin's own chart."""

UNSHARED = SliceClass(mode=SharingMode.NONE, replicas_per_gpu=1)
_MODES = {"none": SharingMode.NONE, "time-slicing": SharingMode.TIME_SLICING, "mps": SharingMode.MPS}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """One node as planning sees it."""

    node: NodeRecord
    our_pods: tuple[PodRecord, ...] = ()
    """Replicas of ours that hold a GPU or a slice here."""
    busy_pods: tuple[PodRecord, ...] = ()
    """Pods that hold a GPU here and are not ours to evict: foreign ones, and profiles that measure."""
    daemons: tuple[DaemonPodRecord, ...] = ()

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.node.meta.key.name

    @property
    def gpus(self) -> int:
        """Physical GPUs."""
        return _number(self.node.meta.labels.get(COUNT_LABEL))

    @property
    def gpu_bytes(self) -> int:
        """Memory of one GPU. 0 when feature discovery has not said."""
        return _number(self.node.meta.labels.get(MEMORY_LABEL)) << 20

    @property
    def tainted(self) -> bool:
        """Whether our taint is on it."""
        return any(taint.key == names.CHANGING_TAINT for taint in self.node.taints)

    @property
    def changing(self) -> bool:
        """Whether a change has begun and not ended. NB: the taint is lifted before an MPS daemon can come."""
        return self.tainted or names.CHANGE_STARTED_ANNOTATION in self.node.meta.annotations

    @property
    def marked(self) -> bool:
        """Whether anything of ours is on it: it must be released when no demand is left."""
        meta = self.node.meta
        marks = (names.CLASS_LABEL, names.SERVES_LABEL)
        return (
            self.changing
            or any(mark in meta.labels for mark in marks)
            or names.FORMER_CONFIG_ANNOTATION in meta.annotations
        )

    @property
    def observed_class(self) -> SliceClass | None:
        """How feature discovery says the GPUs are cut. None when it does not say."""
        labels = self.node.meta.labels
        mode = _MODES.get(labels.get(STRATEGY_LABEL, ""))
        replicas = _number(labels.get(REPLICAS_LABEL))
        if mode is None or replicas == 0:
            return None
        return UNSHARED if mode is SharingMode.NONE else SliceClass(mode=mode, replicas_per_gpu=replicas)

    def is_closed_by_itself(self, wanted: SliceClass) -> bool:
        """Whether it shows an MPS class already, under which no whole GPU can be had."""
        mps = wanted.mode is SharingMode.MPS and self.observed_class == wanted
        return mps and self.node.allocatable.get(names.NVIDIA_GPU, 0) == 0

    def waits_for_daemon(self, wanted: SliceClass) -> bool:
        """Whether only the MPS daemon is missing: neither a GPU nor a slice is allocatable before it runs."""
        no_slices = self.node.allocatable.get(names.NVIDIA_SHARED_GPU, 0) == 0
        return self.is_closed_by_itself(wanted) and no_slices and not self.has_mps_daemon

    @property
    def has_mps_daemon(self) -> bool:
        """Whether the MPS control daemon of this node is ready."""
        return any(daemon.part == "mps-control-daemon" and daemon.ready for daemon in self.daemons)

    def misses(self, wanted: SliceClass) -> str | None:
        """What is not yet as `wanted`, as a sentence; None when the node has converged."""
        if self.observed_class != wanted:
            seen = self.observed_class.label if self.observed_class else "nothing"
            return f"feature discovery shows {seen}, not {wanted.label}"
        resource = names.NVIDIA_GPU if wanted.mode is SharingMode.NONE else names.NVIDIA_SHARED_GPU
        slots = self.node.allocatable.get(resource, 0)
        if slots != self.gpus * wanted.replicas_per_gpu:
            return f"{slots} of {self.gpus * wanted.replicas_per_gpu} {resource} are allocatable"
        if wanted.mode is SharingMode.MPS and not self.has_mps_daemon:
            return "the MPS control daemon is not ready"
        return None

    @property
    def has_config_manager(self) -> bool:
        """Whether the device plugin here can be told its configuration by label."""
        return any(CONFIG_MANAGERS & set(daemon.containers) for daemon in self.daemons)


def node_states(
    nodes: Iterable[NodeRecord], pods: Iterable[PodRecord], daemons: Iterable[DaemonPodRecord]
) -> tuple[NodeState, ...]:
    """Every node with the pods that hold its GPUs, by name."""
    by_node: dict[str, list[PodRecord]] = {}
    for pod in pods:
        if pod.node is not None and pod.holds_gpu:
            by_node.setdefault(pod.node, []).append(pod)
    parts: dict[str, list[DaemonPodRecord]] = {}
    for daemon in daemons:
        if daemon.node is not None:
            parts.setdefault(daemon.node, []).append(daemon)
    return tuple(
        NodeState(
            node=node,
            our_pods=tuple(pod for pod in by_node.get(node.meta.key.name, ()) if is_replica(pod)),
            busy_pods=tuple(pod for pod in by_node.get(node.meta.key.name, ()) if not is_replica(pod)),
            daemons=tuple(parts.get(node.meta.key.name, ())),
        )
        for node in sorted(nodes, key=lambda node: node.meta.key)
    )


def is_replica(pod: PodRecord) -> bool:
    """Whether a pod is an engine replica of ours, which we may evict."""
    return names.DEPLOYMENT_LABEL in pod.meta.labels


def whose(pod: PodRecord) -> str:
    """A pod that is in the way, for a message."""
    if names.PROFILE_LABEL in pod.meta.labels:
        return f"pod {pod.meta.key}, which measures a profile"
    return f"pod {pod.meta.key}"


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0
