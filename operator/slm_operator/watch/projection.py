"""Raw objects to records: one function a kind.

Raw pods cost 25 KB each, records 1 KB, so this runs the moment an object arrives and the raw one is let go. Assumes
nothing about who wrote an object: any field may be missing, odd or as long as the API server takes it, so texts are cut
and lists are counted. Must never raise for one: a broken object of ours becomes a record that says what is broken.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from slm_operator import quantity
from slm_operator.api import names
from slm_operator.api.conditions import condition
from slm_operator.partitioning.config_manager import config_manager_in
from slm_operator.partitioning.node_slices import DEVICE_PLUGIN, PARTS
from slm_operator.watch.records import (
    Cause,
    ConfigMapRecord,
    DaemonPodRecord,
    JobRecord,
    Key,
    Meta,
    NodeRecord,
    Owner,
    Taint,
    WorkloadRecord,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Raw = dict[str, Any]

_KEPT_LABELS = frozenset(
    {
        names.DEPLOYMENT_LABEL,
        names.PROFILE_LABEL,
        names.MANAGED_BY_LABEL,
        names.ENGINES_LABEL,
        "pod-template-hash",
        "app.kubernetes.io/component",
    }
)
MOST_TEXT = 1000
"""Longest text of a record, in characters. NB: most are bounded by the API server, an owner's kind or uid is not."""
MOST_SERVED = 16_384
"""Longest text of what a Deployment was made from. A longer one is not ours: cut, it would say nothing."""
MOST_OWNERS = 8
MOST_ANNOTATION = 253
"""Longest value of an annotation of ours that is taken, in characters."""
_DEVICES = "nvidia.com/"


def key_of(raw: Raw) -> Key:
    """Namespace and name."""
    meta = raw["metadata"]
    return Key(meta.get("namespace") or "", meta["name"])


def meta_of(raw: Raw, *, of_admins: bool = False) -> Meta:
    """What every object has. Of what only administrators write: all labels, and the annotations that we write."""
    meta = raw["metadata"]
    labels: Mapping[str, str] = meta.get("labels") or {}
    annotations: Mapping[str, str] = meta.get("annotations") or {}
    if of_admins:
        annotations = {name: text for name, text in annotations.items() if _is_written_by_us(name)}
    else:
        labels = {name: labels[name] for name in _KEPT_LABELS & labels.keys()}
        applied = annotations.get(names.APPLIED_ANNOTATION)
        annotations = {names.APPLIED_ANNOTATION: cut(applied)} if applied else {}
    return Meta(
        key=key_of(raw),
        uid=meta.get("uid") or "",
        resource_version=meta.get("resourceVersion") or "",
        generation=meta.get("generation") or 0,
        deleting=bool(meta.get("deletionTimestamp")),
        # NB: thousands of pods carry the same few strings; the JSON parser makes new ones for each.
        labels={sys.intern(name): sys.intern(str(value)) for name, value in labels.items()},
        annotations=annotations,
        owners=tuple(map(_owner, _few_owners(meta.get("ownerReferences") or ()))),
    )


def _is_written_by_us(annotation: str) -> bool:
    domain = annotation.partition("/")[0]
    ours = domain == names.GROUP or domain.endswith(f".{names.GROUP}")
    return ours or annotation in names.KEEP_NODE_ANNOTATIONS


def _few_owners(references: Sequence[Raw]) -> Sequence[Raw]:
    """The controller, of which there is one at most, and a few others."""
    if len(references) <= MOST_OWNERS:
        return references
    return sorted(references, key=lambda one: not one.get("controller"))[:MOST_OWNERS]


def _owner(reference: Raw) -> Owner:
    return Owner(
        kind=sys.intern(cut(str(reference.get("kind") or ""))),
        name=cut(reference.get("name") or ""),
        uid=cut(reference.get("uid") or ""),
        controller=bool(reference.get("controller")),
    )


def node(raw: Raw) -> NodeRecord:
    """A node."""
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    return NodeRecord(
        meta=meta_of(raw, of_admins=True),
        ready=_is_ready(status),
        unschedulable=bool(spec.get("unschedulable")),
        taints=tuple(
            Taint(key=taint.get("key") or "", value=taint.get("value") or "", effect=taint.get("effect") or "")
            for taint in spec.get("taints") or ()
        ),
        capacity=_devices(status.get("capacity")),
        allocatable=_devices(status.get("allocatable")),
        cpus=float(_host(status, "cpu")),
        memory_bytes=int(_host(status, "memory")),
    )


def workload(raw: Raw) -> WorkloadRecord:
    """An apps/v1 Deployment."""
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    stalled = [
        cut(found.get("message") or found.get("reason") or kind)
        for kind, bad in (("ReplicaFailure", "True"), ("Progressing", "False"))
        if (found := condition(status, kind)) is not None and found.get("status") == bad
    ]
    return WorkloadRecord(
        meta=meta_of(raw),
        observed_generation=status.get("observedGeneration") or 0,
        replicas=spec.get("replicas", 1),
        existing=status.get("replicas") or 0,
        updated=status.get("updatedReplicas") or 0,
        ready=status.get("readyReplicas") or 0,
        available=status.get("availableReplicas") or 0,
        stalled_because=stalled[0] if stalled else None,
        served=_served(raw),
    )


