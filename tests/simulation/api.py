"""The API server as the operator meets it: paths, preconditions, field owners, evictions within a budget, and what it refuses.

Answers hold metadata only: the operator reads nothing else of an answer. What may not be written at all is in promises.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.decoding import decode
from slm_operator.kube.client import APPLY
from slm_operator.kube.transport import Answer
from slm_operator.watch.records import Key, Taint

from .applying import Applying
from .made import Job, Profile
from .objects import Raw, head
from .promises import Promises
from .refusing import RefusedError, check_conditions, check_labels, check_version, found, refusal
from .situations import Situation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slm_operator.kube.transport import Request

    from .controllers import Controllers
    from .world import World

KINDS = {
    "deployments": "Deployment",
    "jobs": "Job",
    "services": "Service",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "slmprofiles": names.PROFILE_KIND,
}
"""What is applied as a whole, by plural."""


@dataclass(slots=True)
class Api:
    """Everything that the operator may ask and write."""

    world: World
    controllers: Controllers
    error_rate: float = 0.0
    writes: int = 0
    """Of what does something in the cluster."""
    statuses: int = 0
    promises: Promises = field(init=False)
    _applying: Applying = field(init=False)
    _verbs: dict[tuple[str, str, str], Callable[[Key, Any, Mapping[str, str]], Raw]] = field(init=False)

    def __post_init__(self) -> None:
        self.promises = Promises(self.world)
        self._applying = Applying(self.world, self.controllers, self.promises)
        self._verbs = {
            ("PATCH", "nodes", ""): self._patch_node,
            ("PATCH", "configmaps", ""): self._patch_config,
            ("POST", "pods", "eviction"): self._evict,
            ("DELETE", "pods", ""): self._delete_pod,
            ("DELETE", "jobs", ""): self._delete_job,
            ("PATCH", "slmdeployments", ""): self._set_replicas,
            ("PATCH", "slmdeployments", "status"): self._write_status,
            ("PATCH", "slmprofiles", "status"): self._write_status,
        }

    def answer(self, request: Request) -> Answer:
        """One request. Raises BrokenPromiseError for what must never be written."""
        parts = request.path.split("/")
        rest = parts[3:] if parts[1] == "api" else parts[4:]
        namespace, rest = (rest[1], rest[2:]) if rest[0] == "namespaces" else ("", rest)
        plural, name, below = (*rest, "", "")[:3]
        key, params = Key(namespace, name), request.params or {}
        if plural == "events":
            return Answer(status=201, body=b"{}")
        try:
            if (request.method, plural, below) == ("GET", "pods", "log"):
                return Answer(status=200, body=self._log(key, params))
            if request.method == "GET" and not name:
                return Answer(status=200, body=self._list(plural, params["fieldSelector"]))
            body = decode(request.body or b"{}")
            if request.method == "PATCH" and plural in KINDS and not below:
                meta = self._made(KINDS[plural], key, body, request)
            elif (verb := self._verbs.get((request.method, plural, below))) is not None:
                meta = verb(key, body, params)
            else:
                return refusal(404, f'{plural} "{name}" not found')
        except RefusedError as error:
            if error.status == 409:
                self.world.meets(Situation.CONFLICT)
            return refusal(error.status, error.message)
        return Answer(status=200, body=json.dumps({"metadata": meta}).encode())

    # -- patches with a precondition

    def _patch_node(self, key: Key, patch: Raw, _: Mapping[str, str]) -> Raw:
        """Labels, annotations and taints in one write, if nobody wrote since."""
        node = self.world.nodes.get(key.name)
        meta = patch["metadata"]
        if node is None:
            raise RefusedError(404, f'nodes "{key.name}" not found')
        check_version(meta, node.version)
        taints = patch.get("spec", {}).get("taints")
        labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
        check_labels(labels)
        if taints is not None and len({(one["key"], one["effect"]) for one in taints}) < len(taints):
            raise RefusedError(422, "spec.taints: taints must be unique by key and effect pair")
        self.promises.of_node(node, labels)
        failed = node.annotations.get(names.CHANGE_FAILED_ANNOTATION)
        _merge(node.labels, labels)
        _merge(node.annotations, annotations)
        if annotations.get(names.CHANGE_FAILED_ANNOTATION) not in {None, failed}:
            self.world.meets(Situation.ROLLED_BACK)
        if taints is not None:
            node.taints = tuple(
                Taint(key=one["key"], value=one.get("value", ""), effect=one["effect"]) for one in taints
            )
            node.opened_by_hand = False
        self.promises.of_closed(node)
        if node.changes and any(pod.owner is None and pod.job is None for pod in self.world.on(node.name)):
            self.world.meets(Situation.STRANGER_IN_A_CHANGE)
        self.writes += 1
        self.world.node_changed(node)
        return head(Key("", node.name), node.uid, node.version)

    def _patch_config(self, key: Key, patch: Raw, _: Mapping[str, str]) -> Raw:
        """Keys added and removed, if nobody wrote since."""
        world = self.world
        if world.config is None:
            raise RefusedError(404, f'configmaps "{key.name}" not found')
        check_version(patch["metadata"], world.config_version)
        self.promises.of_config(patch["data"])
        _merge(world.config, patch["data"])
        _merge(world.config_annotations, patch["metadata"].get("annotations") or {})
        self.writes += 1
        world.config_changed()
        return head(key, "config", world.config_version)

    def _set_replicas(self, key: Key, manifest: Raw, params: Mapping[str, str]) -> Raw:
        """The scale of an SLMDeployment, by a manager of its own and without force."""
        one = self.world.deployments.get(key)
        if one is None or one.uid != manifest["metadata"]["uid"]:
            raise RefusedError(409, f"{key}: uid mismatch, or no existing object was found")
        check_version(manifest["metadata"], one.version)
        if params["force"] == "true" or params["fieldManager"] != names.REPLICAS_MANAGER:
            raise RefusedError(422, "whose field is it?")
        replicas = manifest["spec"]["replicas"]
        self.promises.of_replicas(one, replicas)
        self.writes += 1
        one.generation, one.own_replicas = one.generation + 1, replicas
        self.world.deployment_changed(one)
        return one.raw()["metadata"]  # type: ignore[no-any-return]

    # -- what goes

    def _evict(self, key: Key, eviction: Raw, _: Mapping[str, str]) -> Raw:
        """Through the eviction API: pending and unready pods always, ready ones within the budget."""
        pod = found(self.world.pods.get(key), key, eviction["deleteOptions"])
        if pod.deleting:
            return {}
        self.promises.of_eviction(pod)
        if key.namespace in self.world.stubborn and pod.phase == "Running":
            self.world.meets(Situation.BLOCKED)
            raise RefusedError(
                500, "This pod has more than one PodDisruptionBudget, which the eviction does not support."
            )
        if pod.ready and pod.owner is not None and self.allowed(pod.owner) < 1:
            self.world.meets(Situation.BLOCKED)
            raise RefusedError(429, "Cannot evict pod as it would violate the pod's disruption budget.")
        self.writes += 1
        self.controllers.delete(pod)
        return {}

    def allowed(self, owner: Key) -> int:
        """Disruptions that the budget of a Deployment's pods allows now."""
        budget, workload = self.world.budgets.get(owner), self.world.workloads.get(owner)
        if budget is None or workload is None:
            return 1
        healthy = sum(one.ready and not one.deleting and one.owner == owner for one in self.world.pods.values())
        least: int = workload.replicas - budget.manifest["spec"]["maxUnavailable"]
        return healthy - least

    def _delete_pod(self, key: Key, options: Raw, _: Mapping[str, str]) -> Raw:
        pod = found(self.world.pods.get(key), key, options)
        self.promises.of_pod(pod)
        self.writes += 1
        self.controllers.delete(pod)
        return {}

    def _delete_job(self, key: Key, options: Raw, _: Mapping[str, str]) -> Raw:
        """A Job, and its pod with it."""
        job = found(self.world.jobs.get(key), key, options)
        pod = self.world.pods.get(key)
        self.promises.of_job(job, pod)
        self.writes += 1
        self.world.made_gone("Job", key)
        if pod is not None:
            self.world.pod_gone(pod)
        return {}

    # -- what is applied

    def _write_status(self, key: Key, manifest: Raw, _: Mapping[str, str]) -> Raw:
        kind = manifest["kind"]
        one: Any = (self.world.deployments if kind == names.DEPLOYMENT_KIND else self.world.profiles).get(key)
        if one is None:
            raise RefusedError(404, f"{key} not found")
        if manifest["metadata"]["uid"] != one.uid:
            raise RefusedError(409, f"{key}: uid mismatch")
        check_conditions(manifest["status"])
        if one.status != manifest["status"]:
            if isinstance(one, Profile):
                self._notes(one, manifest["status"])
            one.status = manifest["status"]
            self.statuses += 1
            if kind == names.DEPLOYMENT_KIND:
                self.world.deployment_changed(one)
            else:
                self.world.made_changed(kind, one)
        return one.raw()["metadata"]  # type: ignore[no-any-return]

    def _made(self, kind: str, key: Key, body: Raw, request: Request) -> Raw:
        if request.content_type == APPLY:
            changed = self._applying.apply(kind, key, body, force=(request.params or {})["force"] == "true")
        else:
            changed = self._applying.scale(key, body)
        self.writes += changed
        return self.world.made(kind)[key].meta()  # type: ignore[no-any-return]

    def _notes(self, profile: Profile, status: Raw) -> None:
        """What is hard about measuring."""
        if "extension" in status and "extension" not in profile.status:
            self.world.meets(Situation.EXTENDED)
        served = {pod.key.namespace for pod in self.world.pods.values() if pod.ready and pod.owner is not None}
        waits = any(profile.uid in job.owners and self.world.pods[job.key].node is None for job in self._jobs())
        if waits and profile.key.namespace in served:
            self.world.meets(Situation.WAITED_FOR_GPU)

    def _jobs(self) -> list[Job]:
        return [job for job in self.world.jobs.values() if job.key in self.world.pods and not job.finished]

    def _list(self, plural: str, selector: str) -> bytes:
        """Pods or nodes as they are now, which news may not have told yet."""
        if plural == "nodes":
            found: list[Any] = [one for one in self.world.nodes.values() if selector == f"metadata.name={one.name}"]
        else:
            found = [one for one in self.world.pods.values() if selector == f"spec.nodeName={one.node}"]
        return json.dumps({"items": [one.raw() for one in found]}).encode()

    def _log(self, key: Key, params: Mapping[str, str]) -> bytes:
        pod = self.world.pods.get(key)
        if pod is None:
            raise RefusedError(404, f"{key} not found")
        if pod.phase == "Pending":
            raise RefusedError(400, f"container of {key} is waiting to start")
        since = params.get("sinceTime", "")[:19]
        return "".join(line for line in pod.printed.splitlines(keepends=True) if line[:19] >= since).encode()


def _merge(into: dict[str, str], changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            into.pop(name, None)
        else:
            into[name] = value
