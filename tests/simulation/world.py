"""The simulated cluster: its objects, its clock, and an API server that keeps the rules and watches for broken promises.

Virtual time, one seeded source of chance. Every write goes through `Api`, which bumps the resource version, tells the
watchers with lag (sometimes twice; the kinds overtake each other) and checks, against the true state, what the operator
has promised. A broken promise raises at the very step that breaks it.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.observe.records import ConfigMapRecord, DaemonPodRecord, Key, Meta, NodeRecord, PodRecord, Taint
from slm_operator.planning.node_state import UNSHARED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from slm_operator.manifests.plugin_config import SliceClass

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG_LABEL = "nvidia.com/device-plugin.config"
CONFIG_MAP = Key("nvidia-device-plugin", "nvidia-device-plugin-configs")
PRODUCT = "NVIDIA-H100-80GB-HBM3"
OURS = f"{names.GROUP}/"


class BrokenPromiseError(AssertionError):
    """The operator did what it must never do, or did not come to an end."""


@dataclass(slots=True)
class Node:
    """A node as the API server has it, and below the line what only the machine itself knows."""

    name: str
    gpus: int = 1
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    ready: bool = True
    unschedulable: bool = False
    allocatable: dict[str, int] = field(default_factory=dict)
    uid: str = ""
    version: int = 0

    told: str | None = None
    """The label's value that the config-manager last obeyed."""
    loaded: SliceClass = UNSHARED
    projected: dict[str, str] = field(default_factory=dict)
    daemon_started: str | None = None
    """When the MPS daemon came up; None while it is not ready."""
    faults: set[str] = field(default_factory=set)
    owed: dict[str, str | None] = field(default_factory=dict)
    """Labels, by name, that an administrator has a right to find when we are gone."""

    def record(self) -> NodeRecord:
        """As the operator sees it."""
        ours = {name: text for name, text in self.annotations.items() if name.startswith(OURS)}
        meta = Meta(
            key=Key("", self.name),
            uid=self.uid,
            resource_version=str(self.version),
            labels=dict(self.labels),
            annotations=ours,
        )
        return NodeRecord(
            meta=meta,
            ready=self.ready,
            unschedulable=self.unschedulable,
            taints=self.taints,
            allocatable=dict(self.allocatable),
        )

    def daemons(self) -> tuple[DaemonPodRecord, ...]:
        """The device plugin's pod and, while it runs, the MPS daemon's."""
        plugin = DaemonPodRecord(
            meta=Meta(key=Key("nv", f"plugin-{self.name}"), uid=f"plugin-{self.name}"),
            node=self.name,
            part="device-plugin",
            ready=True,
            containers=("nvidia-device-plugin-ctr", "nvidia-device-plugin-sidecar"),
        )
        if self.daemon_started is None:
            return (plugin,)
        daemon = DaemonPodRecord(
            meta=Meta(key=Key("nv", f"mps-{self.name}"), uid=f"mps-{self.name}"),
            node=self.name,
            part="mps-control-daemon",
            ready=True,
            started=self.daemon_started,
        )
        return plugin, daemon


@dataclass(slots=True)
class Pod:
    """A pod that asks for GPUs."""

    key: Key
    uid: str
    requests: dict[str, int]
    labels: dict[str, str] = field(default_factory=dict)
    selector: dict[str, str] = field(default_factory=dict)
    template: str = ""
    owner: Key | None = None
    """The Deployment that it is a replica of; None for somebody else's pod."""
    assumed: str | None = None
    node: str | None = None
    phase: str = "Pending"
    ready: bool = False
    deleting: bool = False
    started: str | None = None
    failed_because: str | None = None

    def record(self) -> PodRecord:
        """As the operator sees it."""
        meta = Meta(key=self.key, uid=self.uid, deleting=self.deleting, labels=self.labels)
        return PodRecord(
            meta=meta,
            node=self.node,
            phase=self.phase,
            ready=self.ready,
            gpu_requests=self.requests,
            started=self.started,
            failed_because=self.failed_because,
        )

    @property
    def holds(self) -> bool:
        """Whether it occupies devices on its node."""
        return self.node is not None and self.phase not in {"Succeeded", "Failed"}