def _served(raw: Raw) -> str | None:
    text = (raw["metadata"].get("annotations") or {}).get(names.SERVED_ANNOTATION)
    return text if text is not None and len(text) <= MOST_SERVED else None


def job(raw: Raw) -> JobRecord:
    """A batch/v1 Job."""
    status = raw.get("status") or {}
    failed = condition(status, "Failed")
    failed_now = failed is not None and failed.get("status") == "True"
    complete = condition(status, "Complete")
    because = cause(failed.get("reason") or "Failed", failed.get("message")) if failed_now and failed else None
    return JobRecord(
        meta=meta_of(raw),
        active=status.get("active") or 0,
        succeeded=status.get("succeeded") or 0,
        failed=status.get("failed") or 0,
        finished=failed_now or (complete is not None and complete.get("status") == "True"),
        failed_because=because,
        created=str(raw["metadata"].get("creationTimestamp") or ""),
        request=annotation(raw, names.REQUEST_ANNOTATION),
        template=annotation(raw, names.TEMPLATE_ANNOTATION),
        retry=annotation(raw, names.RETRY_ANNOTATION),
        product=annotation(raw, names.PRODUCT_ANNOTATION),
    )


def config_map(raw: Raw) -> ConfigMapRecord:
    """The device plugin's ConfigMap."""
    return ConfigMapRecord(meta=meta_of(raw, of_admins=True), data=dict(raw.get("data") or {}))


def daemons_of(namespace: str) -> Callable[[Raw], DaemonPodRecord | None]:
    """A projection of the pods of the device plugin and of the MPS control daemon in this namespace; None for all others."""

    def daemon(raw: Raw) -> DaemonPodRecord | None:
        if raw["metadata"].get("namespace") != namespace:
            return None
        containers = (raw.get("spec") or {}).get("containers") or ()
        part = next((PARTS[one["name"]] for one in containers if one.get("name") in PARTS), None)
        return _daemon(raw, part) if part is not None else None

    return daemon


def _daemon(raw: Raw, part: str) -> DaemonPodRecord:
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    running = spec.get("containers") or ()
    containers = [*(spec.get("initContainers") or ()), *running]
    environment = {
        one.get("name"): one.get("value") or "" for container in containers for one in container.get("env") or ()
    }
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    own = [one for one in statuses if PARTS.get(one.get("name") or "") == part]
    manager = config_manager_in(running)
    restarting = statuses if manager is not None and manager.restarts_daemon else own
    return DaemonPodRecord(
        meta=meta_of(raw),
        node=spec.get("nodeName"),
        part=part,
        ready=_is_ready(status) if part == DEVICE_PLUGIN else any(bool(one.get("ready")) for one in own),
        waiting=first(waiting(one) for one in statuses),
        started=max((at for at in map(running_since, restarting) if at), default=None),
        containers=tuple(sys.intern(str(container.get("name") or "")) for container in containers),
        default_key=environment.get("DEFAULT_CONFIG", ""),
        takes_lone_key="single" in environment.get("FALLBACK_STRATEGIES", "").split(","),
        config_manager=manager,
    )


def _is_ready(status: Raw) -> bool:
    ready = condition(status, "Ready")
    return ready is not None and ready.get("status") == "True"


def waiting(container_status: Raw) -> Cause | None:
    """Why a container waits."""
    state = (container_status.get("state") or {}).get("waiting")
    return None if state is None else cause(state.get("reason") or "Waiting", state.get("message"))


def running_since(container_status: Raw) -> str | None:
    """When a running container started."""
    started: str | None = ((container_status.get("state") or {}).get("running") or {}).get("startedAt")
    return started


def cause(reason: str, message: str | None, exit_code: int | None = None) -> Cause:
    """What somebody said. Long messages (a log tail) are cut."""
    return Cause(cut(reason), cut((message or "").strip()), exit_code)


def annotation(raw: Raw, name: str) -> str | None:
    """One of our annotations, of bounded length; None without it. NB: a value of Kubernetes is always a text."""
    text = (raw["metadata"].get("annotations") or {}).get(name)
    return str(text)[:MOST_ANNOTATION] if text else None


def cut(text: str) -> str:
    """A text of others, of bounded length."""
    return text[:MOST_TEXT]


def first(found: Iterable[Cause | None]) -> Cause | None:
    """The first that is not None."""
    return next((one for one in found if one is not None), None)


def amount(count: object) -> int:
    """A whole number of devices. Extended resources are integers; the API server also accepts 1k."""
    return int(quantity.amount(count) or 0)


def is_device(resource: str) -> bool:
    """Whether a resource name is one of the device plugin's."""
    return resource.startswith(_DEVICES)


def _host(status: Raw, resource: str) -> Fraction:
    return quantity.amount((status.get("allocatable") or {}).get(resource)) or Fraction(0)


def _devices(resources: Mapping[str, Any] | None) -> dict[str, int]:
    return {sys.intern(name): amount(count) for name, count in (resources or {}).items() if is_device(name)}
