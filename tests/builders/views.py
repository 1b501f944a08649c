"""What the planners are given: a fleet with what is wanted of it, a deployment with all that concerns it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.views import Demand, DeploymentView, FleetView
from slm_operator.settings import Settings
from slm_operator.watch.records import Key

from tests.builders.deployments import deployment
from tests.builders.device_plugin import config_map, plugin_pods
from tests.builders.documents import imported
from tests.builders.nodes import MPS_2
from tests.builders.pods import replica
from tests.builders.profiles import profile
from tests.builders.workloads import workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_operator.partitioning.base import SliceClass
    from slm_operator.watch.records import DeploymentRecord, NodeRecord, PodRecord, ProfileRecord

SETTINGS = Settings()


def demand(
    name: str = "chat", slice_class: SliceClass = MPS_2, replicas: int = 2, namespace: str = "team", **more: Any
) -> Demand:
    wanted = {"slice_class": slice_class, "replicas": replicas, "product": None, "asked": "NodeSlices"}
    return Demand(**{"deployment": Key(namespace, name), "uid": f"uid-{name}"} | wanted | more)


def fleet_view(
    *demands: Demand,
    nodes: tuple[NodeRecord, ...],
    pods: tuple[PodRecord, ...] = (),
    quota: int | None = None,
    **more: Any,
) -> FleetView:
    """A fleet with the pods that are given, and what is missing to each demand's replicas waiting for a node.

    `quota`: so many pods may wait for each demand.
    """
    there = Counter((pod.meta.key.namespace, pod.replica_of) for pod in pods)
    pods = (*pods, *(pod for one in demands for pod in _waiting(one, there, quota)))
    daemons = tuple(pod for one in nodes for pod in plugin_pods(one.meta.key.name))
    seen = {"demands": demands, "nodes": nodes, "pods": pods, "config_map": config_map(), "daemons": daemons}
    return FleetView(**(seen | more))


def _waiting(one: Demand, there: Counter[tuple[str, str | None]], quota: int | None) -> Iterator[PodRecord]:
    namespace, name = one.deployment
    missing = one.replicas - there[one.deployment]
    for number in range(missing if quota is None else min(missing, quota)):
        yield replica(f"{name}-waits-{number}", None, name, namespace, phase="Pending")


def deployment_view(record: DeploymentRecord, profile: ProfileRecord | None, **more: Any) -> DeploymentView:
    """A deployment with its profile and the advice on it, as they are gathered."""
    return DeploymentView(deployment=record, profile=profile, **{"advice": advice_of(record, profile)} | more)


def many_packs(count: int) -> DeploymentView:
    """A deployment with one ready replica on each of so many GPUs, as the kubelet tells of them."""
    record = deployment(spec={"replicas": count})
    pods = tuple(
        replica(f"chat-{i}", f"gpu-{i}", ready=True, resource_health={f"GPU-{i:08d}::0": "Healthy"})
        for i in range(count)
    )
    served = {"workload": workload("chat", replicas=count, ready=count), "pods": pods}
    return deployment_view(record, profile(record, imported()), **served)