@dataclass(slots=True)
class Workload:
    """An apps/v1 Deployment."""

    key: Key
    uid: str
    replicas: int
    template: str
    selector: dict[str, str]
    requests: dict[str, int]
    labels: dict[str, str]
    generation: int = 1
    observed: int = 0
    surge: int = 0
    """Of its strategy: 1 creates before it deletes, 0 deletes before it creates."""
    most_unavailable: int = 1
    """Of its PDB."""


@dataclass(slots=True, kw_only=True)
class World:
    """Everything there is, and when what happens next."""

    seed: int
    steady: bool = False
    """No chance at all: every lag is its mean, nothing comes twice. For narratives."""
    now: float = 0.0
    nodes: dict[str, Node] = field(default_factory=dict)
    pods: dict[Key, Pod] = field(default_factory=dict)
    workloads: dict[Key, Workload] = field(default_factory=dict)
    config: dict[str, str] | None = field(default_factory=lambda: {"default": "version: v1\n"})
    config_annotations: dict[str, str] = field(default_factory=dict)
    config_version: int = 0
    told: list[str] = field(default_factory=list)
    chance: random.Random = field(init=False)
    watchers: list[Callable[[str, Any], None]] = field(default_factory=list)
    _agenda: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0
    _versions: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def lag(self, least: float, most: float) -> float:
        """How long something takes, seconds."""
        return (least + most) / 2 if self.steady else self.chance.uniform(least, most)

    def happens(self, probability: float) -> bool:
        """Whether something that is left to chance comes to pass."""
        return not self.steady and self.chance.random() < probability

    def at(self, delay: float, do: Callable[[], None]) -> None:
        """Do something later."""
        self._count += 1
        heapq.heappush(self._agenda, (self.now + delay, self._count, do))

    def run_until(self, time: float) -> None:
        """Let time pass."""
        while self._agenda and self._agenda[0][0] <= time:
            self.now, _, do = heapq.heappop(self._agenda)
            do()
        self.now = time

    def version(self) -> int:
        """The next resource version."""
        self._versions += 1
        return self._versions

    def changed(self, kind: str, name: Any) -> None:
        """Tell whoever watches."""
        for watcher in self.watchers:
            watcher(kind, name)

    def tell(self, who: str, what: str) -> None:
        """A line of the narrative."""
        if self.steady:
            self.told.append(f"{self.now:6.0f}s  {who:10} {what}")

    def stamp(self) -> str:
        """The cluster's own clock, RFC 3339."""
        return (EPOCH + timedelta(seconds=self.now)).isoformat()

    def on(self, node: str) -> Iterable[Pod]:
        """Pods that hold devices of a node."""
        return [pod for pod in self.pods.values() if pod.node == node and pod.holds]

    def node_changed(self, node: Node) -> None:
        """A write to a node."""
        node.version = self.version()
        self.changed("Node", node.name)

    def config_record(self) -> ConfigMapRecord | None:
        """The plugin's ConfigMap as the operator sees it."""
        if self.config is None:
            return None
        meta = Meta(
            key=CONFIG_MAP,
            uid="config",
            resource_version=str(self.config_version),
            annotations=dict(self.config_annotations),
        )
        return ConfigMapRecord(meta=meta, data=dict(self.config))

    def config_changed(self) -> None:
        """A write to the ConfigMap, on its way into every node's volume."""
        self.config_version = self.version()
        self.changed("ConfigMap", CONFIG_MAP)
        for node in self.nodes.values():
            self.at(self.lag(5, 80), lambda node=node: node.projected.update(self._projection(node)))  # type: ignore[misc]

    def _projection(self, node: Node) -> dict[str, str]:
        now = dict(self.config or {})
        for gone in node.projected.keys() - now.keys():
            del node.projected[gone]
        return now
