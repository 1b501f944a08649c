"""The inputs of the planning functions, and the fleet's answer to each deployment.

Each planning function gets one view, with everything that it may consider, gathered at one moment. Assumes that the caches
behind it were complete at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_operator.api.reasons import Reason
from slm_operator.partitioning import partitioning_of
from slm_operator.partitioning.base import AUTO
from slm_operator.planning.fleet.claims import NOTHING_REMEMBERED, Memory
from slm_operator.planning.profile.log import NOTHING_PRINTED, ProfileLog
from slm_operator.planning.profile.turns import ALONE, Turn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.advisor.advice import Advice
    from slm_operator.api.names import Choice
    from slm_operator.manifests.question import Question
    from slm_operator.partitioning.base import Partitioning, SliceClass
    from slm_operator.planning.actions import Plan
    from slm_operator.planning.deployment.advising import Unadvisable
    from slm_operator.planning.fleet.tolerations import Toleration
    from slm_operator.slo.monitor import Verdict
    from slm_operator.watch.records import (
        ConfigMapRecord,
        DaemonPodRecord,
        DeploymentRecord,
        JobRecord,
        Key,
        NodeRecord,
        PodRecord,
        ProfileRecord,
        WorkloadRecord,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one deployment wants of the fleet."""

    deployment: Key
    uid: str
    slice_class: SliceClass
    replicas: int
    product: str | None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    """Of its pods, from spec.accelerator and spec.podTemplate."""
    shared_tenancy: bool = False
    slice_bytes: int | None = None
    """What one replica needs of GPU memory; None when no ledger is known."""
    asked: str = AUTO
    """spec.sharing.partitioning: the partitioning that must be, or Auto, and then `slice_class` is without one."""
    runs: SliceClass | None = None
    """How the GPU of its engines is divided now, and by whom. None: none has been deployed."""

    @property
    def partitioning(self) -> Partitioning:
        """What divides the GPUs that it wants."""
        return partitioning_of(self.slice_class)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Why GPUs are divided in one way and not in the other."""

    reason: Choice
    because: str
    """A sentence's rest: the remedy is in it where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The fleet's answer to one deployment."""

    slice_class: SliceClass | None = None
    """What its slots are, and who divides the GPU. Another one than is advised now: they were counted before that."""
    asked: Demand | None = None
    """The demand that it answers. It may request other nodes than spec does now: then it answers an earlier spec."""
    chosen: Chosen | None = None
    """Why its GPUs are divided in this way; None where nobody shares one."""
    nodes: tuple[str, ...] = ()
    """Nodes whose slices serve it, ready now."""
    slots: int = 0
    """Replicas that those nodes can hold for it."""
    changing: tuple[str, ...] = ()
    """Nodes that are being changed for it."""
    may_be_disrupted: bool = False
    """Whether replicas of it run on a node that is being changed. They are evicted, even if they have no place elsewhere."""
    stage: str | None = None
    """What the change waits for, as a sentence."""
    reason: Reason = Reason.READY
    """Condition reason when slots do not suffice: NoNode, NoCapacity, NodeChanging, ForeignPods, NotSwitchable ..."""
    pending_because: str | None = None
    """Why slots do not suffice and what would help."""
    remark: tuple[Reason, str] | None = None
    """What is worth knowing of its nodes although they serve it, and a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The first object of a plan that the API server did not take (a quota, an admission webhook, a taken name)."""

    kind: str
    because: str
    """A sentence that names the object, with the API server's own words."""
    unserved: bool = False
    """The API server does not know the kind: its CRD is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentView:
    """One SLMDeployment with all that concerns it."""

    deployment: DeploymentRecord
    profile: ProfileRecord | None
    """The profile named in spec, or the one with its key; None when there is none yet."""
    replaced: ProfileRecord | None = None
    """The one that was advised from before it, if that is still there."""
    namesake: ProfileRecord | None = None
    """One that has the name of the profile to be made, and another key; only where there is no profile."""
    advice: Advice | Unadvisable | None = None
    """On what that profile has measured; None while it has measured nothing, or spec cannot be read."""
    assignment: Assignment | None = None
    """None until the fleet was planned with this deployment in it."""
    workload: WorkloadRecord | None = None
    pods: tuple[PodRecord, ...] = ()
    cordoned: frozenset[str] = frozenset()
    """Nodes of its pods that take no new ones."""
    serving: Mapping[str, int] = field(default_factory=dict)
    """Engines that serve, by the uid of their pack's pod, where that is known."""
    slo_verdict: Verdict | None = None
    """The result of the SLO monitor; None before its first reading."""
    refusal: Refusal | None = None
    """What the API server said to our last write of one of its objects."""

    def serving_in(self, pod: PodRecord) -> int:
        """Engines of a pod that answers which serve: all of them unless its metrics say otherwise."""
        return min(self.serving.get(pod.meta.uid, pod.engines), pod.engines) if pod.ready else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question, and one of the deployments that ask it."""

    deployment: str
    question: Question


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileView:
    """One SLMProfile with its Job, the Job's newest pod, and what that pod has printed."""

    profile: ProfileRecord
    job: JobRecord | None = None
    pod: PodRecord | None = None
    log: ProfileLog = NOTHING_PRINTED
    """What the measuring container has printed, as far as it was read."""
    turn: Turn = ALONE
    """Whether a place is free, while it has no node to measure on."""
    nodes: tuple[NodeRecord, ...] = ()
    """Opted-in nodes, while there is no Job or its pod waits for one."""
    gpu_pods: tuple[PodRecord, ...] = ()
    """Pods that hold their GPUs."""
    config_map: ConfigMapRecord | None = None
    daemons: tuple[DaemonPodRecord, ...] = ()
    """Of NVIDIA's stack on them, and what its ConfigMap says: whether their GPUs are whole."""
    about_to_change: frozenset[str] = frozenset()
    """Nodes that the fleet changes, or will when their turn comes."""
    refused_because: str | None = None
    """What the API server said to our last write of one of its objects."""
    paused: bool = False
    """Whether every deployment that it is for is paused."""
    used: bool = True
    """Whether any deployment rests on it."""
    asked: tuple[Asked, ...] = ()
    """What the deployments that found it ask of it, once it is measured: each question once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """All demands and all nodes."""

    demands: tuple[Demand, ...]
    nodes: tuple[NodeRecord, ...]
    """Opted-in nodes, and nodes that still carry our marks."""
    pods: tuple[PodRecord, ...] = ()
    """Every pod that requests a GPU, ours and foreign."""
    lost_nodes: frozenset[str] = frozenset()
    """Nodes that some of these pods are on and that exist no more."""
    config_map: ConfigMapRecord | None = None
    daemons: tuple[DaemonPodRecord, ...] = ()
    undecided: frozenset[Key] = frozenset()
    """Deployments that exist and for which nothing is decided at this moment (a profile is being measured, a spec cannot be
    read): what serves them stays."""
    memory: Memory = NOTHING_REMEMBERED
    """What the last plan left to this one."""
    keys_in_use: frozenset[str] | None = None
    """Values of the configuration label on all nodes of the cluster, also those that did not opt in. None: not known, and
    no configuration is ever collected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """One plan for all nodes, and what each deployment gets."""

    plan: Plan
    assignments: Mapping[Key, Assignment]
    memory: Memory = NOTHING_REMEMBERED
    """For the next plan."""
