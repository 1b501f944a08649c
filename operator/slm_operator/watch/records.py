"""Small frozen records of everything the operator looks at.

Exists because a raw pod costs 25 KB and a record 1 KB, and because plans should read like sentences about nodes and
pods, not about dictionaries. Assumes nothing about who wrote the objects: every field of a foreign object may be
missing. Must never decide anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from slm_operator.api import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.measurements import MeasurementDocument

    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.api.profile import SLMProfileSpec
    from slm_operator.defaults import Kept
    from slm_operator.partitioning.config_manager import ConfigManager


class Key(NamedTuple):
    """Namespace and name. Cluster-scoped objects have an empty namespace."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Cause(NamedTuple):
    """Why something is as it is, by whoever said so. Plans ask for its reason; its sentence is for people."""

    reason: str
    message: str = ""
    exit_code: int | None = None
    """Of a container that ended."""
    remedy: str = ""
    """What helps, where whoever said it knows."""
    container: str = ""
    """Of a pod, where it is known: whose log tells more."""
    image: str = ""
    """Of one that waits."""

    def __str__(self) -> str:
        where = f"container {self.container} ({self.image}): " if self.image else ""
        ended = "" if self.exit_code is None else f" (exit code {self.exit_code})"
        return f"{where}{self.reason}{ended}" + (f": {self.message}" if self.message else "")


STARTING = frozenset({"PodInitializing", "ContainerCreating"})
"""Reasons for which a container waits because its pod is only just starting."""
NO_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"})
"""Reasons for which it waits because its image does not come. Source: Kubernetes, pkg/kubelet/images/types.go."""


