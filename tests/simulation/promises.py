"""What the operator must never write, each promise checked against the true state at the very write that would break it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.planning.fleet.plugin_keys import UNUSED_SECONDS

from .objects import CONFIG_LABEL, BrokenPromiseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.watch.records import Key

    from .made import Deployment, Job, Made, Workload
    from .objects import Node, Pod, Raw
    from .world import World

NEWS_SECONDS = 30.0
"""After so long the operator has heard of it."""
MARKS = (names.CLASS_LABEL, names.SERVES_LABEL)


@dataclass(slots=True)
class Promises:
    """All of them. Each raises BrokenPromiseError."""

    world: World
    config_was_replaced: bool = False
    """Whether somebody else wrote the ConfigMap, so that keys may be missing in volumes."""
    named_until: dict[str, float] = field(default_factory=dict)
    """When the operator last took a key off a node's label."""
    evicted: dict[tuple[Key, str], float] = field(default_factory=dict)
    """When a replica last had to leave a node, by its workload and that node."""

    def of_node(self, node: Node, labels: Mapping[str, str | None]) -> None:
        """Only what opted in is touched; the configuration changes on an empty node, and is there."""
        opted_in = node.labels.get(names.OPT_IN_LABEL) == "true"
        marked = any(mark in node.labels for mark in MARKS) or any(n.startswith(names.GROUP) for n in node.annotations)
        if not opted_in and (not marked or any(labels.get(mark) for mark in MARKS)):
            raise BrokenPromiseError(f"{node.name} did not opt in and is touched")
        if node.divided is not None and any(labels.values()):
            raise BrokenPromiseError(f"{node.name} has {node.divided.what}, and gets {dict(labels)}")
        if CONFIG_LABEL not in labels:
            return
        holders = [str(pod.key) for pod in self.world.on(node.name)]
        if holders:
            raise BrokenPromiseError(f"the label of {node.name} changes under {', '.join(holders)}")
        key = labels[CONFIG_LABEL]
        ours = key is not None and key.startswith(names.CONFIG_KEY_PREFIX)
        if ours and key not in node.projected and not (self.config_was_replaced or self.world.clock_was_set):
            raise BrokenPromiseError(f"{node.name} is switched to {key}, which is not in its volume yet")
        root = f"/run/{node.owed[CONFIG_LABEL] or 'default'}/"
        if ours and root not in node.projected.get(key or "", root) and not self.config_was_replaced:
            raise BrokenPromiseError(f"{node.name} is switched to {key}, without what its owner has set: {root}")
        if ours and not opted_in:
            raise BrokenPromiseError(f"{node.name} did not opt in and is partitioned")
        self.named_until[node.labels.get(CONFIG_LABEL, "")] = self.world.now
        node.switched_at = self.world.now

    def of_closed(self, node: Node) -> None:
        """No autoscaler takes a node away that is emptied for a change."""
        missing = [name for name in names.KEEP_NODE_ANNOTATIONS if name not in node.annotations]
        if missing and any(taint.key == names.CHANGING_TAINT for taint in node.taints):
            raise BrokenPromiseError(f"{node.name} is closed without {missing}")

    def of_config(self, data: Mapping[str, str | None]) -> None:
        """Keys are ours, never edited, and never removed while a node names them, or soon after."""
        config = self.world.config or {}
        edited = [key for key, text in data.items() if text is not None and config.get(key, text) != text]
        if edited:
            raise BrokenPromiseError(f"key {edited} is edited")
        strange = [key for key in data if not key.startswith(names.CONFIG_KEY_PREFIX)]
        if strange:
            raise BrokenPromiseError(f"key {strange} is not ours")
        named = {node.labels.get(CONFIG_LABEL) for node in self.world.nodes.values()}
        removed = named & {key for key, text in data.items() if text is None}
        if removed:
            raise BrokenPromiseError(f"key {removed} is in use and deleted")
        early = [key for key, text in data.items() if text is None and self._was_named_lately(key)]
        if early:
            raise BrokenPromiseError(f"key {early} is deleted, and a node has just named it")

    def _was_named_lately(self, key: str) -> bool:
        at = self.named_until.get(key)
        return at is not None and self.world.now - at < UNUSED_SECONDS and not self.world.clock_was_set

    def of_eviction(self, pod: Pod) -> None:
        """Replicas only, and only where their node changes."""
        if pod.owner is None:
            raise BrokenPromiseError(f"{pod.key} is not ours and is evicted")
        node = self.world.nodes.get(pod.node or "")
        if node is not None and not node.changes and not self.world.meddled:
            raise BrokenPromiseError(f"{pod.key} is moved, and its node does not change")
        if node is not None:
            self.evicted[pod.owner, node.name] = self.world.now

    def of_pod(self, pod: Pod) -> None:
        """Only what the kubelet refused is deleted."""
        if pod.owner is None or pod.phase != "Failed":
            raise BrokenPromiseError(f"{pod.key} is deleted without need")

    def of_others(self, one: Made) -> None:
        """What somebody else made is left to them, although its name is wanted."""
        if not one.owners and one.others:
            raise BrokenPromiseError(f"{one.key} is somebody else's and is taken over")

    def of_job(self, job: Job, pod: Pod | None) -> None:
        """A Job that measures is left alone, as long as anybody asks for it."""
        if job.question != self.question(job):
            return
        if not job.finished and pod is not None and pod.node is not None and pod.phase != "Failed":
            raise BrokenPromiseError(f"{job.key} measures and is deleted")

    def question(self, job: Job) -> str | None:
        """What its profile is extended for now; None where it is not."""
        extension = next(
            (one.status.get("extension") for one in self.world.profiles.values() if one.uid in job.owners), None
        )
        return extension["question"] if extension else None

    def of_replicas(self, one: Deployment, replicas: int) -> None:
        """A user's number stays, and nothing is written twice."""
        if "replicas" in one.spec:
            raise BrokenPromiseError(f"{one.key} has a number of its user's, and is scaled")
        if one.own_replicas == replicas:
            raise BrokenPromiseError(f"{one.key} is scaled to {replicas} twice")

    def of_scale(self, workload: Workload, replicas: int) -> None:
        """Nothing is written twice."""
        if workload.replicas == replicas:
            raise BrokenPromiseError(f"{workload.key} is scaled to {replicas} twice")

    def of_roll(self, old: Workload, manifest: Raw) -> None:
        """Replicas that answer are given up only where others can run, or where their node must be closed.

        NB: where people meddle this is not asked: the place that the operator saw a moment ago may be gone. And who was asked to
        leave a node a moment ago may have left it by now.
        """
        spec = manifest["spec"]
        if _defaults(old.manifest) != _defaults(manifest):
            raise BrokenPromiseError(f"{old.key} is given other defaults, and nobody asked for them")
        if self.world.meddled or old.manifest["spec"]["template"] == spec["template"]:
            return
        body = spec["template"]["spec"]
        asks = {name: int(n) for name, n in body["containers"][0]["resources"]["limits"].items() if "nvidia" in name}
        mine = [one for one in self.world.pods.values() if one.owner == old.key]
        answering = [one for one in mine if one.ready and self.world.now - one.ready_at > NEWS_SECONDS]
        lately = self.world.now - NEWS_SECONDS
        left = {node for (owner, node), at in self.evicted.items() if owner == old.key and at > lately}
        homes = left | {one.node for one in mine}
        nodes = self.world.nodes.values()
        fits = any(
            node.labels.items() >= body["nodeSelector"].items()
            and all(node.allocatable.get(name, 0) >= count for name, count in asks.items())
            for node in nodes
        )
        closed = any(node.name in homes and node.changes for node in nodes)
        if answering and spec["replicas"] and not (fits or closed):
            raise BrokenPromiseError(f"{old.key} rolls to where no replica can run, and {len(answering)} answer")


def _defaults(manifest: Raw) -> tuple[Any, ...]:
    """What of a Deployment's pods comes from the operator's defaults. In no history do people change what pods are made of."""
    (engine,) = (one for one in manifest["spec"]["template"]["spec"]["containers"] if one["name"] == "engine")
    return engine["image"], [one for one in engine["env"] if one["name"] == "HF_ENDPOINT"]
