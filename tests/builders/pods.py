"""Pods that hold GPUs: replicas of ours, and pods of others. Each record is what the watch makes of the raw pod."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.watch import pods as watch
from slm_operator.watch.records import Owner

from tests.builders.metadata import Raw, raw_meta

if TYPE_CHECKING:
    from slm_operator.watch.records import PodRecord

TEMPLATE_HASH = "5f4d"
"""Of every ReplicaSet: a Deployment's pods have one each, by its template."""


def raw_pod(
    name: str,
    namespace: str = "team",
    *,
    node: str | None = "gpu-1",
    gpus: int = 1,
    resource: str = names.NVIDIA_GPU,
    status: Raw | None = None,
    **head: Any,
) -> Raw:
    """A running pod with so many of a device's resource. `status` adds to its phase, `head` to its metadata."""
    limits = {"cpu": "2"} | ({resource: str(gpus)} if gpus else {})
    placed = {"nodeName": node} if node is not None else {}
    return {
        "metadata": raw_meta(name, namespace, **head),
        "spec": placed | {"containers": [{"name": "engine", "resources": {"limits": limits}}]},
        "status": {"phase": "Running"} | (status or {}),
    }


def read_pod(raw: Raw, **changed: Any) -> PodRecord:
    """A raw pod's record, with the fields that a case is about."""
    record = watch.pod(raw)
    assert record is not None
    return replace(record, **changed)


def raw_replica(
    name: str,
    node: str | None = "gpu-1",
    of: str = "chat",
    namespace: str = "team",
    resource: str = names.NVIDIA_SHARED_GPU,
) -> Raw:
    """A replica as its ReplicaSet made it: with one slice of a GPU, or with what `resource` names."""
    labels = {names.DEPLOYMENT_LABEL: of, "pod-template-hash": TEMPLATE_HASH}
    maker = Owner("ReplicaSet", f"{of}-{TEMPLATE_HASH}", f"uid-{of}-{TEMPLATE_HASH}")
    return raw_pod(name, namespace, node=node, resource=resource, labels=labels, owners=(maker,))


def replica(
    name: str,
    node: str | None = "gpu-1",
    of: str = "chat",
    namespace: str = "team",
    *,
    resource: str = names.NVIDIA_SHARED_GPU,
    **changed: Any,
) -> PodRecord:
    return read_pod(raw_replica(name, node, of, namespace, resource), **changed)


def foreign(name: str, node: str = "gpu-1", namespace: str = "others", **changed: Any) -> PodRecord:
    """A pod that nobody of ours made, with a whole GPU."""
    return read_pod(raw_pod(name, namespace, node=node), **changed)