class Owner(NamedTuple):
    """An owner reference: who made an object, and goes with it.

    NB: identity is this uid. Labels and annotations are anybody's to write; a reference to an owner that is not there has
    its object collected, and a ReplicaSet or Job lets go of a pod that its selector does not name.
    """

    kind: str
    name: str
    uid: str
    controller: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What every object has."""

    key: Key
    uid: str
    resource_version: str = ""
    generation: int = 0
    deleting: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[Owner, ...] = ()

    @property
    def controller(self) -> Owner | None:
        """The one owner that manages it, if any."""
        return next((one for one in self.owners if one.controller), None)

    def is_controlled_by(self, uid: str) -> bool:
        """Whether the object with this uid manages it."""
        return any(one.controller and one.uid == uid for one in self.owners)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRecord:
    """An SLMDeployment. `spec` is None when it cannot be read, and `broken` says why.

    `spec.replicas` is somebody else's number, or None: a number of the operator's own is in `own_replicas` instead.
    """

    meta: Meta
    spec: SLMDeploymentSpec | None
    broken: str | None = None
    own_replicas: int | None = None
    """What the operator last applied to spec.replicas, while nobody else owns the field."""
    made_of: str = ""
    """Digest of what of spec its pods are made of."""
    upgrade: str | None = None
    """Value of a person's annotation that asks for the operator's defaults of now."""
    defaults: Kept | None = None
    """Those that it keeps, which are in `spec` then. None: as the watch shows it, not resolved yet."""
    status: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRecord:
    """An SLMProfile. `measurements` is the imported document or the measured one; `broken` says why there is none.

    In `status` the measured document, where it can be read, is that same object: raw it takes as much memory again.
    """

    meta: Meta
    spec: SLMProfileSpec | None
    measurements: MeasurementDocument | None = None
    imported: bool = False
    partial: MeasurementDocument | None = None
    """What the present try, or former ones, have measured so far."""
    broken: str | None = None
    status: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    """When, RFC 3339, by the API server's clock."""
    retry: str | None = None
    """Value of a person's annotation that asks for another try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """A node taint."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """A node. Labels are all of them (users select by any), annotations only those that we write."""

    meta: Meta
    ready: bool
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    capacity: Mapping[str, int] = field(default_factory=dict)
    """Extended resources of the device plugin only: nvidia.com/gpu, nvidia.com/gpu.shared."""
    allocatable: Mapping[str, int] = field(default_factory=dict)
    """The same, allocatable."""
    cpus: float = 0
    """CPUs that pods may take; 0: not said."""
    memory_bytes: int = 0
    """Host memory that pods may take; 0: not said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRecord:
    """A pod that requests a GPU or that we made."""

    meta: Meta
    node: str | None
    phase: str
    ready: bool = False
    gpu_requests: Mapping[str, int] = field(default_factory=dict)
    priority: int = 0
    waiting: Cause | None = None
    """Why a container waits: ImagePullBackOff, CrashLoopBackOff ... Of several the first that is not only starting."""
    terminated: Cause | None = None
    """Why the first container ended that did."""
    restarts: int = 0
    unscheduled_because: str | None = None
    """Message of the PodScheduled condition when it is false."""
    failed_because: Cause | None = None
    """status.reason and status.message of a failed pod, UnexpectedAdmissionError for instance."""
    disrupted_because: Cause | None = None
    """Of its condition DisruptionTarget: whoever ends it for the cluster's sake (the scheduler, the eviction API, ...)."""
    accepted: str | None = None
    """When its kubelet accepted it, RFC 3339: its deadline counts from then."""
    deadline_seconds: int | None = None
    """How long it may be on its node, pulling of images included. None: as long as it likes."""
    gone_by: str | None = None
    """When a pod that is being deleted is to have ended, RFC 3339. A kubelet that is lost never says that it has."""
    resource_health: Mapping[str, str] = field(default_factory=dict)
    """Device ids by allocatedResourcesStatus, to their health."""
    started: str | None = None
    """When its engine container last started, RFC 3339."""
    address: str | None = None
    """IP address of a replica, where its metrics are read."""
    batch_size: int | None = None
    """Most sequences that each engine of a replica runs at once, by the words that it was started with."""

    @property
    def stuck(self) -> Cause | None:
        """Why a container waits, unless it is only just starting."""
        return None if self.waiting is None or self.waiting.reason in STARTING else self.waiting

    @property
    def engines(self) -> int:
        """Engines that it runs, by our label. NB: anybody may write that, so it only ever counts."""
        text = self.meta.labels.get(names.ENGINES_LABEL, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 2 and int(text) else 1

    @property
    def replica_of(self) -> str | None:
        """Whose engine replica it is, by our label. None for a pod that no ReplicaSet made, whatever its labels say."""
        return self._made_by("ReplicaSet", names.DEPLOYMENT_LABEL)

    @property
    def measures(self) -> str | None:
        """Which profile it measures, by our label. None for a pod that no Job made."""
        return self._made_by("Job", names.PROFILE_LABEL)

    def _made_by(self, kind: str, label: str) -> str | None:
        controller = self.meta.controller
        return self.meta.labels.get(label) if controller is not None and controller.kind == kind else None

    @property
    def holds_gpu(self) -> bool:
        """Whether it occupies a GPU or a slice of one on its node now."""
        return self.node is not None and bool(self.gpu_requests) and self.phase not in {"Succeeded", "Failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRecord:
    """An apps/v1 Deployment of ours."""

    meta: Meta
    observed_generation: int
    replicas: int
    """spec.replicas."""
    existing: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0
    stalled_because: str | None = None
    """Message of Progressing=False or ReplicaFailure=True."""
    served: str | None = None
    """What it was made from, as `manifests.served` reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A batch/v1 Job of ours."""

    meta: Meta
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    finished: bool = False
    failed_because: Cause | None = None
    created: str = ""
    """When, RFC 3339, by the API server's clock."""
    request: str | None = None
    """Digest of what may change of the profile's spec, as it was when the Job was made."""
    template: str | None = None
    """Digest of its pod template, as it was then. None: an earlier version made the Job."""
    retry: str | None = None
    """The profile's retry annotation, as it was then."""
    product: str | None = None
    """The GPU product that its pod selects; None: any, or an earlier version made the Job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMapRecord:
    """The device plugin's ConfigMap."""

    meta: Meta
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonPodRecord:
    """A pod of the device plugin or of the MPS control daemon."""

    meta: Meta
    node: str | None
    part: str
    """device-plugin or mps-control-daemon."""
    ready: bool
    """Of a daemon beside the plugin, its own container: what its neighbour does says nothing of it."""
    waiting: Cause | None = None
    started: str | None = None
    """When it last began to run, RFC 3339, by itself or because its config-manager did."""
    containers: tuple[str, ...] = ()
    """Names of its containers: without a config-manager the node cannot be switched by label."""
    default_key: str = ""
    """Configuration that its config-manager takes on a node without the label. Empty: `default`, by its own rule."""
    takes_lone_key: bool = False
    """Whether its config-manager, where there is no `default`, takes the only key that there is."""
    config_manager: ConfigManager | None = None
    """Whom it notifies, and whether that arrives."""
