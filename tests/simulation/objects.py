"""The objects of the simulated cluster, as its API server has them, and the records that the operator sees of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.partitioning.base import UNSHARED
from slm_operator.watch.records import (
    Cause,
    DaemonPodRecord,
    JobRecord,
    Key,
    Meta,
    NodeRecord,
    Owner,
    PodRecord,
    Taint,
    WorkloadRecord,
)

if TYPE_CHECKING:
    from slm_operator.partitioning.base import SliceClass

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG_LABEL = "nvidia.com/device-plugin.config"
CONFIG_MAP = Key("nvidia-device-plugin", "nvidia-device-plugin-configs")
PRODUCT = "NVIDIA-H100-80GB-HBM3"
OURS = f"{names.GROUP}/"
TEMPLATE_HASH = "5f4d"
"""Of every ReplicaSet: a Deployment's pods have one each, by its template."""


class BrokenPromiseError(AssertionError):
    """The operator did what it must never do, or did not come to an end."""


def plugin_of(node: str) -> Key:
    """The device plugin's pod on a node."""
    return Key("nv", f"plugin-{node}")


def daemon_of(node: str) -> Key:
    """The MPS daemon's pod on a node."""
    return Key("nv", f"mps-{node}")


@dataclass(slots=True)
class Node:
    """A node as the API server has it, and below the line what only the machine itself knows."""

    name: str
    gpus: int = 1
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    ready: bool = True
    unschedulable: bool = False
    allocatable: dict[str, int] = field(default_factory=dict)
    uid: str = ""
    version: int = 0

    requested_config: str | None = None
    """The label's value that the config-manager last obeyed."""
    switched_at: float = 0.0
    """When the operator switched the label last."""
    loaded: SliceClass = UNSHARED
    projected: dict[str, str] = field(default_factory=dict)
    daemon_started: str | None = None
    """When the MPS daemon came up; None while it is not ready."""
    daemon_version: int = 0
    slowness: float = 1.0
    """How many times longer than usual its parts take to load a configuration."""
    faults: set[str] = field(default_factory=set)
    """`stuck`: its plugin loads nothing new. `no-daemon`: its MPS daemon never comes."""
    daemon_comes: bool = False
    """Whether its MPS daemon is on its way."""
    opened_by_hand: bool = False
    """Whether somebody took our taint off, and we have not put it back yet."""
    owed: dict[str, str | None] = field(default_factory=dict)
    """Labels, by name, that an administrator has a right to find when we are gone."""

    def record(self) -> NodeRecord:
        """As the operator sees it."""
        ours = {name: text for name, text in self.annotations.items() if name.startswith(OURS)}
        meta = Meta(
            key=Key("", self.name),
            uid=self.uid,
            resource_version=str(self.version),
            labels=dict(self.labels),
            annotations=ours,
        )
        return NodeRecord(
            meta=meta,
            ready=self.ready,
            unschedulable=self.unschedulable,
            taints=self.taints,
            allocatable=dict(self.allocatable),
        )

    def plugin(self) -> DaemonPodRecord:
        """The device plugin's pod."""
        return DaemonPodRecord(
            meta=Meta(key=plugin_of(self.name), uid=f"plugin-{self.uid}", resource_version="1"),
            node=self.name,
            part="device-plugin",
            ready=True,
            containers=("nvidia-device-plugin-ctr", "nvidia-device-plugin-sidecar"),
        )

    def daemon(self) -> DaemonPodRecord | None:
        """The MPS daemon's pod, while it runs."""
        if self.daemon_started is None:
            return None
        return DaemonPodRecord(
            meta=Meta(key=daemon_of(self.name), uid=f"mps-{self.uid}", resource_version=str(self.daemon_version)),
            node=self.name,
            part="mps-control-daemon",
            ready=True,
            started=self.daemon_started,
        )


