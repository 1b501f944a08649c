"""The apps/v1 Deployment of an SLMDeployment's replicas."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.watch import projection
from slm_operator.watch.records import Owner

from tests.builders.metadata import Raw, raw_meta

if TYPE_CHECKING:
    from slm_operator.watch.records import WorkloadRecord


def raw_workload(name: str, *, replicas: int, ready: int) -> Raw:
    """All its replicas are there and up to date; so many of them are ready."""
    maker = Owner(names.DEPLOYMENT_KIND, name, f"uid-{name}")
    counts = {"replicas": replicas, "updatedReplicas": replicas, "readyReplicas": ready, "availableReplicas": ready}
    return {
        "metadata": raw_meta(name, owners=(maker,)),
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 1} | counts,
    }


def workload(name: str, *, replicas: int, ready: int, **changed: Any) -> WorkloadRecord:
    return replace(projection.workload(raw_workload(name, replicas=replicas, ready=ready)), **changed)
