"""What the operator answers in the status of an SLMDeployment, and the conditions of both kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from slm_core.measurements import SharingMode

from slm_operator.api.base import ATOMIC, Name, NameReference, Part, RawObject, map_by
from slm_operator.api.names import Choice
from slm_operator.api.slo import Figures

CONDITION_TYPE = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)
CONDITION_REASON = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
"""Source of both: k8s.io/apimachinery, pkg/apis/meta/v1/types.go, Condition."""
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
if TYPE_CHECKING:
    UsedMode = str
    DividedBecause = str
else:  # NB: pydantic makes the CRD's enums of Literals, and the words are those of the table of modes
    UsedMode = Literal[tuple(map(str, SharingMode))]
    DividedBecause = Literal[tuple(map(str, Choice))]


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
    cost_per_million_tokens: float | None = None
    """Cost of a million tokens, input and output, in the advice's currency. Absent: no price, or not known."""
    joules_per_token: float | None = None
    """Energy of the whole board for a token, as measured. Absent: its watts were not measured at this load."""


class ReplacedStatus(Part):
    """What was measured of the engine image that this one replaced."""

    profile_ref: NameReference
    """Name of the SLMProfile that was advised from before."""
    engine_image: Annotated[str, Field(max_length=1024)]
    """The image that it measured."""
    generation: int
    """Generation of spec under which the two were compared."""
    tokens_per_second_per_gpu: float
    """Input and output tokens per second of its best single engine, under the same SLO and load."""
    change_fraction: float
    """The best single engine of now over that, less 1: -0.08 is 8 % fewer tokens."""
    noise_fraction: float
    """What the two may differ by chance, at 95 %."""


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
    saved_gpu_hours_fraction: float | None = None
    """What packing saves: 0.19 says that what takes 100 GPU hours with the best single engine takes 81. Absent: nothing is saved, or it is not known."""
    cost_per_million_tokens: float | None = None
    """Cost of a million tokens, input and output, by config.prices. Absent: the product has no price there."""
    currency: Annotated[str, Field(max_length=3)] | None = None
    """Of every cost here, as ISO 4217 has it."""
    joules_per_token: float | None = None
    """Energy of the whole board for a token, input or output, as measured. Absent: its watts were not measured at this load."""
    freed_bytes: int | None = None
    """GPU memory that is left free, for others."""
    feasible: bool = True
    """Whether the SLO can be met."""
    source: Literal["Measured", "Predicted", "UserChoice"]
    """Measured: a measured point. Predicted: between measured points. UserChoice: your own number of engines, or mode."""
    profile_ref: NameReference | None = None
    """Name of the SLMProfile that the advice rests on. Absent in that profile's own status."""
    generation: int | None = None
    """Generation of spec that the advice is for."""
    digest: Annotated[str, Field(max_length=64)] | None = None
    """Digest of the arguments that an engine is started with. Pods carry it in the annotation slm-operator.io/advice."""
    in_flight_per_gpu: int | None = None
    """Requests in flight per GPU that the advice is for. Absent: every batch full."""
    decided_time: Timestamp | None = None
    """Since when this is the advice."""
    replaced: ReplacedStatus | None = None
    """Where spec.engine.image was another before: how the two compare. Absent: nothing to compare with."""
    sentences: Annotated[
        list[Annotated[str, Field(max_length=1024)]], Field(max_length=16, json_schema_extra=ATOMIC)
    ] = []
    """The decision in sentences."""
    candidates: Annotated[list[CandidateStatus], Field(max_length=8, json_schema_extra=ATOMIC)] = []
    """The chosen configuration, then the fastest of the others, and why each was kept or rejected: eight at most. `kubectl slm report` draws all."""
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


Phase = Literal["Profiling", "Advising", "Placing", "Starting", "Ready", "Paused", "Stalled"]
ProfilePhase = Literal["Pending", "Running", "Complete", "Imported", "Failed"]


