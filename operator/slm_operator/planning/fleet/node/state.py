"""Reading a node: what its labels, resources and pods say about how its GPUs are cut.

Everything here is read from what NVIDIA's feature discovery and device plugin publish, and from our own marks. Source of
each rule: docs/gpu-sharing.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from slm_core.measurements import SharingMode

from slm_operator.api import names
from slm_operator.manifests.metadata import label_value
from slm_operator.manifests.plugin_config import SliceClass, class_of_config

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from slm_operator.planning.views import FleetView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import DaemonPodRecord, Key, NodeRecord, PodRecord

PRODUCT_LABEL = "nvidia.com/gpu.product"
COUNT_LABEL = "nvidia.com/gpu.count"
MEMORY_LABEL = "nvidia.com/gpu.memory"
REPLICAS_LABEL = "nvidia.com/gpu.replicas"
STRATEGY_LABEL = "nvidia.com/gpu.sharing-strategy"
MIG_CONFIG_LABEL = "nvidia.com/mig.config"
COMPUTE_MAJOR_LABEL = "nvidia.com/gpu.compute.major"
COMPUTE_MINOR_LABEL = "nvidia.com/gpu.compute.minor"
CONFIG_MANAGERS = frozenset({"config-manager", "nvidia-device-plugin-sidecar"})
"""Names of the sidecar in the GPU Operator and in the plugin's own chart."""

