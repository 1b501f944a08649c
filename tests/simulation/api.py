"""The API server as the operator meets it: preconditions, evictions within a PDB, errors; and the promises it watches.

Each promise is checked against the true state at the very write that would break it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slm_core.codec import parse_document
from slm_operator.api import names

from .objects import CONFIG_LABEL, BrokenPromiseError, Job, Pod, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.planning.actions import Evict, PatchConfig, PatchNode, ScaleWorkload, SetReplicas
    from slm_operator.watch.records import Key

    from .controllers import Controllers
    from .objects import Node
    from .world import World

NEWS_SECONDS = 30.0
"""After so long the operator has heard of it."""
MARKS = (names.CLASS_LABEL, names.SERVES_LABEL)


class RejectedError(Exception):
    """A conflict, or an API server that cannot answer now."""


class BlockedError(Exception):
    """A PDB does not allow this eviction now."""


@dataclass(slots=True)
class Api:
    """Everything that the operator may write."""

    world: World
    controllers: Controllers
    error_rate: float = 0.0
    writes: int = 0
    config_was_replaced: bool = False
    """Whether somebody else wrote the ConfigMap, so that keys may be missing in volumes."""

    def _answer(self) -> None:
        if self.world.happens(self.error_rate):
            raise RejectedError("the API server is not available")

    def patch_node(self, action: PatchNode) -> None:
        """Labels, annotations and taints in one write, if nobody wrote since."""
        self._answer()
        node = self.world.nodes.get(action.node)
        if node is None or str(node.version) != action.resource_version:
            raise RejectedError(f"node {action.node} changed meanwhile")
        self._watch_node(node, action)
        if CONFIG_LABEL in action.labels:
            node.switched_at = self.world.now
        _merge(node.labels, action.labels)
        _merge(node.annotations, action.annotations)
        if action.taints is not None:
            node.taints = action.taints
            node.opened_by_hand = False
        self.writes += 1
        self.world.node_changed(node)

    def _watch_node(self, node: Node, action: PatchNode) -> None:
        opted_in = node.labels.get(names.OPT_IN_LABEL) == "true"
        marked = any(mark in node.labels for mark in MARKS) or any(n.startswith(names.GROUP) for n in node.annotations)
        if not opted_in and (not marked or any(action.labels.get(mark) for mark in MARKS)):
            raise BrokenPromiseError(f"{node.name} did not opt in and is touched: {action.because}")
        if CONFIG_LABEL not in action.labels:
            return
        holders = [str(pod.key) for pod in self.world.on(node.name)]
        if holders:
            raise BrokenPromiseError(f"the label of {node.name} changes under {', '.join(holders)}: {action.because}")
        key = action.labels[CONFIG_LABEL]
        ours = key is not None and key.startswith(names.CONFIG_KEY_PREFIX)
        if ours and key not in node.projected and not (self.config_was_replaced or self.world.clock_was_set):
            raise BrokenPromiseError(f"{node.name} is switched to {key}, which is not in its volume yet")
        if ours and not opted_in:
            raise BrokenPromiseError(f"{node.name} did not opt in and is partitioned")

    def patch_config(self, action: PatchConfig) -> None:
        """Keys added and removed, if nobody wrote since."""
        self._answer()
        if self.world.config is None or str(self.world.config_version) != action.resource_version:
            raise RejectedError("the ConfigMap changed meanwhile")
        edited = [key for key, text in action.add.items() if self.world.config.get(key, text) != text]
        named = {node.labels.get(CONFIG_LABEL) for node in self.world.nodes.values()}
        if edited:
            raise BrokenPromiseError(f"key {edited} is edited")
        strange = [key for key in (*action.add, *action.remove) if not key.startswith(names.CONFIG_KEY_PREFIX)]
        if strange:
            raise BrokenPromiseError(f"key {strange} is not ours")
        if named & set(action.remove):
            raise BrokenPromiseError(f"key {named & set(action.remove)} is in use and deleted")
        self.world.config |= action.add
        for key in action.remove:
            self.world.config.pop(key, None)
        _merge(self.world.config_annotations, action.annotations)
        self.writes += 1
        self.world.config_changed()

    def evict(self, action: Evict) -> None:
        """Through the eviction API: pending pods always, running ones within the budget."""
        self._answer()
        pod = self.world.pods.get(action.pod)
        if pod is None or pod.uid != action.uid or pod.deleting:
            return
        if pod.owner is None:
            raise BrokenPromiseError(f"{pod.key} is not ours and is evicted")
        node = self.world.nodes.get(pod.node or "")
        if node is not None and names.CHANGE_STARTED_ANNOTATION not in node.annotations and not self.world.meddled:
            raise BrokenPromiseError(f"{pod.key} is moved, and its node does not change: {action.because}")
        workload = self.world.workloads.get(pod.owner)
        if pod.key.namespace in self.world.stubborn and pod.phase == "Running":
            raise BlockedError(str(pod.key))
        if workload is not None and pod.phase == "Running":
            healthy = sum(one.ready and not one.deleting and one.owner == pod.owner for one in self.world.pods.values())
            least = workload.replicas - workload.most_unavailable
            if healthy - (1 if pod.ready else 0) < least:
                raise BlockedError(str(pod.key))
        self.writes += 1
        self.controllers.delete(pod)

    def delete(self, kind: str, key: Key, uid: str) -> None:
        """A pod that the kubelet refused, or a Job that has done its work, with its pod."""
        found = self.world.pods.get(key) if kind == "Pod" else self.world.jobs.get(key)
        if isinstance(found, Pod) and found.uid == uid:
            if found.owner is None or found.phase != "Failed":
                raise BrokenPromiseError(f"{key} is deleted without need")
            self.writes += 1
            self.controllers.delete(found)
        if isinstance(found, Job) and found.uid == uid:
            pod = self.world.pods.get(key)
            if not found.finished and pod is not None and pod.node is not None and pod.phase != "Failed":
                raise BrokenPromiseError(f"{key} measures and is deleted")
            self.writes += 1
            del self.world.jobs[key]
            self.world.job_changed(found)
            if pod is not None:
                self.world.pod_gone(pod)

    def write_status(self, kind: str, key: Key, status: Mapping[str, Any]) -> None:
        """Of an object of ours, if it is there and its status another. No effect that the operator is killed after."""
        deployment, profile = self.world.deployments.get(key), self.world.profiles.get(key)
        if kind == names.DEPLOYMENT_KIND and deployment is not None and deployment.status != status:
            self.world.deployment_changed(replace(deployment, status=status))
        if kind == names.PROFILE_KIND and profile is not None and profile.status != status:
            measured = status.get("measurements")
            document = parse_document(measured) if measured is not None else profile.measurements
            self.world.profile_changed(replace(profile, status=status, measurements=document))

    def set_replicas(self, action: SetReplicas) -> None:
        """The scale of an SLMDeployment, if nobody wrote since."""
        self._answer()
        record = self.world.deployments.get(action.deployment)
        if record is None or (record.meta.uid, record.meta.resource_version) != (action.uid, action.resource_version):
            raise RejectedError(f"{action.deployment} changed meanwhile")
        if record.spec is None or record.spec.replicas is not None:
            raise BrokenPromiseError(f"{action.deployment} has a number of its user's, and is scaled: {action.because}")
        if record.own_replicas == action.replicas:
            raise BrokenPromiseError(f"{action.deployment} is scaled to {action.replicas} twice")
        self.writes += 1
        meta = replace(record.meta, generation=record.meta.generation + 1)
        self.world.deployment_changed(replace(record, meta=meta, own_replicas=action.replicas))

    def scale_workload(self, action: ScaleWorkload) -> None:
        """The scale of a Deployment, if nobody wrote since."""
        self._answer()
        workload = self.world.workloads.get(action.workload)
        if workload is None or str(workload.version) != action.resource_version:
            raise RejectedError(f"{action.workload} changed meanwhile")
        if workload.replicas == action.replicas:
            raise BrokenPromiseError(f"{action.workload} is scaled to {action.replicas} twice")
        workload.replicas, workload.generation = action.replicas, workload.generation + 1
        self.writes += 1
        self.world.workload_changed(workload)

    def apply(self, owner: Key, manifest: dict[str, Any]) -> bool:
        """Server-side apply, for a profile (its Job) or a deployment. True when it changed something."""
        self._answer()
        if manifest["kind"] != "Job" and owner not in self.world.deployments:
            return False
        match manifest["kind"]:
            case "Job":
                changed = self._apply_job(owner, manifest)
            case "Deployment":
                changed = self._apply_workload(owner, manifest)
            case "PodDisruptionBudget":
                changed = self._apply_budget(owner, manifest)
            case _:
                return False
        self.writes += changed
        return changed

    def _apply_job(self, key: Key, manifest: dict[str, Any]) -> bool:
        if key in self.world.jobs:
            raise BrokenPromiseError(f"profile {key} is measured twice")
        body, labels = manifest["spec"]["template"]["spec"], manifest["metadata"]["labels"]
        affinity = body.get("affinity", {}).get("nodeAffinity", {})
        wishes = {
            host: one["weight"]
            for one in affinity.get("preferredDuringSchedulingIgnoredDuringExecution", ())
            for host in one["preference"]["matchExpressions"][0]["values"]
        }
        (owner,) = manifest["metadata"]["ownerReferences"]
        uid, created = f"uid-{key.name}-{self.world.version()}", self.world.stamp()
        job = Job(key=key, uid=uid, labels=labels, created=created, owner=owner["uid"])
        gpus = {names.NVIDIA_GPU: 1}
        pod = Pod(key, uid, gpus, labels=labels, selector=body["nodeSelector"], wishes=wishes, job=uid)
        self.world.jobs[key], self.world.pods[key] = job, pod
        self.world.job_changed(job)
        self.world.pod_changed(pod)
        return True

    def _apply_workload(self, deployment: Key, manifest: dict[str, Any]) -> bool:
        spec = manifest["spec"]
        body = spec["template"]
        container = body["spec"]["containers"][0]
        gpus = {name: int(count) for name, count in container["resources"]["limits"].items() if "nvidia" in name}
        wanted = Workload(
            key=deployment,
            uid=f"uid-{deployment.name}",
            owner=manifest["metadata"]["ownerReferences"][0]["uid"],
            replicas=spec["replicas"],
            template=json.dumps(body["spec"]["nodeSelector"], sort_keys=True) + json.dumps(container["args"]),
            selector=body["spec"]["nodeSelector"],
            requests=gpus,
            labels=body["metadata"]["labels"],
            surge=int(spec["strategy"]["rollingUpdate"]["maxSurge"]),
            served=manifest["metadata"]["annotations"][names.SERVED_ANNOTATION],
        )
        old = self.world.workloads.get(deployment)
        if old is not None and old.template != wanted.template and not self.world.meddled:
            self._watch_roll(wanted)
        if old is not None and old.asks == wanted.asks:
            return False
        if old is not None:
            wanted.generation, wanted.most_unavailable = old.generation + 1, old.most_unavailable
            wanted.observed, wanted.counts = old.observed, old.counts
        self.world.workloads[deployment] = wanted
        self.world.workload_changed(wanted)
        return True

    def _watch_roll(self, wanted: Workload) -> None:
        """Replicas that answer are given up only where others can run, or where their node must be closed.

        NB: where people meddle this is not asked: the place that the operator saw a moment ago may be gone.
        """
        mine = [one for one in self.world.pods.values() if one.owner == wanted.key]
        answering = [one for one in mine if one.ready and self.world.now - one.ready_at > NEWS_SECONDS]
        homes = {one.node for one in mine}
        nodes = self.world.nodes.values()
        fits = any(
            node.labels.items() >= wanted.selector.items()
            and all(node.allocatable.get(name, 0) >= count for name, count in wanted.requests.items())
            for node in nodes
        )
        closed = any(node.name in homes and names.CHANGE_STARTED_ANNOTATION in node.annotations for node in nodes)
        if answering and wanted.replicas and not (fits or closed):
            raise BrokenPromiseError(f"{wanted.key} rolls to where no replica can run, and {len(answering)} answer")

    def _apply_budget(self, deployment: Key, manifest: dict[str, Any]) -> bool:
        most = int(manifest["spec"]["maxUnavailable"])
        workload = self.world.workloads.get(deployment)
        if workload is None or workload.most_unavailable == most:
            return False
        workload.most_unavailable = most
        return True


def _merge(into: dict[str, str], changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            into.pop(name, None)
        else:
            into[name] = value
