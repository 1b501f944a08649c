"""Actions to requests, one match over the closed union. Writes only what would change something.

An Apply is skipped when the object carries the hash of this very manifest and nobody has taken our fields since; a
status when it equals the one last seen. An object that we have not seen is applied without force: if somebody else's
bears the name, the API server says so instead of us taking it over. Ours is what one of the owners in its manifest owns.

Kinds that not every cluster has (the Gateway API's) are not watched: each is read once before it is applied, and then
left alone until its manifest changes.

What the API server refuses (quota, admission, a taken name) is remembered per key and goes into the next view, so that
it becomes a condition. What it cannot answer now ends the plan: the queue comes back.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

from slm_core.codec import to_json
from slm_core.measurements import MeasurementDocument

from slm_operator.api import names
from slm_operator.digest import digest
from slm_operator.kube.errors import Blocked, Conflict, Forbidden, NotFound, Refused, Unserved
from slm_operator.kube.events import About, EventRecorder
from slm_operator.kube.resources import CONFIG_MAP, NODE, POD, WORKLOAD
from slm_operator.planning import actions
from slm_operator.reconcile.pending_writes import Applied, Ledger, Ref
from slm_operator.reconcile.refusals import refusal_of, subject
from slm_operator.reconcile.status_throttle import StatusThrottle, same_status
from slm_operator.watch.applied import OwnedRecord, owned
from slm_operator.watch.pods import pod
from slm_operator.watch.records import Key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.kube.client import Client
    from slm_operator.planning.views import Refusal
    from slm_operator.reconcile.queue import WorkKey
    from slm_operator.watch.cache import Cache
    from slm_operator.watch.watch_list import Caches

log = logging.getLogger(__name__)

BLOCKED_SECONDS = 5.0
"""When is asked for again what was not possible just now."""
MOST_REMEMBERED = 2000
HASH_LENGTH = 16


@dataclass(slots=True)
class Outcome:
    """How a plan went."""

    writes: int = 0
    refused: Refusal | None = None
    """The first refusal."""
    look_again_seconds: float | None = None


@dataclass(slots=True, kw_only=True)
class Executor:
    """Carries plans out. Raises the ApiErrors that end a plan: Conflict and Unavailable, and NotLeading."""

    client: Client
    recorder: EventRecorder
    caches: Caches
    ledger: Ledger
    _unwatched: dict[Ref, str] = field(default_factory=dict, init=False)
    """Hash of the manifest that each object of an unwatched kind was applied with."""
    _throttle: StatusThrottle = field(init=False)

    def __post_init__(self) -> None:
        self._throttle = StatusThrottle(self.ledger.clock)

    async def execute(self, work: WorkKey, plan: actions.Plan) -> Outcome:
        """All actions of a plan, in order."""
        outcome = Outcome()
        for action in plan.actions:
            try:
                if isinstance(action, actions.WriteStatus) and (wait := self._message_delay(action)) > 0:
                    outcome.look_again_seconds = wait
                    continue
                wrote = await self._perform(work, action)
            except (Refused, Forbidden) as error:
                outcome.refused = outcome.refused or refusal_of(action, error)
                log.warning("refused", extra={"object": str(work), "action": subject(action), "because": error.message})
                continue
            except Blocked as error:
                outcome.look_again_seconds = BLOCKED_SECONDS
                log.info("blocked", extra={"object": str(work), "action": subject(action), "because": error.message})
                continue
            if wrote and not isinstance(action, actions.EmitEvent):
                outcome.writes += 1
                log.info("done", extra={"object": str(work), "action": subject(action), "because": action.because})
        return outcome

    async def _perform(self, work: WorkKey, action: actions.Action) -> bool:
        match action:
            case actions.Apply():
                return await self._apply(work, action)
            case actions.SetReplicas() | actions.ScaleWorkload():
                return await self._scale(work, action)
            case actions.Delete():
                return await self._delete(work, action)
            case actions.Evict():
                return await self._evict(work, action)
            case actions.PatchNode():
                return await self._patch_node(work, action)
            case actions.PatchConfig():
                return await self._patch_config(work, action)
            case actions.WriteStatus():
                return await self._write_status(work, action)
            case actions.EmitEvent():
                return self._emit(action)
            case _:
                assert_never(action)

    async def _apply(self, work: WorkKey, action: actions.Apply) -> bool:
        manifest = action.manifest
        meta = manifest["metadata"]
        ref = Ref(manifest["kind"], Key(meta.get("namespace", ""), meta["name"]))
        wanted = digest(manifest, HASH_LENGTH)
        cache = self.caches.owned.get(ref.kind)
        if cache is None and self._unwatched.get(ref) == wanted:
            return False
        seen = cache.get(ref.key) if cache is not None else await self._look(manifest["apiVersion"], ref)
        ours = seen is not None and _is_of_owners(seen, manifest)
        if seen is not None and self._stands(ref, seen, wanted, ours=ours):
            return False
        annotated = meta | {"annotations": {**(meta.get("annotations") or {}), names.APPLIED_ANNOTATION: wanted}}
        try:
            answer = await self.client.apply(manifest | {"metadata": annotated}, force=ours)
        except Conflict as error:
            if ours:  # forced, so nobody's fields are in the way: the object changed meanwhile
                raise
            raise Refused(f"the name is taken by an object that is not ours: {error.message}") from error
        except NotFound as error:
            raise Unserved(error.message) from error
        record = owned(answer)
        if cache is None:
            if len(self._unwatched) >= MOST_REMEMBERED:  # those of objects that are gone; the others are read once more
                self._unwatched.clear()
            self._unwatched[ref] = wanted
            return True
        self.ledger.applied[ref] = Applied(record.meta.uid, wanted, record.fingerprint)
        self.ledger.wrote(work, ref, record.meta.resource_version, record.meta.uid)
        return seen is None or seen.meta.resource_version != record.meta.resource_version

    def _stands(self, ref: Ref, seen: OwnedRecord, wanted: str, *, ours: bool) -> bool:
        """Whether the object is as this manifest wants it, or is going and must go first."""
        if seen.meta.deleting:
            return True
        if not ours or seen.applied != wanted or seen.fingerprint is None:
            return False
        known = self.ledger.applied.get(ref)
        if known is None or known.uid != seen.meta.uid or known.manifest_hash != wanted:
            return not seen.touched
        return known.fingerprint == seen.fingerprint

    async def _look(self, api_version: str, ref: Ref) -> OwnedRecord | None:
        """An object of a kind that is not watched, as it is now."""
        resource = self.client.resources.find(api_version, ref.kind)
        try:
            return owned(await self.client.get(resource, ref.key.namespace, ref.key.name))
        except NotFound:
            return None

    async def _scale(self, work: WorkKey, action: actions.SetReplicas | actions.ScaleWorkload) -> bool:
        if isinstance(action, actions.SetReplicas):
            return await self._set_replicas(work, action)
        return await self._scale_workload(work, action)

    async def _set_replicas(self, work: WorkKey, action: actions.SetReplicas) -> bool:
        key = action.deployment
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": names.DEPLOYMENT_KIND,
            # NB: a uid, or an apply would make a new one where it is gone; a version, for `kubectl scale` leaves no owner to conflict with.
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "uid": action.uid,
                "resourceVersion": action.resource_version,
            },
            "spec": {"replicas": action.replicas},
        }
        try:
            answer = await self.client.apply(manifest, force=False, manager=names.REPLICAS_MANAGER)
        except NotFound:  # a conflict ends the pass: whose number it is now, the next one sees
            return False
        self._wrote(work, Ref(names.DEPLOYMENT_KIND, key), answer)
        return True

    async def _scale_workload(self, work: WorkKey, action: actions.ScaleWorkload) -> bool:
        key = action.workload
        patch = {"metadata": {"resourceVersion": action.resource_version}, "spec": {"replicas": action.replicas}}
        try:
            answer = await self.client.merge_patch(WORKLOAD, key.namespace, key.name, patch)
        except NotFound:  # a conflict ends the pass: the next one sees what it is now
            return False
        self._wrote(work, Ref("Deployment", key), answer)
        return True

    async def _delete(self, work: WorkKey, action: actions.Delete) -> bool:
        resource = self.client.resources.find(action.api_version, action.kind)
        ref, uid = Ref(action.kind, action.key), action.uid
        if uid is None:
            self._unwatched.pop(ref, None)
            seen = await self._look(action.api_version, ref)
            if seen is None or not seen.meta.is_controlled_by(action.controller):
                return False
            uid = seen.meta.uid
        try:
            await self.client.delete(resource, action.key.namespace, action.key.name, uid)
        except (NotFound, Conflict):  # gone, or a namesake took its place
            return False
        self.ledger.removed(work, ref, uid)
        return True

    async def _evict(self, work: WorkKey, action: actions.Evict) -> bool:
        seen = self.caches.pods.get(action.pod)
        if seen is not None and seen.meta.deleting:
            return False
        if action.changing_node is not None:
            await self._expect_changing(action.changing_node)
        try:
            await self.client.evict(action.pod.namespace, action.pod.name, action.uid)
        except (NotFound, Conflict):
            return False
        self.ledger.removed(work, Ref("Pod", action.pod), action.uid)
        return True

    async def _expect_changing(self, node: str) -> None:
        """Raises Blocked unless a node is being changed.

        NB: a pass that waited in vain to be shown its own write plans all the same, and for it a node that was opened is closed.
        """
        for raw in await self.client.list(NODE, fields=f"metadata.name={node}"):
            closed = any(
                taint.get("key") == names.CHANGING_TAINT for taint in (raw.get("spec") or {}).get("taints") or ()
            )
            if closed or names.CHANGE_STARTED_ANNOTATION in (raw["metadata"].get("annotations") or {}):
                return
        raise Blocked(f"node {node} does not change: the watch has not shown that yet")

    async def _patch_node(self, work: WorkKey, action: actions.PatchNode) -> bool:
        meta: dict[str, Any] = {"resourceVersion": action.resource_version}
        if action.labels:
            meta["labels"] = dict(action.labels)
        if action.annotations:
            meta["annotations"] = dict(action.annotations)
        patch: dict[str, Any] = {"metadata": meta}
        if action.taints is not None:
            patch["spec"] = {"taints": [_taint(taint) for taint in action.taints]}
        if action.only_if_free:
            await self._expect_free(action.node)
        answer = await self.client.merge_patch(NODE, "", action.node, patch)
        self._wrote(work, Ref("Node", Key("", action.node)), answer)
        return True

    async def _expect_free(self, node: str) -> None:
        """Raises Blocked while a pod holds devices of a node.

        NB: the watch may be behind by more than any fixed wait: it was cut and is being listed anew, or hangs.
        """
        found = map(pod, await self.client.list(POD, fields=f"spec.nodeName={node}"))
        held = [str(one.meta.key) for one in found if one is not None and one.holds_gpu]
        if held:
            raise Blocked(f"{', '.join(held[:3])} on node {node}: the watch has not shown that yet")

    async def _patch_config(self, work: WorkKey, action: actions.PatchConfig) -> bool:
        key = action.config_map
        data: dict[str, str | None] = {**action.add, **dict.fromkeys(action.remove)}
        meta = {"resourceVersion": action.resource_version, "annotations": dict(action.annotations)}
        patch = {"metadata": meta, "data": data}
        answer = await self.client.merge_patch(CONFIG_MAP, key.namespace, key.name, patch)
        self._wrote(work, Ref("ConfigMap", key), answer)
        return True

    async def _write_status(self, work: WorkKey, action: actions.WriteStatus) -> bool:
        seen = self._status_of(action)
        if seen is None or same_status(action.status, seen):
            return False
        manifest = {
            "apiVersion": action.api_version,
            "kind": action.kind,
            "metadata": {"name": action.key.name, "namespace": action.key.namespace, "uid": action.uid},
            "status": dict(action.status),
        }
        try:
            answer = await self.client.apply_status(manifest)
        except NotFound:  # a conflict ends the pass instead: what status says would be lost with it
            return False
        ref = Ref(action.kind, action.key)
        self._wrote(work, ref, answer, echo=True)
        self._throttle.wrote(ref, action.status, seen)
        return True

    def _message_delay(self, action: actions.WriteStatus) -> float:
        return self._throttle.wait_seconds(Ref(action.kind, action.key), action.status, self._status_of(action))

    def _status_of(self, action: actions.WriteStatus) -> Mapping[str, Any] | None:
        cache: Cache[Any] = self.caches.profiles if action.kind == names.PROFILE_KIND else self.caches.deployments
        record = cache.get(action.key)
        if record is None or record.meta.uid != action.uid:
            return None
        # NB: a document that was read is all that is not plain.
        return {
            name: to_json(value) if isinstance(value, MeasurementDocument) else value
            for name, value in record.status.items()
        }

    def _emit(self, action: actions.EmitEvent) -> bool:
        about = About(
            api_version=action.api_version,
            kind=action.kind,
            namespace=action.key.namespace,
            name=action.key.name,
            uid=action.uid,
        )
        self.recorder.emit(about, action.type, action.reason, action.message)
        return False  # written later, or not at all: no write of this pass

    def _wrote(self, work: WorkKey, ref: Ref, answer: dict[str, Any], *, echo: bool = False) -> None:
        meta = answer["metadata"]
        self.ledger.wrote(work, ref, meta["resourceVersion"], meta["uid"], echo=echo)


def _is_of_owners(seen: OwnedRecord, manifest: Mapping[str, Any]) -> bool:
    """Whether one of the owners that the manifest names has the object already.

    NB: neither our annotation nor our name as a field manager proves that: anybody may write both. What has no owner of these
    may be taken over where nobody's fields are in the way, and the API server takes no second controller.
    """
    owners = {reference["uid"] for reference in manifest["metadata"].get("ownerReferences") or ()}
    return any(one.uid in owners for one in seen.meta.owners)


def _taint(taint: Any) -> dict[str, str]:
    written = {"key": taint.key, "effect": taint.effect}
    return written | ({"value": taint.value} if taint.value else {})
