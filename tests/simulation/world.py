"""The simulated cluster: its API server's store, and everybody who watches it.

Virtual time, one seeded source of chance. Every write bumps the resource version and tells the watchers, who learn of it
with lag. How the operator hears of it: watching.py. What it may write, and which promises are watched: api.py.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.watch.records import Key

from .clock import VirtualLoop
from .objects import CONFIG_MAP, EPOCH, daemon_of, head, plugin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .made import Deployment, Job, Made, Profile, Workload
    from .objects import Node, Pod, Raw
    from .situations import Situation


@dataclass(slots=True, kw_only=True)
class World:
    """Everything there is."""

    seed: int
    steady: bool = False
    """No chance at all: every lag is its mean, nothing comes twice."""
    narrated: bool = False
    """Whether lines are kept, for a person."""
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    nodes: dict[str, Node] = field(default_factory=dict)
    pods: dict[Key, Pod] = field(default_factory=dict)
    workloads: dict[Key, Workload] = field(default_factory=dict)
    jobs: dict[Key, Job] = field(default_factory=dict)
    services: dict[Key, Made] = field(default_factory=dict)
    budgets: dict[Key, Made] = field(default_factory=dict)
    deployments: dict[Key, Deployment] = field(default_factory=dict)
    profiles: dict[Key, Profile] = field(default_factory=dict)
    config: dict[str, str] | None = field(default_factory=lambda: {"default": "version: v1\n"})
    config_annotations: dict[str, str] = field(default_factory=dict)
    config_version: int = 0
    quotas: dict[str, int] = field(default_factory=dict)
    """Pods that a namespace may have."""
    stubborn: set[str] = field(default_factory=set)
    """Namespaces whose running pods nobody may evict: two budgets are over each, which the API server takes for an error."""
    lines: list[str] = field(default_factory=list)
    narrates: Callable[[str], None] | None = None
    """Who is told that the operator did something."""
    met: Counter[Situation] = field(default_factory=Counter)
    """How often each hard situation came to pass."""
    meddled: bool = False
    """Whether anything happened that is not a user's wish."""
    clock_was_set: bool = False
    """Whether the operator may think that more time has passed than has, and no longer wait for what is slow."""
    chance: random.Random = field(init=False)
    watchers: list[Callable[[str, Any], None]] = field(default_factory=list)
    _versions: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    # -- time and chance

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self.loop.now

    def lag(self, least: float, most: float) -> float:
        """How long something takes, seconds."""
        return (least + most) / 2 if self.steady else self.chance.uniform(least, most)

    def happens(self, probability: float) -> bool:
        """Whether something that is left to chance comes to pass."""
        return not self.steady and self.chance.random() < probability

    def at(self, delay: float, do: Callable[..., object], *about: Any) -> None:
        """Do something later."""
        self.loop.call_at(self.loop.now + delay, do, *about)

    def at_time(self, time: float, do: Callable[..., object], *about: Any) -> None:
        """Do something at a time. NB: for what must keep its order: a sum of differences is not the same time."""
        self.loop.call_at(time, do, *about)

    def run_until(self, time: float) -> None:
        """Let time pass. Raises what was broken meanwhile."""
        self.loop.run_until(time)

    def stamp(self) -> str:
        """The cluster's own clock, RFC 3339."""
        return (EPOCH + timedelta(seconds=self.now)).isoformat()

    # -- what people read of it

    def meets(self, situation: Situation) -> None:
        """A hard situation came to pass."""
        self.met[situation] += 1

    def tell(self, who: str, what: str) -> None:
        """A line of the narrative."""
        if self.narrated:
            self.lines.append(f"{self.now:6.0f}s  {who:10} {what}")

    # -- what is written

    def version(self) -> int:
        """The next resource version."""
        self._versions += 1
        return self._versions

    @property
    def newest(self) -> int:
        """The resource version of the last write."""
        return self._versions

    def changed(self, kind: str, key: Key) -> None:
        """Tell whoever watches that an object was written, or is gone."""
        for watcher in self.watchers:
            watcher(kind, key)

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
        self.version()
        self.changed("Pod", pod.key)

    def made(self, kind: str) -> dict[Key, Any]:
        """All objects of a kind that the operator applies."""
        return {
            "Deployment": self.workloads,
            "Job": self.jobs,
            "Service": self.services,
            "PodDisruptionBudget": self.budgets,
            names.PROFILE_KIND: self.profiles,
        }[kind]

    def made_changed(self, kind: str, one: Made) -> None:
        """A write to an object of such a kind, or to its status."""
        one.version = self.version()
        self.changed(kind, one.key)

    def made_gone(self, kind: str, key: Key) -> None:
        """It is no more, if it was there."""
        if self.made(kind).pop(key, None) is not None:
            self.version()
            self.changed(kind, key)

    def deployment_changed(self, one: Deployment) -> None:
        """A write to an SLMDeployment or to its status."""
        one.version = self.version()
        self.deployments[one.key] = one
        self.changed(names.DEPLOYMENT_KIND, one.key)

    def config_changed(self) -> None:
        """A write to the ConfigMap, on its way into every node's volume."""
        self.config_version = self.version()
        self.changed("ConfigMap", CONFIG_MAP)
        for node in self.nodes.values():
            self.at(self.lag(5, 80), self._project, node)

    def _project(self, node: Node) -> None:
        """The volume has what the ConfigMap has by then."""
        node.projected = dict(self.config or {})

    def measured_on(self, profile: Key) -> str | None:
        """The product of a profile; None where it is gone, or has measured nothing."""
        one = self.profiles.get(profile)
        document = None if one is None else one.status.get("measurements") or one.manifest["spec"].get("measurements")
        found: str | None = None if document is None else document["gpu"]["product"]
        return found

    # -- what is read

    def shows(self, kind: str, key: Key) -> Raw | None:
        """An object as it is now; None when there is none."""
        match kind:
            case "ConfigMap":
                return self._config_map()
            case "DaemonPod":
                part, _, name = key.name.partition("-")
                node = self.nodes.get(name)
                return None if node is None else node.plugin() if part == "plugin" else node.daemon()
            case "Node":
                found: Any = self.nodes.get(key.name)
            case "Pod":
                found = self.pods.get(key)
            case names.DEPLOYMENT_KIND:
                found = self.deployments.get(key)
            case _:
                found = self.made(kind).get(key)
        raw: Raw | None = None if found is None else found.raw()
        return raw

    def everything(self, kind: str) -> Iterable[Raw]:
        """All objects of a kind, as a list has them."""
        keys: Iterable[tuple[str, Key]]
        match kind:
            case "ConfigMap":
                keys = [(kind, CONFIG_MAP)]
            case "Node":
                keys = [(kind, Key("", name)) for name in self.nodes]
            case "Pod":
                daemons = [part(name) for name in self.nodes for part in (plugin_of, daemon_of)]
                keys = [*((kind, key) for key in self.pods), *(("DaemonPod", key) for key in daemons)]
            case names.DEPLOYMENT_KIND:
                keys = [(kind, key) for key in self.deployments]
            case _:
                keys = [(kind, key) for key in self.made(kind)]
        return [raw for raw in (self.shows(*one) for one in keys) if raw is not None]

    def _config_map(self) -> Raw | None:
        if self.config is None:
            return None
        meta = head(CONFIG_MAP, "config", self.config_version, annotations=dict(self.config_annotations))
        return {"metadata": meta, "data": dict(self.config)}
