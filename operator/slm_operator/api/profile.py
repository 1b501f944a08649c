"""`SLMProfile`: what was measured of one model on one kind of GPU. One profile serves every deployment with its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import ConfigDict, Field
from slm_core import tuning
from slm_core.measurements import MeasurementDocument

from slm_operator.api.base import ATOMIC, Name, Part, Product, RawObject, cel, validations, within
from slm_operator.api.deployment import Mode
from slm_operator.api.kubernetes import SELECTS_NO_MARKS, AllowedToleration, NodeSelector
from slm_operator.api.parts import EngineSpec, MeasuredModel, WorkloadSpec
from slm_operator.api.slo import LatencyLimits
from slm_operator.api.status import AdviceStatus, Conditions, ProfilePhase, Timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator


MEASURED = ("Complete", "Imported")
"""Phases of a profile that holds its measurements: its spec says how they were made."""
ENDED = (*MEASURED, "Failed")
"""Phases of a profile that is not measured (again) by itself."""


class GpuSpec(Part):
    """The kind of GPU to measure on."""

    model_config = validations(SELECTS_NO_MARKS)
    product: Product | None = None
    """GPU product as in the node label nvidia.com/gpu.product. Default: the one with the most free GPUs when it is measured."""
    node_selector: NodeSelector = {}
    """Further labels that the node must carry."""
    tolerations: Annotated[list[AllowedToleration], Field(max_length=32, json_schema_extra=ATOMIC)] = []
    """Tolerations of the profile pod."""


class SearchSpec(Part):
    """What the search looks for, and what it may cost."""

    slo: LatencyLimits = LatencyLimits()
    """The SLO around which points are measured most densely."""
    min_efficiency: Annotated[float, within(tuning.MIN_EFFICIENCY)] = tuning.MIN_EFFICIENCY.default
    """Smallest batching efficiency that is of interest."""
    min_gain: Annotated[float, within(tuning.MIN_GAIN)] = tuning.MIN_GAIN.default
    """Smallest gain for which a further engine on the GPU is measured."""
    mode: Mode = "Auto"
    """Sharing modes to measure."""
    engines_per_gpu: Annotated[int, within(tuning.ENGINES_PER_GPU)] | None = None
    """Measure a pack of this size in any case."""
    max_engines_per_gpu: Annotated[int, within(tuning.MAX_ENGINES_PER_GPU)] = tuning.MAX_ENGINES_PER_GPU.default
    """Largest pack to measure."""
    max_gpu_minutes: Annotated[float, within(tuning.MAX_GPU_MINUTES)] = tuning.MAX_GPU_MINUTES.default
    """GPU time that the search may cost. The model's download is waited for outside it."""


class SLMProfileSpec(Part):
    """What to measure, or, with measurements, what was measured elsewhere. What decides the figures is immutable."""

    model: MeasuredModel
    """The model to measure."""
    engine: EngineSpec = EngineSpec()
    """The engine to measure it in."""
    gpu: GpuSpec = GpuSpec()
    """The kind of GPU to measure on."""
    workload: WorkloadSpec = WorkloadSpec()
    """Token lengths to measure with."""
    search: SearchSpec = SearchSpec()
    """What the search looks for, and what it may cost."""
    pod_template: RawObject | None = None
    """Merged over the profile pod's template, as in SLMDeployment. Resources of the container engine are those of one engine: the pod gets them for each engine of the largest pack that it may measure, and 1 CPU and 1 GiB beside."""
    measurements: MeasurementDocument | None = None
    """Measurements made elsewhere: the document that `slm_runtime profile` and `kubectl slm profile export` write. Nothing is measured then."""


class ProfileProgress(Part):
    """How far a running profile is."""

    point: int
    """Point that is being measured, counted from 1. 0 while the engine starts."""
    of: int | None = None
    """Points expected at most."""
    message: Annotated[str, Field(max_length=1024)] | None = None
    """What is being measured."""


class TriesStatus(Part):
    """Tries that ended without a result. Kept here, so that no restart forgets a pause or counts a try twice."""

    count: Annotated[int, Field(ge=0)] = 0
    """Tries in a row that the cluster ended, since spec was last changed or a try was last asked for. The pause doubles with each, up to an hour."""
    gpu_seconds: Annotated[int, Field(ge=0)] = 0
    """GPU time of all tries that have ended. search.maxGpuMinutes bounds it together with that of the next one."""
    last_ending: Annotated[str, Field(max_length=64)] | None = None
    """How the last try ended, in one word: Preempted, Evicted, NodeLost ..."""
    last_message: Annotated[str, Field(max_length=1024)] | None = None
    """The same in a sentence, with the words of whoever ended it."""
    last_try_time: Timestamp | None = None
    """When that was seen."""
    next_try_time: Timestamp | None = None
    """When it is tried again at the latest. Absent: it is not waiting for that."""
    job: Annotated[str, Field(max_length=253)] | None = None
    """UID of the Job of the last try."""
    request: Annotated[str, Field(max_length=64)] | None = None
    """Digest of what of spec may change, as the last try had it. Another one now: it is tried again at once."""
    retry: Annotated[str, Field(max_length=253)] | None = None
    """Value of the annotation slm-operator.io/retry that was last honoured. Another one now: it is tried again at once."""


