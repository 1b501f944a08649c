"""Reading a node: what its labels, resources and pods say about how its GPUs are partitioned.

Everything here is read from what NVIDIA's feature discovery and device plugin publish, and from our own marks. Source of
each rule: docs/concepts/gpu-sharing.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.manifests.metadata import label_value
from slm_operator.partitioning import RESOURCES, discovery, partitioning_of
from slm_operator.partitioning.node_slices import (
    CONFIG_MANAGERS,
    DEVICE_PLUGIN,
    MPS_DAEMON,
    NODE_SLICES,
    SHARING_DAEMONS,
    daemon_of,
    shown_class,
)
from slm_operator.partitioning.plugin_config import (
    NO_BASE,
    Base,
    config_key,
    is_key_of,
    is_ours,
)
from slm_operator.partitioning.whole_gpus import WHOLE_GPUS, parts_of_gpus
from slm_operator.planning.fleet.node.annotations import AWAY, Marks, change_in, healthy_gpus_in
from slm_operator.version import dotted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slm_operator.partitioning.base import SliceClass
    from slm_operator.partitioning.config_manager import ConfigManager, Fault
    from slm_operator.partitioning.node_slices import Daemon
    from slm_operator.partitioning.whole_gpus import Parts
    from slm_operator.watch.records import DaemonPodRecord, Key, NodeRecord, PodRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """One node as planning sees it."""

    node: NodeRecord
    opted_in: bool
    """Whether its owner allows us to touch it."""
    requested_config: str | None
    """The configuration key that its label names."""
    our_pods: tuple[PodRecord, ...] = ()
    """Replicas of ours that hold a GPU or a slice here."""
    busy_pods: tuple[PodRecord, ...] = ()
    """Pods that hold a GPU here and are not ours to evict: foreign ones, and profiles that measure."""
    daemons: tuple[DaemonPodRecord, ...] = ()
    configured_class: SliceClass | None = None
    """The class of the configuration that its label names, or that it takes without a label. None when it cannot be read."""
    base: Base = NO_BASE
    """The configuration that it has without us."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Classes that it could not be partitioned as, and why: until somebody removes the annotation, or it `is_over`."""
    mps_fault: Fault | None = None
    """Why an MPS daemon here does not, or would not, hold the configuration of a label."""

    # Read from the above once, for planning asks dozens of times.
    name: str = field(init=False, repr=False, compare=False)
    gpus: int = field(init=False, repr=False, compare=False)
    """Physical GPUs."""
    replicas: Mapping[tuple[str, str], int] = field(init=False, repr=False, compare=False)
    """How many of our pods each deployment has here, by namespace and label."""
    tainted: bool = field(init=False, repr=False, compare=False)
    """Whether our taint is on it."""
    changing: bool = field(init=False, repr=False, compare=False)
    """Whether a change has begun and not ended. NB: the taint is lifted before an MPS daemon can come."""
    marks: Marks = field(init=False, repr=False, compare=False)
    """Our labels: the class that replicas select, and whom its slices serve."""
    observed_class: SliceClass | None = field(init=False, repr=False, compare=False)
    """How feature discovery says the GPUs are partitioned. None when it does not say."""
    parts: Parts | None = field(init=False, repr=False, compare=False)
    """Why what it offers as `nvidia.com/gpu` are no whole GPUs; None where nothing says so."""

    def __post_init__(self) -> None:
        meta = self.node.meta
        owners = Counter(owner_of_replica(pod) for pod in self.our_pods)
        tainted = any(taint.key == names.CHANGING_TAINT for taint in self.node.taints)
        object.__setattr__(self, "name", meta.key.name)
        object.__setattr__(self, "gpus", discovery.number(meta.labels.get(discovery.COUNT_LABEL)))
        object.__setattr__(self, "replicas", owners)
        object.__setattr__(self, "tainted", tainted)
        object.__setattr__(self, "changing", tainted or names.CHANGE_STARTED_ANNOTATION in meta.annotations)
        object.__setattr__(
            self, "marks", Marks(meta.labels.get(names.CLASS_LABEL), meta.labels.get(names.SERVES_LABEL))
        )
        object.__setattr__(self, "observed_class", shown_class(meta.labels))
        in_force = None if self.switched or self.changing or not self.has_config_manager else self.configured_class
        found = parts_of_gpus(meta.labels, self.node.capacity, self.node.allocatable, in_force)
        object.__setattr__(self, "parts", found)

    @property
    def whole_gpus(self) -> int:
        """Whole GPUs that it offers: those that its device plugin takes for unhealthy are none."""
        return 0 if self.parts is not None else self.node.allocatable.get(WHOLE_GPUS.resource, 0)

    @property
    def gpu_bytes(self) -> int:
        """Memory of one GPU. 0 when feature discovery has not said."""
        return discovery.number(self.node.meta.labels.get(discovery.MEMORY_LABEL)) << 20

    @property
    def upgrading(self) -> str | None:
        """Where the GPU Operator is in upgrading its driver; None where it is not."""
        return discovery.driver_upgrade(self.node.meta.labels)

    @property
    def away(self) -> bool:
        """Whether nothing can be expected of it now."""
        return not self.node.ready or self.upgrading is not None

    @property
    def failed_on(self) -> str | None:
        """The plugin's release when a change failed here last, or that it has been away since."""
        return self.node.meta.annotations.get(names.FAILED_ON_ANNOTATION)

    @property
    def failing_on(self) -> str | None:
        """The same, of a change that fails now."""
        return AWAY if self.away else plugin_release(self.daemons)

    @property
    def purpose(self) -> Marks | None:
        """What it is, or is being changed to. None when it is nobody's."""
        if self.changing:
            return change_in(self.node.meta.annotations.get(names.CHANGING_TO_ANNOTATION))
        return self.marks if any(self.marks) else None

    @property
    def paused(self) -> bool:
        """Whether its administrator wants nothing to be changed."""
        return self.node.meta.annotations.get(names.PAUSED_ANNOTATION) == "true"

    @property
    def switched(self) -> bool:
        """Whether we changed its configuration label and owe it the former value."""
        ours = self.requested_config is not None and is_ours(self.requested_config)
        return names.FORMER_CONFIG_ANNOTATION in self.node.meta.annotations or (any(self.marks) and ours)

    @property
    def former(self) -> str | None:
        """The label's value before us; None when there was no label."""
        return self.node.meta.annotations.get(names.FORMER_CONFIG_ANNOTATION) or None

    def is_requested(self, wanted: SliceClass) -> bool:
        """Whether its label names a configuration of ours for a class, and that is what it shall load.

        NB: one that was made before its base was edited is as good while anybody's engine is there: another is loaded when none is,
        for a drain would take down what serves. In a change that has begun only what answers counts, or it would go to and fro.
        """
        if not is_key_of(self.requested_config, wanted) or self.base.fault is not None:
            return is_key_of(self.requested_config, wanted)
        if self.busy_pods or any(pod.ready or (pod.stuck is None and not self.changing) for pod in self.our_pods):
            return True
        return self.requested_config == config_key(wanted, self.base.text)

    @property
    def marked(self) -> bool:
        """Whether anything of ours is on it that must go when nobody needs it."""
        return self.changing or self.switched or any(self.marks)

    @property
    def label_changed_externally(self) -> bool:
        """Whether somebody set the configuration label, after us, to a value that is neither ours nor the former."""
        ours = self.requested_config is None or is_ours(self.requested_config)
        return self.switched and not ours and self.requested_config != self.former

    @property
    def partitioned_externally(self) -> bool:
        """Whether its GPUs are shared, but not by us: such a node is used as it is, or not at all."""
        return self.parts is not None and not self.switched and not self.changing

    @property
    def lags(self) -> bool:
        """Whether a node that is not ours shows slices that its configuration does not say: they may go at any moment.

        NB: so does one that was given back and whose plugin never loaded the requested configuration. Without a config-manager there
        is no configuration to compare, and what the node shows counts.
        """
        unmarked = self.partitioned_externally and not any(self.marks)
        return unmarked and self.has_config_manager and self.configured_class != self.observed_class

    @property
    def repartitioned_externally(self) -> bool:
        """Whether another party, which had partitioned it and whose slices we used, repartitioned it."""
        seen = self.observed_class
        return any(self.marks) and not self.switched and (seen is None or seen.label != self.marks.class_label)

    def is_closed_by_itself(self, wanted: SliceClass) -> bool:
        """Whether it shows a class already under which no whole GPU can be had, because a daemon owns them all."""
        owned = daemon_of(wanted) is not None and self.observed_class == wanted
        return owned and self.node.allocatable.get(WHOLE_GPUS.resource, 0) == 0

    def waits_for_daemon(self, wanted: SliceClass) -> bool:
        """Whether only that daemon is missing: neither a GPU nor a slice is allocatable before it runs."""
        no_slices = self.node.allocatable.get(NODE_SLICES.resource, 0) == 0
        return self.is_closed_by_itself(wanted) and no_slices and self.sharing_daemon(wanted) is None

    def sharing_daemon(self, wanted: SliceClass) -> DaemonPodRecord | None:
        """The daemon that slices of this class need, when it is ready on this node."""
        found = self.daemon_pod(wanted)
        return found if found is not None and found.ready else None

    def daemon_pod(self, wanted: SliceClass) -> DaemonPodRecord | None:
        """The pod of that daemon, ready or not."""
        needed = daemon_of(wanted)
        return next((one for one in self.daemons if needed and one.part == needed.part), None)

    def left_daemon(self, wanted: SliceClass) -> Daemon | None:
        """A daemon that slices of this class do not need, and that has not ended yet.

        NB: until it has, its GPUs are in its compute mode, in which one process may use each, or two under its own limits.
        """
        needed, parts = daemon_of(wanted), {one.part for one in self.daemons}
        return next((one for one in SHARING_DAEMONS if one != needed and one.part in parts), None)

    def fault_of_daemon(self, wanted: SliceClass) -> Fault | None:
        """Why the daemon that slices of this class need does not hold the configuration that this node's label names, or would.

        NB: what another party has partitioned without a label has the plugin's default, which is what such a daemon does hold.
        """
        by_label = self.requested_config is not None or not self.partitioned_externally
        return self.mps_fault if by_label and daemon_of(wanted) is MPS_DAEMON else None

    def misses(self, wanted: SliceClass) -> str | None:
        """What is not yet as `wanted`, as a sentence; None when the node has converged."""
        if self.observed_class != wanted:
            seen = self.observed_class.label if self.observed_class else "nothing"
            return f"feature discovery shows {seen}, not {wanted.label}"
        resource, slots = partitioning_of(wanted).resource, self._allocatable(wanted)
        # NB: fewer than there are is no sign of another configuration: the plugin takes out what an unhealthy GPU had.
        if not 0 < slots <= self.gpus * wanted.engines_per_gpu:
            return f"{slots} of {self.gpus * wanted.engines_per_gpu} {resource} are allocatable"
        left, needed = self.left_daemon(wanted), daemon_of(wanted)
        if left is not None:
            return f"the {left.title} has not ended"
        return f"the {needed.title} is not ready" if needed and self.sharing_daemon(wanted) is None else None

    def unhealthy(self, wanted: SliceClass) -> str | None:
        """What of the class that it shows its plugin does not offer, as a sentence; None when it offers all.

        NB: the plugin takes out one slice for each fault of a GPU that is shared, and the whole of one that is not.
        """
        whole, slots = self.gpus * wanted.engines_per_gpu, self._allocatable(wanted)
        if self.observed_class != wanted or not 0 < slots < whole:
            return None
        return f"{whole - slots} of {whole} {partitioning_of(wanted).resource} on node {self.name} are not healthy"

    @property
    def healthy_gpus(self) -> int:
        """GPUs that can be given: in a change, as they were counted before it; all, where nothing is offered at the moment."""
        shown = self.observed_class
        if self.changing:
            noted = healthy_gpus_in(self.node.meta.annotations.get(names.CHANGING_TO_ANNOTATION))
            return min(self.gpus, noted or self.gpus)
        if shown is None or self._allocatable(shown) == 0:
            return self.gpus
        return min(self.gpus, -(-self._allocatable(shown) // shown.engines_per_gpu))

    def slots_for(self, wanted: SliceClass) -> int:
        """Slices of a class that it has or would have. One on which a pod runs is there, whatever its plugin says of it."""
        whole, slots = self.healthy_gpus * wanted.engines_per_gpu, self._allocatable(wanted)
        if self.changing or self.observed_class != wanted or slots == 0:
            return whole
        resource = partitioning_of(wanted).resource
        held = sum(pod.gpu_requests.get(resource, 0) for pod in (*self.our_pods, *self.busy_pods))
        return min(self.gpus * wanted.engines_per_gpu, max(slots, held))

    def _allocatable(self, wanted: SliceClass) -> int:
        return self.node.allocatable.get(partitioning_of(wanted).resource, 0)

    @property
    def offers_anything(self) -> bool:
        """Whether a pod could be given a GPU or a slice here."""
        return any(self.node.allocatable.get(resource) for resource in RESOURCES)

    @property
    def has_plugin(self) -> bool:
        """Whether the device plugin's pod is on it."""
        return any(one.part == DEVICE_PLUGIN for one in self.daemons)

    @property
    def has_config_manager(self) -> bool:
        """Whether the device plugin here can be configured by label."""
        return any(CONFIG_MANAGERS & set(daemon.containers) for daemon in self.daemons)

    def pods_of(self, deployment: Key) -> int:
        """Replicas of one deployment that run here."""
        return self.replicas.get(owner_of(deployment), 0) if self.our_pods else 0


def owner_of(deployment: Key) -> tuple[str, str]:
    """A deployment as its pods name it: namespace and label."""
    return deployment.namespace, label_value(deployment.name)


def owner_of_replica(pod: PodRecord) -> tuple[str, str]:
    """The same, of a replica."""
    return pod.meta.key.namespace, pod.replica_of or ""


def plugin_release(daemons: Iterable[DaemonPodRecord]) -> str | None:
    """The release of the device plugin among these pods, by its config-manager's image. None when nothing says it."""
    managers = (one.config_manager for one in daemons if one.part == DEVICE_PLUGIN)
    return next((dotted(one.version) for one in managers if one is not None and one.version is not None), None)


def mps_managers(daemons: Iterable[DaemonPodRecord]) -> list[ConfigManager | None]:
    """The config-manager of each MPS daemon among these pods."""
    return [one.config_manager for one in daemons if one.part == MPS_DAEMON.part]


def is_replica(pod: PodRecord) -> bool:
    """Whether a pod is an engine replica of ours, which we may evict."""
    return pod.replica_of is not None
