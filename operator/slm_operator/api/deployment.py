"""`SLMDeployment`: one small language model, served from shares of GPUs. What a user writes and what status answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ConfigDict, Field
from slm_core import tuning
from slm_core.measurements import SharingMode
from slm_core.sharing import AUTO, CHOICES, PACKED
from slm_core.sharing.exclusive import EXCLUSIVE

from slm_operator.api.base import (
    ATOMIC,
    SET,
    Hostname,
    Name,
    NameReference,
    NamespaceName,
    ObjectName,
    Part,
    Product,
    RawObject,
    ServiceName,
    cel,
    map_by,
    validations,
    within,
)
from slm_operator.api.kubernetes import SELECTS_NO_MARKS, AllowedToleration, NodeSelector
from slm_operator.api.parts import EngineSpec, ModelSpec, WorkloadSpec
from slm_operator.api.slo import Figures, SloSpec

CONDITION_TYPE = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)
CONDITION_REASON = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
"""Source of both: k8s.io/apimachinery, pkg/apis/meta/v1/types.go, Condition."""
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
if TYPE_CHECKING:
    Mode = str
    UsedMode = str
else:  # NB: pydantic makes the CRD's enums of Literals, and the words are those of the table of modes
    Mode = Literal[CHOICES]
    UsedMode = Literal[tuple(map(str, SharingMode))]
_PACKED = ", ".join(one.mode for one in PACKED)


class AdvisorSpec(Part):
    """Settings of the advisor."""

    objective: Literal["Throughput", "FreeMemory"] = "Throughput"
    """Throughput: most tokens per second and GPU. FreeMemory: the throughput of the best single engine with the least memory."""
    min_efficiency: Annotated[float, within(tuning.MIN_EFFICIENCY)] = tuning.MIN_EFFICIENCY.default
    """Smallest batching efficiency T(B) / (B T(1)) accepted: the paper's epsilon."""
    min_gain: Annotated[float, within(tuning.MIN_GAIN)] = tuning.MIN_GAIN.default
    """Smallest measured gain over the best single engine for which a pack is deployed, as a fraction."""


class ProfilingSpec(Part):
    """Whether and how the model is measured."""

    policy: Literal["IfMissing", "Never", "OnDrift"] = "IfMissing"
    """IfMissing: measure when no profile fits. Never: use what is there, and wait for an import. OnDrift: also when the SLO monitor asks for it."""
    profile_ref: NameReference | None = None
    """An SLMProfile to use, in this namespace: an imported one, say. Default: found by what it measured."""
    max_gpu_minutes: Annotated[float, within(tuning.MAX_GPU_MINUTES)] = tuning.MAX_GPU_MINUTES.default
    """GPU time that one profile may cost. The search ends with the best found so far."""

    @property
    def profile_name(self) -> str | None:
        """Name of the profile to use; None: found by what it measured."""
        return self.profile_ref.name if self.profile_ref is not None else None


class SharingSpec(Part):
    """How GPUs are shared."""

    model_config = validations(
        cel(
            f"!(self.mode == '{EXCLUSIVE.mode}' && has(self.enginesPerGpu) && self.enginesPerGpu > 1)",
            f"mode {EXCLUSIVE.mode} is one engine a GPU: remove enginesPerGpu, or choose {_PACKED} or {AUTO}",
        ),
    )
    mode: Mode = "Auto"
    """How engines on one GPU share it. Auto: what was measured best."""
    engines_per_gpu: Annotated[int, within(tuning.ENGINES_PER_GPU)] | None = None
    """Your own number of engines on a GPU. It wins over the advice, and status says what it costs. Default: the advice."""
    max_engines_per_gpu: Annotated[int, within(tuning.MAX_ENGINES_PER_GPU)] = tuning.MAX_ENGINES_PER_GPU.default
    """Most engines on a GPU that are measured or advised."""
    tenancy: Literal["Dedicated", "Shared"] = "Dedicated"
    """Dedicated: the GPUs of a node serve this deployment alone, which is what was measured. Shared: others may use free slices; memory is guaranteed, speed is monitored and not guaranteed."""


class AcceleratorSpec(Part):
    """Which GPUs may be used."""

    model_config = validations(SELECTS_NO_MARKS)
    products: Annotated[list[Product], Field(max_length=1)] = []
    """GPU product as in the node label nvidia.com/gpu.product; one at most. Default: any, the most frequent one first."""
    node_selector: NodeSelector = {}
    """Further labels that a node must carry."""
    tolerations: Annotated[list[AllowedToleration], Field(max_length=32, json_schema_extra=ATOMIC)] = []
    """Tolerations of profile and replica pods, as in a pod."""

    @property
    def product(self) -> str | None:
        """The one product; None: any."""
        return self.products[0] if self.products else None


