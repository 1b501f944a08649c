"""Pods that request a GPU or that we made, as records. All other pods of the cluster are looked at once and dropped.

This is the hottest projection: with 10,000 pods in a cluster it decides how long a start takes. So `concerns_us` looks
at labels and resource names only, before anything is built.
"""

from __future__ import annotations

import sys
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from slm_core.engines.registry import ENGINES
from slm_core.failure import Failure
from slm_core.pack_pod import BATCH_SIZE_FLAG, read_termination

from slm_operator.api import names
from slm_operator.api.conditions import condition
from slm_operator.partitioning import RESOURCES
from slm_operator.watch.projection import (
    Raw,
    amount,
    cause,
    cut,
    first,
    is_device,
    meta_of,
    running_since,
    waiting,
)
from slm_operator.watch.records import STARTING, PodRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from slm_operator.watch.records import Cause


OOM = "OOMKilled"
"""The kubelet's word for a container that its memory limit ended."""
MOST_RESOURCES, MOST_DEVICES = 16, 64
"""Device resources that a pod may request, and devices whose health it may tell, before the others are left out."""
BATCH_FLAGS = frozenset({BATCH_SIZE_FLAG, *(engine.batch_size_flag for engine in ENGINES)})
MOST_DIGITS = 6
"""Of a batch size: a longer number is none."""


def pod(raw: Raw) -> PodRecord | None:
    """The record of a pod that concerns us, else None."""
    requests = _gpu_requests(raw.get("spec") or {})
    labels = raw["metadata"].get("labels") or {}
    if not requests and names.DEPLOYMENT_LABEL not in labels and names.PROFILE_LABEL not in labels:
        return None
    return _record(raw, requests)


def _record(raw: Raw, requests: dict[str, int]) -> PodRecord:
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    ready, scheduled = condition(status, "Ready"), condition(status, "PodScheduled")
    inits, mains = status.get("initContainerStatuses") or [], status.get("containerStatuses") or []
    phase = status.get("phase") or "Pending"
    is_replica = names.DEPLOYMENT_LABEL in (raw["metadata"].get("labels") or {})
    return PodRecord(
        meta=meta_of(raw),
        node=spec.get("nodeName"),
        phase=sys.intern(phase),
        ready=ready is not None and ready.get("status") == "True",
        gpu_requests=requests,
        priority=spec.get("priority") or 0,
        waiting=_waiting((*inits, *mains)),
        terminated=first((*(_in(one, _ended(one)) for one in mains), *(_in(one, _failed(one)) for one in inits))),
        restarts=sum(one.get("restartCount") or 0 for one in (*inits, *mains)),
        unscheduled_because=(
            cut(scheduled.get("message") or scheduled.get("reason") or "")
            if scheduled is not None and scheduled.get("status") == "False"
            else None
        ),
        failed_because=cause(status.get("reason") or "Failed", status.get("message")) if phase == "Failed" else None,
        disrupted_because=_disruption(status),
        accepted=status.get("startTime"),
        deadline_seconds=spec.get("activeDeadlineSeconds"),
        gone_by=raw["metadata"].get("deletionTimestamp"),
        resource_health=dict(islice(_health(mains), MOST_DEVICES)),
        started=running_since(mains[0]) if mains else None,
        address=status.get("podIP") if is_replica else None,
        batch_size=_batch_size(spec) if is_replica else None,
    )


def _batch_size(spec: Raw) -> int | None:
    """What its engines were started with: while advice changes, replicas of the former one run beside those of the new."""
    for container in spec.get("containers") or ():
        words = (*(container.get("command") or ()), *(container.get("args") or ()))
        said = [value for word, value in pairwise(words) if word in BATCH_FLAGS]
        if said and len(said[-1]) <= MOST_DIGITS and said[-1].isascii() and said[-1].isdigit():
            return int(said[-1]) or None
    return None


def _waiting(statuses: Iterable[Raw]) -> Cause | None:
    """NB: kubelets pull images side by side, so beside the container that has none others are only starting."""
    named = ((one, waiting(one)) for one in statuses)
    found = [
        cause._replace(container=cut(str(one.get("name") or "")), image=cut(str(one.get("image") or "")))
        for one, cause in named
        if cause is not None
    ]
    return next((cause for cause in found if cause.reason not in STARTING), first(found))


def _disruption(status: Raw) -> Cause | None:
    # Kubernetes API, core/v1 types.go: DisruptionTarget, set by whoever is about to end the pod.
    found = condition(status, "DisruptionTarget")
    if found is None or found.get("status") != "True":
        return None
    return cause(found.get("reason") or "DisruptionTarget", found.get("message"))


def _gpu_requests(spec: Raw) -> dict[str, int]:
    """Devices that a pod holds: the sum over its containers, or what one init container needs if that is more."""
    total: dict[str, int] = {}
    for container in spec.get("containers") or ():
        for name, count in _devices_of(container):
            total[name] = total.get(name, 0) + count
    for container in spec.get("initContainers") or ():
        for name, count in _devices_of(container):
            total[name] = max(total.get(name, 0), count)
    if len(total) <= MOST_RESOURCES:
        return total
    return {
        name: total[name] for name in sorted(total, key=lambda name: (name not in RESOURCES, name))[:MOST_RESOURCES]
    }


def _devices_of(container: Raw) -> Iterator[tuple[str, int]]:
    # NB: extended resources cannot be overcommitted: the API server sets requests equal to limits.
    limits = (container.get("resources") or {}).get("limits")
    for name, count in (limits or {}).items():
        if is_device(name):
            yield sys.intern(name), amount(count)


def _in(container_status: Raw, said: Cause | None) -> Cause | None:
    return None if said is None else said._replace(container=sys.intern(str(container_status.get("name") or "")))


def _ended(container_status: Raw) -> Cause | None:
    for state in (container_status.get("state") or {}, container_status.get("lastState") or {}):
        ended = state.get("terminated")
        if ended is not None:
            return _why_ended(ended)
    return None


def _why_ended(ended: Raw) -> Cause:
    """By the supervisor of a pack where it has left a word, else by the kubelet.

    NB: a pack that serves says all the time whose an OOM would be, because nothing is left to say it afterwards. So that
    counts where the kubelet has seen one, and nothing does where the two disagree.
    """
    reason, code = ended.get("reason") or "Ended", ended.get("exitCode")
    said = read_termination(ended.get("message"))
    if said is None:
        return cause(reason, ended.get("message"), code)
    if (said.reason is Failure.HOST_MEMORY) != (reason == OOM):
        return cause(reason, "", code)
    return cause(reason if reason == OOM else str(said.reason), said.message, code)._replace(remedy=cut(said.remedy))


def _failed(init_status: Raw) -> Cause | None:
    ended = (init_status.get("state") or {}).get("terminated") or (init_status.get("lastState") or {}).get("terminated")
    return _ended(init_status) if ended and ended.get("exitCode") else None


def _health(statuses: list[Raw]) -> Iterator[tuple[str, str]]:
    for status in statuses:
        for resource in status.get("allocatedResourcesStatus") or ():
            for device in resource.get("resources") or ():
                yield device.get("resourceID") or "", device.get("health") or "Unknown"
