"""Which keys need a pass when a record changed. The only place that knows.

A key too many costs a pass that writes nothing; a key too few is a bug that only time cures. So this errs on the side
of waking, except for the fleet, whose pass looks at everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.planning.profile.resting import newest
from slm_operator.reconcile.indexes import (
    KEYED,
    LABEL,
    NAMED,
    SHARING,
    UNMEASURED,
    is_our_node,
    key_of,
    named_profile,
)
from slm_operator.reconcile.queue import FLEET, WorkKey
from slm_operator.watch.records import Key
from slm_operator.watch.watch_list import GPU, OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_operator.reconcile.indexes import ProfileKeys
    from slm_operator.settings import Settings
    from slm_operator.watch.cache import Change
    from slm_operator.watch.records import DeploymentRecord, Meta, PodRecord, ProfileRecord
    from slm_operator.watch.watch_list import Caches


def affected_keys(change: Change[Any], caches: Caches, keys: ProfileKeys, settings: Settings) -> Iterator[WorkKey]:
    """Keys of the passes that this change may alter."""
    match change.kind:
        case names.DEPLOYMENT_KIND:
            yield from _by_deployment(change, caches, keys, settings)
        case names.PROFILE_KIND:
            yield from _by_profile(change, caches, settings)
        case "Pod":
            yield from _owners(change, caches)
            if _occupancy(change.old) != _occupancy(change.new):
                yield FLEET
        case "Job":
            yield from _owners(change, caches)
            if _finished(change.old) != _finished(change.new):  # a place among the running profiles is free
                yield from (WorkKey("profile", one.meta.key) for one in caches.profiles.by(UNMEASURED, True))
        case "Node":
            if any(one is not None and is_our_node(one, settings) for one in (change.old, change.new)):
                yield FLEET
            yield from _drained(change, caches)
        case "ConfigMap" | "DaemonPod":
            yield FLEET
        case _:  # Deployments, Services, PDBs, and what we own of them
            yield from _owners(change, caches)


def _by_deployment(change: Change[Any], caches: Caches, keys: ProfileKeys, settings: Settings) -> Iterator[WorkKey]:
    yield WorkKey("deployment", change.key)
    if _shape(change.old) == _shape(change.new):
        return
    yield FLEET
    if _asks(change.old) == _asks(change.new):
        return
    for record in (change.old, change.new):
        if record is not None:
            yield from _profiles_for(record, caches, keys, settings)


def _profiles_for(record: DeploymentRecord, caches: Caches, keys: ProfileKeys, settings: Settings) -> Iterator[WorkKey]:
    """Profiles that it may rest on: which of them is used, and what is asked of it, has changed."""
    own, name = record.meta.key.namespace, named_profile(record)
    if name is not None:
        yield WorkKey("profile", Key(own, name))
        return
    for namespace in (own, *settings.profiles.library_namespaces):
        for one in caches.profiles.by(OURS, (namespace, keys.of(record))):
            yield WorkKey("profile", one.meta.key)


def _by_profile(change: Change[Any], caches: Caches, settings: Settings) -> Iterator[WorkKey]:
    yield WorkKey("profile", change.key)
    namespace = change.key.namespace
    is_library = namespace in settings.profiles.library_namespaces
    # NB: its label says whose it was when it was made: who would make it again waits for it, if somebody edited it since.
    records = [record for record in (change.old, change.new) if record is not None]
    made_for = {record.meta.labels.get(names.PROFILE_LABEL) for record in records}
    for key in sorted(one for one in {*map(key_of, records), *made_for} if one is not None):
        users = caches.deployments.by(KEYED, key) if is_library else caches.deployments.by(SHARING, (namespace, key))
        for deployment in users:
            yield WorkKey("deployment", deployment.meta.key)
        if _rank(change.old) != _rank(change.new):  # others of its key are used, or not, from now on
            for where in sorted({namespace, *(deployment.meta.key.namespace for deployment in users)}):
                for other in caches.profiles.by(OURS, (where, key)):
                    yield WorkKey("profile", other.meta.key)
    for deployment in caches.deployments.by(NAMED, (namespace, change.key.name)):
        yield WorkKey("deployment", deployment.meta.key)


def _rank(record: ProfileRecord | None) -> tuple[object, ...] | None:
    """What decides whether it is rested on instead of others with its key. None: it has no measurements yet."""
    return newest(record) if record is not None and record.measurements is not None else None


def _owners(change: Change[Any], caches: Caches) -> Iterator[WorkKey]:
    namespace, labels = change.key.namespace, _meta(change).labels
    deployment, profile = labels.get(names.DEPLOYMENT_LABEL), labels.get(names.PROFILE_LABEL)
    for served in caches.deployments.by(LABEL, (namespace, deployment)) if deployment is not None else ():
        yield WorkKey("deployment", served.meta.key)
    for measured in caches.profiles.by(LABEL, (namespace, profile)) if profile is not None else ():
        yield WorkKey("profile", measured.meta.key)


def _drained(change: Change[Any], caches: Caches) -> Iterator[WorkKey]:
    """Deployments with a pod on a node that is cordoned, or no longer: a pack opens its successor elsewhere first."""
    old, new = change.old, change.new
    if new is None or (old is not None and old.unschedulable) == new.unschedulable:
        return
    for pod in caches.pods.by(GPU, True):
        if pod.node == new.meta.key.name and pod.replica_of is not None:
            for served in caches.deployments.by(LABEL, (pod.meta.key.namespace, pod.replica_of)):
                yield WorkKey("deployment", served.meta.key)


def _meta(change: Change[Any]) -> Meta:
    record: Any = change.new if change.new is not None else change.old
    meta: Meta = record.meta
    return meta


def _shape(record: DeploymentRecord | None) -> tuple[object, ...] | None:
    """What others see of a deployment: not its status."""
    return None if record is None else (record.meta.uid, record.meta.generation, record.meta.deleting, record.upgrade)


def _asks(record: DeploymentRecord | None) -> tuple[object, ...] | None:
    """What a profile sees of a deployment: a thousand may rest on it, and a scaled one is none of its business."""
    if record is None:
        return None
    spec = record.spec.model_copy(update={"replicas": None, "routing": None}) if record.spec is not None else None
    return (record.meta.uid, record.meta.deleting, spec, record.upgrade)


def _occupancy(record: PodRecord | None) -> tuple[object, ...] | None:
    """What the fleet sees of a pod: the slices it holds and where, and since when (an MPS daemon may be younger)."""
    if record is None or not record.gpu_requests:
        return None
    return (record.meta.uid, record.node, record.holds_gpu, record.meta.deleting, record.gpu_requests, record.started)


def _finished(record: Any) -> bool:
    return record is None or record.finished