class GatewayReference(Part):
    """A Gateway of the Gateway API."""

    name: ObjectName
    """Its name."""
    namespace: NamespaceName | None = None
    """Its namespace; a listener there must allow routes from this one. Default: this namespace."""


class EndpointPickerReference(Part):
    """The Service of an endpoint picker (Gateway API Inference Extension) in this namespace."""

    name: ServiceName
    """Its name."""
    port: Annotated[int, Field(ge=1, le=65535)] = 9002
    """Its port."""


class RoutingSpec(Part):
    """Load-aware routing beside the Service: an InferencePool of the replicas, and an HTTPRoute to it."""

    gateway_ref: GatewayReference
    """The Gateway through which clients come."""
    endpoint_picker_ref: EndpointPickerReference
    """What chooses the replica for each request."""
    hostnames: Annotated[list[Hostname], Field(max_length=16, json_schema_extra=SET)] = []
    """Hosts that the route answers for. Default: every host of the Gateway; deployments that share one need hosts of their own."""


class SLMDeploymentSpec(Part):
    """What to serve, for which load, under which SLO. Only model is required."""

    model: ModelSpec
    """Which model to serve, and from where."""
    engine: EngineSpec = EngineSpec()
    """The engine that serves the model."""
    workload: WorkloadSpec = WorkloadSpec()
    """The load to measure and to decide for."""
    slo: SloSpec = SloSpec()
    """Latency limits of a request: the service level objectives."""
    advisor: AdvisorSpec = AdvisorSpec()
    """Settings of the advisor."""
    profiling: ProfilingSpec = ProfilingSpec()
    """Whether and how the model is measured."""
    sharing: SharingSpec = SharingSpec()
    """How GPUs are shared."""
    accelerator: AcceleratorSpec = AcceleratorSpec()
    """Which GPUs may be used."""
    replicas: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Pods to run. Default: one full pack, kept here by the operator as the advice changes (1 before there is any). `kubectl scale`, autoscalers and manifests with this field take it over; once it is removed, the operator keeps it again."""
    routing: RoutingSpec | None = None
    """Load-aware routing through a Gateway, beside the Service. Needs the CRDs of the Gateway API and of its inference extension, and rbac.gatewayApi in the chart. Default: the Service alone."""
    pod_template: RawObject | None = None
    """A pod template merged over the operator's (strategic merge): volumes, mounts, annotations, resources. Fields that the operator owns are refused by name."""


class ConfigurationStatus(Part):
    """The configuration of one GPU."""

    batch_size: int
    """Most sequences that each engine runs at once (--max-num-seqs)."""
    kv_cache_bytes: int | None = None
    """KV pool of each engine in bytes (--kv-cache-memory-bytes)."""
    max_num_batched_tokens: int | None = None
    """Token budget of each engine per step (--max-num-batched-tokens)."""
    engines_per_gpu: int
    """Engines on the GPU."""
    sharing_mode: UsedMode
    """How the engines share the GPU."""


class CandidateStatus(Part):
    """A configuration that the advisor considered."""

    configuration: ConfigurationStatus
    """The configuration."""
    verdict: Literal["Chosen", "Kept", "Rejected"]
    """The result. Kept: it passed every check, and another did better."""
    reason: Annotated[str, Field(max_length=64)]
    """The check that decided."""
    message: Annotated[str, Field(max_length=1024)]
    """Why, in a sentence."""


class AdviceStatus(Part):
    """The advice, and the evidence for it."""

    configuration: ConfigurationStatus
    """The configuration that is served."""
    figures: Figures | None = None
    """Predicted figures of this configuration on one GPU, at the load that the advice is for."""
    best_single: Figures | None = None
    """Figures of the best single engine under the same SLO."""
    gain: float | None = None
    """Throughput over the best single engine, as a fraction: 0.24 is 24 % more."""
    freed_bytes: int | None = None
    """GPU memory that is left free, for others."""
    feasible: bool = True
    """Whether the SLO can be met."""
    source: Literal["Measured", "Predicted", "UserChoice"]
    """Measured: a measured point. Predicted: between measured points. UserChoice: your own number of engines, or mode."""
    profile_ref: NameReference | None = None
    """Name of the SLMProfile that the advice rests on."""
    generation: int | None = None
    """Generation of spec that the advice is for."""
    digest: Annotated[str, Field(max_length=64)] | None = None
    """Digest of the arguments that an engine is started with. Pods carry it in the annotation slm-operator.io/advice."""
    decided_time: Timestamp | None = None
    """Since when this is the advice."""
    sentences: Annotated[
        list[Annotated[str, Field(max_length=1024)]], Field(max_length=16, json_schema_extra=ATOMIC)
    ] = []
    """The decision in sentences."""
    candidates: Annotated[list[CandidateStatus], Field(max_length=8, json_schema_extra=ATOMIC)] = []
    """The best of the considered configurations, and why each was kept or rejected. `kubectl slm report` draws all."""
    candidate_count: int | None = None
    """Number of configurations that were considered."""


