"""Which keys need a pass when a record changed. The only place that knows.

A key too many costs a pass that writes nothing; a key too few is a bug that only time cures. So this errs on the side
of waking, except for the fleet, whose pass looks at everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.reconcile.indexes import LABEL, NAMED, SHARING, UNMEASURED, is_our_node, named_profile
from slm_operator.reconcile.queue import FLEET, WorkKey
from slm_operator.watch.watch_list import OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_operator.reconcile.indexes import ProfileKeys
    from slm_operator.settings import Settings
    from slm_operator.watch.cache import Change
    from slm_operator.watch.records import DeploymentRecord, Meta, PodRecord
    from slm_operator.watch.watch_list import Caches


def affected_keys(change: Change[Any], caches: Caches, keys: ProfileKeys, settings: Settings) -> Iterator[WorkKey]:
    """Keys of the passes that this change may alter."""
    match change.kind:
        case names.DEPLOYMENT_KIND:
            yield from _by_deployment(change, caches, keys)
        case names.PROFILE_KIND:
            yield from _by_profile(change, caches)
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
        case "ConfigMap" | "DaemonPod":
            yield FLEET
        case _:  # Deployments, Services, PDBs, and what we own of them
            yield from _owners(change, caches)


def _by_deployment(change: Change[Any], caches: Caches, keys: ProfileKeys) -> Iterator[WorkKey]:
    yield WorkKey("deployment", change.key)
    if _shape(change.old) == _shape(change.new):
        return
    yield FLEET
    for record in (change.old, change.new):
        if record is not None and named_profile(record) is None:
            yield from _co_owners(change.key.namespace, keys.of(record), caches)


def _co_owners(namespace: str, key: str | None, caches: Caches) -> Iterator[WorkKey]:
    """Those who own a measured profile together. NB: an imported one is nobody's: a thousand may make use of it."""
    if key is None or any(one.imported for one in caches.profiles.by(OURS, (namespace, key))):
        return
    for one in caches.deployments.by(SHARING, (namespace, key)):
        yield WorkKey("deployment", one.meta.key)


def _by_profile(change: Change[Any], caches: Caches) -> Iterator[WorkKey]:
    yield WorkKey("profile", change.key)
    label = _meta(change).labels.get(names.PROFILE_LABEL)
    for index, value in ((SHARING, label), (NAMED, change.key.name)):
        for one in caches.deployments.by(index, (change.key.namespace, value)):
            yield WorkKey("deployment", one.meta.key)


def _owners(change: Change[Any], caches: Caches) -> Iterator[WorkKey]:
    namespace, labels = change.key.namespace, _meta(change).labels
    deployment, profile = labels.get(names.DEPLOYMENT_LABEL), labels.get(names.PROFILE_LABEL)
    for served in caches.deployments.by(LABEL, (namespace, deployment)) if deployment is not None else ():
        yield WorkKey("deployment", served.meta.key)
    for measured in caches.profiles.by(LABEL, (namespace, profile)) if profile is not None else ():
        yield WorkKey("profile", measured.meta.key)


def _meta(change: Change[Any]) -> Meta:
    record: Any = change.new if change.new is not None else change.old
    meta: Meta = record.meta
    return meta


def _shape(record: DeploymentRecord | None) -> tuple[object, ...] | None:
    """What others see of a deployment: not its status."""
    return None if record is None else (record.meta.uid, record.meta.generation, record.meta.deleting)


def _occupancy(record: PodRecord | None) -> tuple[object, ...] | None:
    """What the fleet sees of a pod: the slices it holds and where, and since when (an MPS daemon may be younger)."""
    if record is None or not record.gpu_requests:
        return None
    return (record.meta.uid, record.node, record.holds_gpu, record.meta.deleting, record.gpu_requests, record.started)


def _finished(record: Any) -> bool:
    return record is None or record.finished