_DEFAULT_KEY = "default"
"""What a config-manager takes by its fallback `named`, when nothing else is said."""
UNSHARED = SliceClass(mode=SharingMode.NONE, replicas_per_gpu=1)
_MODES = {"none": SharingMode.NONE, "time-slicing": SharingMode.TIME_SLICING, "mps": SharingMode.MPS}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """One node as planning sees it."""

    node: NodeRecord
    opted_in: bool
    """Whether its owner allows us to touch it."""
    told: str | None
    """The configuration key that its label names."""
    our_pods: tuple[PodRecord, ...] = ()
    """Replicas of ours that hold a GPU or a slice here."""
    busy_pods: tuple[PodRecord, ...] = ()
    """Pods that hold a GPU here and are not ours to evict: foreign ones, and profiles that measure."""
    daemons: tuple[DaemonPodRecord, ...] = ()
    configured_class: SliceClass | None = None
    """The class of the configuration that its label names, or that it takes without a label. None when it cannot be read."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Classes that it could not be cut into, and why, until somebody removes the annotation."""

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
    marks: tuple[str | None, str | None] = field(init=False, repr=False, compare=False)
    """Our labels: the class that replicas select, and whom its slices serve."""
    observed_class: SliceClass | None = field(init=False, repr=False, compare=False)
    """How feature discovery says the GPUs are cut. None when it does not say."""

    def __post_init__(self) -> None:
        meta = self.node.meta
        owners = Counter(owner_of_replica(pod) for pod in self.our_pods)
        tainted = any(taint.key == names.CHANGING_TAINT for taint in self.node.taints)
        object.__setattr__(self, "name", meta.key.name)
        object.__setattr__(self, "gpus", _number(meta.labels.get(COUNT_LABEL)))
        object.__setattr__(self, "replicas", owners)
        object.__setattr__(self, "tainted", tainted)
        object.__setattr__(self, "changing", tainted or names.CHANGE_STARTED_ANNOTATION in meta.annotations)
        object.__setattr__(self, "marks", (meta.labels.get(names.CLASS_LABEL), meta.labels.get(names.SERVES_LABEL)))
        object.__setattr__(self, "observed_class", _observed_class(meta.labels))

    @property
    def gpu_bytes(self) -> int:
        """Memory of one GPU. 0 when feature discovery has not said."""
        return _number(self.node.meta.labels.get(MEMORY_LABEL)) << 20

    @property
    def purpose(self) -> str | None:
        """What it is, or is being changed to, as `describe` says it. None when it is nobody's."""
        if self.changing:
            return self.node.meta.annotations.get(names.CHANGING_TO_ANNOTATION)
        return describe(*self.marks) if any(self.marks) else None

    @property
    def switched(self) -> bool:
        """Whether we changed its configuration label and owe it the former value."""
        ours = self.told is not None and self.told.startswith(names.CONFIG_KEY_PREFIX)
        return names.FORMER_CONFIG_ANNOTATION in self.node.meta.annotations or (any(self.marks) and ours)

    @property
    def former(self) -> str | None:
        """The label's value before us; None when there was no label."""
        return self.node.meta.annotations.get(names.FORMER_CONFIG_ANNOTATION) or None

    @property
    def marked(self) -> bool:
        """Whether anything of ours is on it that must go when nobody needs it."""
        return self.changing or self.switched or any(self.marks)

    @property
    def overruled(self) -> bool:
        """Whether somebody set the configuration label, after us, to a value that is neither ours nor the former."""
        ours = self.told is None or self.told.startswith(names.CONFIG_KEY_PREFIX)
        return self.switched and not ours and self.told != self.former

    @property
    def cut_by_others(self) -> bool:
        """Whether its GPUs are shared, but not by us: such a node is used as it is, or not at all."""
        return self.observed_class not in {None, UNSHARED} and not self.switched and not self.changing

    @property
    def lags(self) -> bool:
        """Whether a node that is not ours shows slices that its configuration does not say: they may go at any moment.

        NB: so does one that was given back and whose plugin never loaded what it was told. Without a config-manager there
        is no configuration to compare, and what the node shows counts.
        """
        unmarked = self.cut_by_others and not any(self.marks)
        return unmarked and self.has_config_manager and self.configured_class != self.observed_class

    @property
    def recut(self) -> bool:
        """Whether somebody else, who had cut it and whose slices we used, cut it otherwise."""
        seen = self.observed_class
        return any(self.marks) and not self.switched and (seen is None or seen.label != self.marks[0])

    def is_closed_by_itself(self, wanted: SliceClass) -> bool:
        """Whether it shows an MPS class already, under which no whole GPU can be had."""
        mps = wanted.mode is SharingMode.MPS and self.observed_class == wanted
        return mps and self.node.allocatable.get(names.NVIDIA_GPU, 0) == 0

    def waits_for_daemon(self, wanted: SliceClass) -> bool:
        """Whether only the MPS daemon is missing: neither a GPU nor a slice is allocatable before it runs."""
        no_slices = self.node.allocatable.get(names.NVIDIA_SHARED_GPU, 0) == 0
        return self.is_closed_by_itself(wanted) and no_slices and self.mps_daemon is None

    @property
    def mps_daemon(self) -> DaemonPodRecord | None:
        """The MPS control daemon of this node, when it is ready."""
        return next((one for one in self.daemons if one.part == "mps-control-daemon" and one.ready), None)

    def misses(self, wanted: SliceClass) -> str | None:
        """What is not yet as `wanted`, as a sentence; None when the node has converged."""
        if self.observed_class != wanted:
            seen = self.observed_class.label if self.observed_class else "nothing"
            return f"feature discovery shows {seen}, not {wanted.label}"
        resource = names.NVIDIA_GPU if wanted.mode is SharingMode.NONE else names.NVIDIA_SHARED_GPU
        slots = self.node.allocatable.get(resource, 0)
        if slots != self.gpus * wanted.replicas_per_gpu:
            return f"{slots} of {self.gpus * wanted.replicas_per_gpu} {resource} are allocatable"
        if wanted.mode is SharingMode.MPS and self.mps_daemon is None:
            return "the MPS control daemon is not ready"
        return None

    @property
    def has_config_manager(self) -> bool:
        """Whether the device plugin here can be told its configuration by label."""
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


def _observed_class(labels: Mapping[str, str]) -> SliceClass | None:
    mode = _MODES.get(labels.get(STRATEGY_LABEL, ""))
    replicas = _number(labels.get(REPLICAS_LABEL))
    if mode is None or replicas == 0:
        return None
    return UNSHARED if mode is SharingMode.NONE else SliceClass(mode=mode, replicas_per_gpu=replicas)


def describe(class_label: str | None, serves: str | None) -> str:
    """A purpose in words, for annotations and messages."""
    return f"{class_label} for {serves}"


def class_of_label(label: str | None) -> SliceClass | None:
    """The class that a value of the class label names; None for anything that we do not write."""
    mode, _, replicas = (label or "").rpartition("-")
    if mode not in {"mps", "time-slicing"} or _number(replicas) < 1:
        return None
    return SliceClass(mode=_MODES[mode], replicas_per_gpu=int(replicas))