class ConditionStatus(Part):
    """A condition as in every Kubernetes API: the bounds and patterns are those of metav1.Condition."""

    type: Annotated[str, Field(max_length=316, pattern=CONDITION_TYPE)]
    """Type of the condition."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=CONDITION_REASON)]
    """Why, in one word."""
    message: Annotated[str, Field(max_length=32768)]
    """Why, and what to do, in a sentence."""
    last_transition_time: Timestamp
    """When status last changed."""
    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """Generation of spec that this condition speaks of."""


Conditions = Annotated[
    list[ConditionStatus],
    Field(
        max_length=32,
        json_schema_extra=map_by("type"),
    ),
]


Phase = Literal["Profiling", "Advising", "Placing", "Starting", "Ready", "Stalled"]
ProfilePhase = Literal["Pending", "Running", "Complete", "Imported", "Failed"]


class ProfileReference(Part):
    """The profile that the advice rests on."""

    name: Name
    """Name of the SLMProfile."""
    phase: ProfilePhase | None = None
    """Its phase."""
    progress: str | None = None
    """Progress of the measurement: point 3/6."""
    product: str | None = None
    """The GPU product that it was measured on."""


class PackStatus(Part):
    """Engines that really share one GPU, as the kubelet says."""

    node: Name
    """Node of the GPU."""
    gpu_uuid: Annotated[str | None, Field(max_length=253, alias="gpuUUID")] = None
    """UUID of the GPU, where the kubelet tells it."""
    engines: int
    """Engines on it."""
    ready_engines: int
    """Those of them that answer."""


class RoutingStatus(Part):
    """The objects of load-aware routing, in this namespace."""

    inference_pool: Name
    """Name of the InferencePool."""
    http_route: Name
    """Name of the HTTPRoute. Whether its Gateway takes it stands in its own status."""


class SLMDeploymentStatus(Part):
    """The observed state, and the reasons for it."""

    observed_generation: int | None = None
    """Generation of spec that this status speaks of."""
    conditions: Conditions = []
    """Ready, Reconciling and Stalled for tools; Profiled, Advised, Allocated, Available, Routed and SLOMet for people."""
    phase: Phase | None = None
    """One word for people. Tools read the conditions."""
    profile: ProfileReference | None = None
    """The profile that the advice rests on."""
    advice: AdviceStatus | None = None
    """The advice, and the evidence for it."""
    packs: Annotated[list[PackStatus], Field(max_length=256, json_schema_extra=ATOMIC)] = []
    """Where the engines are: one item for each GPU, 256 at most."""
    pack_count: int | None = None
    """Number of packs."""
    replicas: int | None = None
    """Pods that exist."""
    ready_replicas: int | None = None
    """Pods that answer."""
    selector: str | None = None
    """Label selector of the pods, for autoscalers."""
    url: str | None = None
    """Address of the engines inside the cluster."""
    routing: RoutingStatus | None = None
    """Objects that spec.routing made."""


NAMED_LIKE_A_SERVICE = cel(
    "(has(self.metadata.name) ? self.metadata.name : self.metadata.generateName).matches('^[a-z]')",
    "the name of an SLMDeployment begins with a letter, because its Service has it too, and no Service before Kubernetes 1.36 "
    "may begin with a digit: name it model-4b-chat instead of 4b-chat",
)
"""NB: no fieldPath, because an API server lets no schema speak of a field of metadata; and no rule on length, because a
Service whose name would be too long gets one with a hash (manifests/metadata.py)."""


class SLMDeployment(Part):
    """A small language model, measured, packed onto shared GPUs where that was measured to pay, and served."""

    model_config = ConfigDict(title="SLMDeployment") | validations(NAMED_LIKE_A_SERVICE)
    spec: SLMDeploymentSpec
    """What to serve, for which load, under which SLO."""
    status: SLMDeploymentStatus | None = None
    """The observed state, and the reasons for it. Written by the operator."""