class ExtensionStatus(Part):
    """A question that the measurements do not answer yet, while what lacks is waited for or measured."""

    question: Annotated[str, Field(max_length=64)]
    """Digest of the question."""
    deployment: Name
    """An SLMDeployment that asks it."""
    message: Annotated[str, Field(max_length=1024)]
    """What lacks."""
    since: Timestamp
    """Since when."""


class AnsweredStatus(Part):
    """A question for which nothing more is measured."""

    question: Annotated[str, Field(max_length=64)]
    """Digest of the question."""
    shortfall: Annotated[str, Field(max_length=1024)] | None = None
    """Why its evidence is thin all the same. Absent: it is not."""


class SLMProfileStatus(Part):
    """How the measurement went."""

    observed_generation: int | None = None
    """Generation of spec that this status speaks of."""
    conditions: Conditions = []
    """Ready, Reconciling, Stalled."""
    phase: ProfilePhase | None = None
    """One word for people."""
    progress: ProfileProgress | None = None
    """How far a running profile is."""
    summary: Annotated[str, Field(max_length=256)] | None = None
    """How far it is, for people: point 3."""
    product: str | None = None
    """GPU product that it was measured on, or is to be measured on."""
    node: Name | None = None
    """Node that it was measured on."""
    gpu_seconds: int | None = None
    """GPU time that it has cost, in all tries."""
    waiting_since: Timestamp | None = None
    """Since when it waits for its turn or a GPU. Absent: it does not."""
    tries: TriesStatus | None = None
    """Tries that ended without a result, and when the next one is. Absent: there was none."""
    partial: RawObject | None = None
    """Points that a try has measured which has not come to its end, as in measurements. The next try goes on from them."""
    partial_of: Annotated[str, Field(max_length=64)] | None = None
    """Digest of the pod template under which they were measured."""
    extension: ExtensionStatus | None = None
    """What is to be measured beside the measurements. Absent: nothing."""
    answered: Annotated[list[AnsweredStatus], Field(max_length=64, json_schema_extra=ATOMIC)] = []
    """Questions for which nothing more is measured, the last ones."""
    unused_since: Timestamp | None = None
    """Since when no SLMDeployment uses it. Absent: one does."""
    advice: AdviceStatus | None = None
    """What is advised for the question of spec.search and spec.workload: nothing need be deployed for it. A deployment's own advice is in its status."""
    no_advice_because: Annotated[str, Field(max_length=1024)] | None = None
    """Why there is none, once it is measured."""
    measurements: MeasurementDocument | None = None
    """What was measured."""


MUTABLE = ("gpu.nodeSelector", "gpu.tolerations", "podTemplate", "search.maxGpuMinutes")
"""What may change of a profile's spec until it is measured: where its pod may run, and what it may cost."""


_INSIDE: dict[str, type[Part]] = {"gpu": GpuSpec, "search": SearchSpec}


def _paths(model: type[Part], above: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{above}{field.alias or name}"
        inside = _INSIDE.get(path)
        if inside is None:
            yield path
        else:
            yield from _paths(inside, f"{path}.")


def _stays(path: str) -> dict[str, str]:
    now, then = f"self.spec.{path}", f"oldSelf.spec.{path}"
    return cel(
        f"has({now}) == has({then}) && (!has({now}) || {now} == {then})",
        f"it decides what is measured and cannot change, only {', '.join(MUTABLE)} can: make a new profile",
        field=f".spec.{path}",
    )


_IMMUTABLE = tuple(_stays(path) for path in _paths(SLMProfileSpec) if path not in MUTABLE)
_ENDED = cel(
    f"!has(self.status) || !has(self.status.phase) || !(self.status.phase in {list(MEASURED)}) || self.spec == oldSelf.spec",
    "the profile has its measurements, and its spec says how they were made: make a new profile, or delete this one to measure again",
    field=".spec",
)


class SLMProfile(Part):
    """Measurements of one model, engine, GPU product and workload."""

    model_config = ConfigDict(title="SLMProfile") | validations(*_IMMUTABLE, _ENDED)
    spec: SLMProfileSpec
    """What to measure, or what was measured elsewhere."""
    status: SLMProfileStatus | None = None
    """How the measurement went. Written by the operator."""
