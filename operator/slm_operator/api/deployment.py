"""`SLMDeployment`: one small language model, served from shares of GPUs. What a user writes; the answer is in `status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ConfigDict, Field
from slm_core import tuning
from slm_core.sharing import AUTO, CHOICES, PACKED
from slm_core.sharing.exclusive import EXCLUSIVE

from slm_operator.api.base import (
    ATOMIC,
    SET,
    Hostname,
    NameReference,
    NamespaceName,
    ObjectName,
    Part,
    Product,
    RawObject,
    ServiceName,
    cel,
    validations,
    within,
)
from slm_operator.api.kubernetes import SELECTS_NO_MARKS, AllowedToleration, NodeSelector
from slm_operator.api.parts import ModelSpec, ServedEngine, WorkloadSpec
from slm_operator.api.slo import SloSpec
from slm_operator.api.status import SLMDeploymentStatus

if TYPE_CHECKING:
    Mode = str
else:  # NB: pydantic makes the CRD's enums of Literals, and the words are those of the table of modes
    Mode = Literal[CHOICES]
_PACKED = ", ".join(one.mode for one in PACKED)


class AdvisorSpec(Part):
    """Settings of the advisor."""

    objective: Literal["Throughput", "FreeMemory", "CostPerToken", "EnergyPerToken"] = "Throughput"
    """Throughput: most tokens per second and GPU. FreeMemory: the throughput of the best single engine with the least memory. CostPerToken: least money for a token; on GPUs of one price that is Throughput. EnergyPerToken: fewest joules for a token, as measured; refused where no watts were. SLO and minGain hold for all."""
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
    """GPU time that one profile may cost, the model's download left out. The search ends with the best found so far."""

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
        cel(
            # NB: the API server asks it of the default too, in which no field has its own default yet.
            "!(has(self.partitioning) && self.partitioning == 'PackPod' && has(self.tenancy) && self.tenancy == 'Shared')",
            "a pack in a pod has its GPU to itself: set tenancy to Dedicated, or partitioning to NodeSlices",
        ),
    )
    mode: Mode = "Auto"
    """How engines on one GPU share it. Auto: what was measured best."""
    engines_per_gpu: Annotated[int, within(tuning.ENGINES_PER_GPU)] | None = None
    """Your own number of engines on a GPU. It wins over the advice, and status says what it costs. Default: the advice."""
    max_engines_per_gpu: Annotated[int, within(tuning.MAX_ENGINES_PER_GPU)] = tuning.MAX_ENGINES_PER_GPU.default
    """Most engines on a GPU that are measured or advised."""
    partitioning: Literal["Auto", "NodeSlices", "PackPod"] = "Auto"
    """Who divides a GPU among engines. NodeSlices: the device plugin, on a node that opted in and is reconfigured for it. PackPod: one pod with one whole GPU runs all engines, on any node with nvidia.com/gpu. Auto: as engines run now; NodeSlices where an opted-in node fits and the mode holds there; else PackPod."""
    tenancy: Literal["Dedicated", "Shared"] = "Dedicated"
    """Dedicated: the GPUs of a node serve this deployment alone, which is what was measured. Shared: others may use free slices; memory is guaranteed, speed is monitored and not guaranteed."""


class AcceleratorSpec(Part):
    """Which GPUs may be used."""

    model_config = validations(SELECTS_NO_MARKS)
    products: Annotated[list[Product], Field(max_length=1)] = []
    """GPU product as in the node label nvidia.com/gpu.product; one at most. Default: the one that was measured; where none was, the one with the most free GPUs is."""
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
    engine: ServedEngine = ServedEngine()
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
    """Engines to run. A pack in a pod is whole, so its pods run this number rounded up. Default: one full pack, kept here by the operator as the advice changes (1 before there is any). `kubectl scale`, autoscalers and manifests with this field take it over; once it is removed, the operator keeps it again."""
    paused: bool = False
    """true: nothing is measured, no node is changed and no replica is replaced for this deployment, until it is false. Scaling, disruption budgets and routing go on, and a replica that is lost comes again where there is room."""
    routing: RoutingSpec | None = None
    """Load-aware routing through a Gateway, beside the Service. Needs the CRDs of the Gateway API and of its inference extension, and rbac.gatewayApi in the chart. Default: the Service alone."""
    pod_template: RawObject | None = None
    """A pod template merged over the operator's (strategic merge): volumes, mounts, annotations, resources (of one engine; its profile's pod gets them for each engine that it measures at once). Fields that the operator owns are refused by name."""


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