class ProfileReference(Part):
    """The profile that the advice rests on."""

    name: Name
    """Name of the SLMProfile."""
    namespace: Annotated[str, Field(max_length=63)] | None = None
    """Its namespace, which is a library's. Absent: this one."""
    phase: ProfilePhase | None = None
    """Its phase."""
    progress: str | None = None
    """Progress of the measurement: point 3."""
    product: str | None = None
    """The GPU product that it was measured on."""


class SharingStatus(Part):
    """Who divides the GPU among engines, and why."""

    partitioning: Literal["NodeSlices", "PackPod"]
    """NodeSlices: the device plugin, one pod an engine. PackPod: one pod runs all engines of a GPU."""
    reason: DividedBecause
    """Why, in one word."""
    message: Annotated[str, Field(max_length=1024)]
    """Why, in a sentence."""
    pods: int | None = None
    """Pods that exist, where each runs a whole pack."""


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


class LoadStatus(Part):
    """The load that the SLO monitor saw on one GPU, what its engines did, and what is expected of them there."""

    observed_time: Timestamp
    """When this was said: anew when the judgement changes or the load has moved by a quarter, every five minutes at most."""
    in_flight_per_gpu: float
    """Requests in flight, running and waiting, averaged over the monitor's last window."""
    measured: Figures
    """What was measured in that window."""
    expected: Figures | None = None
    """What the profile lets expect with so many requests in flight and the lengths that were measured. Absent: so many were not measured."""
    expected_as: Literal["Measured", "Bound", "Waiting"] | None = None
    """Measured: loads next to it were measured. Bound: less than was measured; at least such rates, at most such latencies. Waiting: more than batches hold; engines do what full batches do."""
    headroom_per_gpu: int | None = None
    """How many more requests fit on a GPU before a limit of the SLO breaks or one has to wait. Absent: not known."""


class RoutingStatus(Part):
    """The objects of load-aware routing, in this namespace."""

    inference_pool: Name
    """Name of the InferencePool."""
    http_route: Name
    """Name of the HTTPRoute. Whether its Gateway takes it stands in its own status."""


class DefaultsStatus(Part):
    """The operator's defaults that a deployment was made with, and keeps."""

    values: RawObject
    """As in config.defaults of the operator's chart, whatever stands there now."""
    made_of: Annotated[str, Field(max_length=64)]
    """Digest of model, engine, accelerator and podTemplate for which they were taken: with others, those of now are."""
    upgrade: Annotated[str, Field(max_length=253)] | None = None
    """Value of the annotation slm-operator.io/upgrade that was last honoured. Another one now: those of now are taken."""


class SLMDeploymentStatus(Part):
    """The observed state, and the reasons for it."""

    observed_generation: int | None = None
    """Generation of spec that this status speaks of."""
    conditions: Conditions = []
    """Ready, Reconciling and Stalled for tools; Profiled, Advised, Allocated, Available, Routed, SLOMet and AsFastAsBefore for people."""
    phase: Phase | None = None
    """One word for people. Tools read the conditions."""
    profile: ProfileReference | None = None
    """The profile that the advice rests on."""
    advice: AdviceStatus | None = None
    """The advice, and the evidence for it."""
    load: LoadStatus | None = None
    """The load of now, as the SLO monitor sees it, and what is expected there. Figures of each minute are in the operator's metrics."""
    sharing: SharingStatus | None = None
    """Who divides the GPU, where several engines share one."""
    packs: Annotated[list[PackStatus], Field(max_length=256, json_schema_extra=ATOMIC)] = []
    """Where the engines are: one item for each GPU, 256 at most."""
    pack_count: int | None = None
    """Number of packs."""
    replicas: int | None = None
    """Engines that exist: a pack in a pod counts as many as it runs."""
    ready_replicas: int | None = None
    """Engines that answer."""
    selector: str | None = None
    """Label selector of the pods, for autoscalers."""
    url: str | None = None
    """Address of the engines inside the cluster."""
    defaults: DefaultsStatus | None = None
    """The operator's defaults that it was made with, and keeps."""
    routing: RoutingStatus | None = None
    """Objects that spec.routing made."""