@dataclass(slots=True)
class Pod:
    """A pod that asks for GPUs."""

    key: Key
    uid: str
    requests: dict[str, int]
    labels: dict[str, str] = field(default_factory=dict)
    selector: dict[str, str] = field(default_factory=dict)
    template: str = ""
    owner: Key | None = None
    """The Deployment that it is a replica of; None for somebody else's pod and for one that measures."""
    job: str | None = None
    """uid of the Job that made it, for one that measures."""
    wishes: dict[str, int] = field(default_factory=dict)
    """Weight of each host that it would rather be on."""
    assumed: str | None = None
    let_in: bool = False
    """Whether it was placed on a node that somebody had opened by hand in the middle of a change."""
    node: str | None = None
    phase: str = "Pending"
    ready: bool = False
    ready_at: float = 0.0
    deleting: bool = False
    started: str | None = None
    failed_because: Cause | None = None
    device: str | None = None
    """The GPU that its kubelet gave it."""
    version: int = 0

    def record(self) -> PodRecord:
        """As the operator sees it."""
        meta = Meta(
            key=self.key,
            uid=self.uid,
            resource_version=str(self.version),
            deleting=self.deleting,
            labels=self.labels if self.owner is None else self.labels | {"pod-template-hash": TEMPLATE_HASH},
            owners=self._owners(),
        )
        return PodRecord(
            meta=meta,
            node=self.node,
            phase=self.phase,
            ready=self.ready,
            gpu_requests=self.requests,
            started=self.started,
            unscheduled_because="no node fits" if self.node is None else None,
            failed_because=self.failed_because,
            resource_health={f"{self.device}::0": "Healthy"} if self.device is not None else {},
        )

    def _owners(self) -> tuple[Owner, ...]:
        if self.owner is not None:
            name = f"{self.owner.name}-{TEMPLATE_HASH}"
            return (Owner("ReplicaSet", name, f"uid-{name}"),)
        return (Owner("Job", self.key.name, self.job),) if self.job is not None else ()

    @property
    def holds(self) -> bool:
        """Whether it occupies devices on its node."""
        return self.node is not None and self.phase not in {"Succeeded", "Failed"}


@dataclass(slots=True)
class Job:
    """A batch/v1 Job that measures a profile, with one pod of its name."""

    key: Key
    uid: str
    labels: dict[str, str]
    finished: bool = False
    failed_because: Cause | None = None
    created: str = ""
    owner: str = ""
    """uid of its SLMProfile."""
    version: int = 0

    def record(self) -> JobRecord:
        """As the operator sees it."""
        owners = (Owner(names.PROFILE_KIND, self.key.name, self.owner),)
        meta = Meta(key=self.key, uid=self.uid, resource_version=str(self.version), labels=self.labels, owners=owners)
        return JobRecord(
            meta=meta,
            active=int(not self.finished),
            finished=self.finished,
            failed_because=self.failed_because,
            created=self.created,
        )


@dataclass(slots=True)
class Workload:
    """An apps/v1 Deployment."""

    key: Key
    uid: str
    owner: str
    """uid of its SLMDeployment."""
    replicas: int
    template: str
    selector: dict[str, str]
    requests: dict[str, int]
    labels: dict[str, str]
    generation: int = 1
    surge: int = 0
    """Of its strategy: 1 creates before it deletes, 0 deletes before it creates."""
    most_unavailable: int = 1
    """Of its PDB."""
    served: str = ""
    """What it was made from."""
    observed: int = 0
    """Generation that its status speaks of, as the counts do."""
    counts: tuple[int, int, int] = (0, 0, 0)
    """Pods of its: all, those of the present template, those that are ready."""
    version: int = 0

    @property
    def asks(self) -> tuple[int, str, int, str]:
        """What of it can change."""
        return self.replicas, self.template, self.surge, self.served

    def record(self) -> WorkloadRecord:
        """As the operator sees it."""
        existing, updated, ready = self.counts
        version = str(self.version)
        return WorkloadRecord(
            meta=Meta(
                key=self.key,
                uid=self.uid,
                resource_version=version,
                generation=self.generation,
                labels=self.labels,
                owners=(Owner(names.DEPLOYMENT_KIND, self.key.name, self.owner),),
            ),
            observed_generation=self.observed,
            replicas=self.replicas,
            existing=existing,
            updated=updated,
            ready=ready,
            available=ready,
            served=self.served or None,
        )