def class_of_key(key: str | None) -> SliceClass | None:
    """The class that a configuration key of ours is for; None for anybody else's."""
    if key is None or not key.startswith(names.CONFIG_KEY_PREFIX):
        return None
    return class_of_label(key.removeprefix(names.CONFIG_KEY_PREFIX).rpartition("-")[0])


def configured_class(
    told: str | None, daemons: Sequence[DaemonPodRecord], texts: Mapping[str, str]
) -> SliceClass | None:
    """What a node shall show by its label `told` and the texts of the plugin's ConfigMap. None when nobody can say.

    NB: a key of ours that somebody removed may be loaded all the same; its name says what it was.
    """
    default = next((one.default_key for one in daemons if one.default_key), None)
    key = told or default or lone_key(daemons, texts) or _DEFAULT_KEY
    text = texts.get(key)
    return class_of_key(key) or (class_of_config(text) if text is not None else None)


class ConfigManager(Protocol):
    """What decides which configuration a node without the label takes: a plugin's pod, or its DaemonSet."""

    @property
    def default_key(self) -> str:
        """The plugin's default; empty: none."""

    @property
    def takes_lone_key(self) -> bool:
        """Whether, where there is no `default`, the only key that there is counts."""


def lone_key(daemons: Sequence[ConfigManager], texts: Mapping[str, str]) -> str | None:
    """The key that nodes without a label take for no other reason than that it is the only one in the ConfigMap."""
    chosen = _DEFAULT_KEY in texts or any(one.default_key for one in daemons)
    falls_back = any(one.takes_lone_key for one in daemons)
    return next(iter(texts)) if len(texts) == 1 and falls_back and not chosen else None


def is_opted_in(node: NodeRecord, settings: Settings) -> bool:
    """Whether an administrator lent a node to us."""
    return node.meta.labels.get(settings.nodes.opt_in_label) == "true"


def node_states(view: FleetView, settings: Settings) -> tuple[NodeState, ...]:
    """Every node with the pods that hold its GPUs, by name.

    NB: a replica is evicted, and holds up its node's change. So a label is not enough for one: its deployment must be there.
    """
    living = {owner_of(key) for key in (*(one.deployment for one in view.demands), *view.undecided)}
    by_node: dict[str, list[PodRecord]] = {}
    for pod in view.pods:
        if pod.node is not None and pod.holds_gpu:
            by_node.setdefault(pod.node, []).append(pod)
    config_label = settings.device_plugin.config_label
    texts = view.config_map.data if view.config_map is not None else {}
    parts: dict[str, list[DaemonPodRecord]] = {}
    for daemon in view.daemons:
        if daemon.node is not None:
            parts.setdefault(daemon.node, []).append(daemon)
    return tuple(
        NodeState(
            node=node,
            opted_in=is_opted_in(node, settings),
            told=node.meta.labels.get(config_label),
            our_pods=tuple(pod for pod in holders if _is_of(pod, living)),
            busy_pods=tuple(pod for pod in holders if not _is_of(pod, living)),
            daemons=tuple(parts.get(node.meta.key.name, ())),
            configured_class=configured_class(
                node.meta.labels.get(config_label), parts.get(node.meta.key.name, ()), texts
            ),
            failures=failures_in(node.meta.annotations.get(names.CHANGE_FAILED_ANNOTATION)),
        )
        for node in sorted(view.nodes, key=lambda node: node.meta.key)
        for holders in (by_node.get(node.meta.key.name, ()),)
    )


def failures_in(annotation: str | None) -> dict[str, str]:
    """Class to why it failed, from the annotation's lines `class: why`."""
    if not annotation:
        return {}
    lines = (line.partition(": ") for line in annotation.splitlines())
    return {label: why for label, _, why in lines if label}


def failures_text(failures: Mapping[str, str]) -> str | None:
    """The annotation's value; None when there is nothing to say."""
    return "\n".join(f"{label}: {why}" for label, why in sorted(failures.items())) or None


def is_replica(pod: PodRecord) -> bool:
    """Whether a pod is an engine replica of ours, which we may evict."""
    return pod.replica_of is not None


def _is_of(pod: PodRecord, owners: Collection[tuple[str, str]]) -> bool:
    return is_replica(pod) and owner_of_replica(pod) in owners


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0
