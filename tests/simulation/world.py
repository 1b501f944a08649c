"""The simulated cluster: its clock, its API server's store, and everybody who watches it.

Virtual time, one seeded source of chance. Every write bumps the resource version and tells the watchers, who learn of it
with lag (sometimes twice; the kinds overtake each other). What may be written, and which promises are watched: api.py.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.watch.records import ConfigMapRecord, Key, Meta

from .objects import CONFIG_MAP, EPOCH, daemon_of, plugin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from slm_operator.watch.records import DeploymentRecord, ProfileRecord

    from .objects import Job, Node, Pod, Workload


@dataclass(slots=True, kw_only=True)
class World:
    """Everything there is, and when what happens next."""

    seed: int
    steady: bool = False
    """No chance at all: every lag is its mean, nothing comes twice."""
    narrated: bool = False
    """Whether lines are kept, for a person."""
    now: float = 0.0
    steps: int = 0
    """Things that have happened."""
    nodes: dict[str, Node] = field(default_factory=dict)
    pods: dict[Key, Pod] = field(default_factory=dict)
    workloads: dict[Key, Workload] = field(default_factory=dict)
    jobs: dict[Key, Job] = field(default_factory=dict)
    deployments: dict[Key, DeploymentRecord] = field(default_factory=dict)
    profiles: dict[Key, ProfileRecord] = field(default_factory=dict)
    config: dict[str, str] | None = field(default_factory=lambda: {"default": "version: v1\n"})
    config_annotations: dict[str, str] = field(default_factory=dict)
    config_version: int = 0
    quotas: dict[str, int] = field(default_factory=dict)
    """Pods that a namespace may have."""
    stubborn: set[str] = field(default_factory=set)
    """Namespaces whose running pods nobody may evict: two budgets are over each, which the API server takes for an error."""
    lines: list[str] = field(default_factory=list)
    meddled: bool = False
    """Whether anything happened that is not a user's wish."""
    waited: int = 0
    """Deployments that answered and then waited for a profile."""
    clock_was_set: bool = False
    """Whether the operator may think that more time has passed than has, and no longer wait for what is slow."""
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
        self.at_time(self.now + delay, do)

    def at_time(self, time: float, do: Callable[[], None]) -> None:
        """Do something at a time. NB: for what must keep its order: a sum of differences is not the same time."""
        self._count += 1
        heapq.heappush(self._agenda, (time, self._count, do))

    def run_until(self, time: float) -> None:
        """Let time pass."""
        while self._agenda and self._agenda[0][0] <= time:
            self.now, _, do = heapq.heappop(self._agenda)
            self.steps += 1
            do()
        self.now = time

    def version(self) -> int:
        """The next resource version."""
        self._versions += 1
        return self._versions

    def changed(self, kind: str, key: Key) -> None:
        """Tell whoever watches that an object was written, or is gone."""
        for watcher in self.watchers:
            watcher(kind, key)

    def tell(self, who: str, what: str) -> None:
        """A line of the narrative."""
        if self.narrated:
            self.lines.append(f"{self.now:6.0f}s  {who:10} {what}")

    def stamp(self) -> str:
        """The cluster's own clock, RFC 3339."""
        return (EPOCH + timedelta(seconds=self.now)).isoformat()

    def on(self, node: str) -> Iterable[Pod]:
        """Pods that hold devices of a node."""
        return [pod for pod in self.pods.values() if pod.node == node and pod.holds]

    def node_changed(self, node: Node) -> None:
        """A write to a node."""
        node.version = self.version()
        self.changed("Node", Key("", node.name))

    def daemon_changed(self, node: Node) -> None:
        """The MPS daemon came or went."""
        node.daemon_version = self.version()
        self.changed("DaemonPod", daemon_of(node.name))

    def pod_changed(self, pod: Pod) -> None:
        """A write to a pod."""
        pod.version = self.version()
        self.changed("Pod", pod.key)

    def pod_gone(self, pod: Pod) -> None:
        """A pod is no more."""
        del self.pods[pod.key]
        self.changed("Pod", pod.key)

    def job_changed(self, job: Job) -> None:
        """A write to a Job, or its end."""
        if job.key in self.jobs:
            job.version = self.version()
        self.changed("Job", job.key)

    def profile_changed(self, record: ProfileRecord) -> None:
        """A write to an SLMProfile or to its status."""
        meta = replace(record.meta, resource_version=str(self.version()))
        self.profiles[record.meta.key] = replace(record, meta=meta)
        self.changed(names.PROFILE_KIND, meta.key)

    def workload_changed(self, workload: Workload) -> None:
        """A write to a Deployment or to its status."""
        workload.version = self.version()
        self.changed("Deployment", workload.key)

    def deployment_changed(self, record: DeploymentRecord) -> None:
        """A write to an SLMDeployment or to its status."""
        meta = replace(record.meta, resource_version=str(self.version()))
        self.deployments[record.meta.key] = replace(record, meta=meta)
        self.changed(names.DEPLOYMENT_KIND, meta.key)

    def shows(self, kind: str, key: Key) -> Any:
        """The record of an object as it is now; None when there is none."""
        match kind:
            case names.DEPLOYMENT_KIND:
                return self.deployments.get(key)
            case names.PROFILE_KIND:
                return self.profiles.get(key)
            case "ConfigMap":
                return self.config_record()
            case "DaemonPod":
                part, _, name = key.name.partition("-")
                node = self.nodes.get(name)
                return None if node is None else node.plugin() if part == "plugin" else node.daemon()
            case _:
                objects: dict[str, dict[Any, Any]] = {"Pod": self.pods, "Job": self.jobs, "Deployment": self.workloads}
                found = self.nodes.get(key.name) if kind == "Node" else objects[kind].get(key)
                return None if found is None else found.record()

    def everything(self) -> Iterable[tuple[str, Key]]:
        """Kind and key of all objects."""
        yield from ((names.DEPLOYMENT_KIND, key) for key in self.deployments)
        yield from ((names.PROFILE_KIND, key) for key in self.profiles)
        yield from (("Deployment", key) for key in self.workloads)
        yield from (("Pod", key) for key in self.pods)
        yield from (("Job", key) for key in self.jobs)
        yield "ConfigMap", CONFIG_MAP
        for name in self.nodes:
            yield "Node", Key("", name)
            yield "DaemonPod", plugin_of(name)
            yield "DaemonPod", daemon_of(name)

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
            self.at(self.lag(5, 80), lambda node=node: self._project(node))  # type: ignore[misc]

    def _project(self, node: Node) -> None:
        """The volume has what the ConfigMap has by then."""
        node.projected = dict(self.config or {})
