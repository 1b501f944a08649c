"""Which kinds are watched, with which selectors, into which caches. The only list of them.

Pods are watched without a selector: foreign pods that hold GPUs matter and carry no label of ours. They are dropped as
they arrive when they do not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.watch import custom_resources, projection
from slm_operator.watch.applied import OwnedRecord, owned
from slm_operator.watch.cache import Cache
from slm_operator.watch.pods import pod
from slm_operator.watch.world import Filled, Watched

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from slm_operator.settings import Settings
    from slm_operator.watch.records import (
        ConfigMapRecord,
        DaemonPodRecord,
        DeploymentRecord,
        JobRecord,
        NodeRecord,
        PodRecord,
        ProfileRecord,
        WorkloadRecord,
    )

OURS = "ours"
"""Index: (namespace, value) of our label; of pods only replicas."""
CONTROLLER = "controller"
"""Index of pods that measure: the uid of their Job."""
MANAGED = "managed"
"""Index of pods of NVIDIA's stack: (part, its config-manager). A fleet has few that differ, whatever its size."""
GPU = "gpu"
"""Index: True for every pod that requests a GPU."""


def _replicas(record: PodRecord) -> Iterable[Hashable]:
    return ((record.meta.key.namespace, record.replica_of),) if record.replica_of is not None else ()


def _measured_by(record: PodRecord) -> Iterable[Hashable]:
    controller = record.meta.controller
    return (controller.uid,) if controller is not None and record.measures is not None else ()


def _asks_for_gpu(record: PodRecord) -> Iterable[Hashable]:
    return (True,) if record.gpu_requests else ()


@dataclass(frozen=True, slots=True)
class Caches:
    """Every cache, by name."""

    deployments: Cache[DeploymentRecord] = field(default_factory=lambda: Cache(names.DEPLOYMENT_KIND))
    profiles: Cache[ProfileRecord] = field(default_factory=lambda: Cache(names.PROFILE_KIND))
    nodes: Cache[NodeRecord] = field(default_factory=lambda: Cache("Node"))
    pods: Cache[PodRecord] = field(
        default_factory=lambda: Cache("Pod", {OURS: _replicas, CONTROLLER: _measured_by, GPU: _asks_for_gpu})
    )
    daemons: Cache[DaemonPodRecord] = field(
        default_factory=lambda: Cache("DaemonPod", {MANAGED: lambda one: ((one.part, one.config_manager),)})
    )
    workloads: Cache[WorkloadRecord] = field(default_factory=lambda: Cache("Deployment"))
    jobs: Cache[JobRecord] = field(default_factory=lambda: Cache("Job"))
    config_maps: Cache[ConfigMapRecord] = field(default_factory=lambda: Cache("ConfigMap"))
    owned: dict[str, Cache[OwnedRecord]] = field(
        default_factory=lambda: {
            kind: Cache(f"owned/{kind}")
            for kind in (names.PROFILE_KIND, "Deployment", "Job", "Service", "PodDisruptionBudget")
        }
    )
    """By kind, what we applied to each object."""


def watched_kinds(caches: Caches, settings: Settings) -> tuple[Watched, ...]:
    """Everything to watch. Nodes and the device plugin only when the whole cluster is served."""
    of_deployment, of_profile = names.DEPLOYMENT_LABEL, names.PROFILE_LABEL
    plugin = settings.device_plugin
    daemons = projection.daemons_of(plugin.namespace)
    profile = partial(custom_resources.profile, default_image=settings.defaults.engine_image)

    def ledger(kind: str) -> Filled[OwnedRecord]:
        return Filled(caches.owned[kind], owned)

    namespaced = (
        Watched(
            api_version=names.API_VERSION,
            kind=names.DEPLOYMENT_KIND,
            plural="slmdeployments",
            fills=(Filled(caches.deployments, custom_resources.deployment),),
        ),
        Watched(
            api_version=names.API_VERSION,
            kind=names.PROFILE_KIND,
            plural="slmprofiles",
            fills=(ledger(names.PROFILE_KIND), Filled(caches.profiles, profile)),
        ),
        Watched(
            api_version="v1",
            kind="Pod",
            plural="pods",
            fills=(Filled(caches.pods, pod), Filled(caches.daemons, daemons)),
        ),
        Watched(
            api_version="apps/v1",
            kind="Deployment",
            plural="deployments",
            fills=(ledger("Deployment"), Filled(caches.workloads, projection.workload)),
            label_selector=of_deployment,
        ),
        Watched(
            api_version="v1",
            kind="Service",
            plural="services",
            fills=(ledger("Service"),),
            label_selector=of_deployment,
        ),
        Watched(
            api_version="policy/v1",
            kind="PodDisruptionBudget",
            plural="poddisruptionbudgets",
            fills=(ledger("PodDisruptionBudget"),),
            label_selector=of_deployment,
        ),
        Watched(
            api_version="batch/v1",
            kind="Job",
            plural="jobs",
            fills=(ledger("Job"), Filled(caches.jobs, projection.job)),
            label_selector=of_profile,
        ),
    )
    if settings.namespaces:
        return namespaced
    return (
        *namespaced,
        Watched(
            api_version="v1",
            kind="Node",
            plural="nodes",
            fills=(Filled(caches.nodes, projection.node),),
            cluster_scoped=True,
        ),
        Watched(
            api_version="v1",
            kind="ConfigMap",
            plural="configmaps",
            fills=(Filled(caches.config_maps, projection.config_map),),
            field_selector=f"metadata.name={plugin.config_map},metadata.namespace={plugin.namespace}",
        ),
    )
