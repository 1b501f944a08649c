"""`SLMProfile`: what was measured of one model on one kind of GPU. One profile serves every deployment with its key."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from slm_core import tuning
from slm_core.measurements import MeasurementDocument

from slm_operator.api.base import ATOMIC, Name, Part, RawObject, cel, validations, within
from slm_operator.api.deployment import Conditions, Mode
from slm_operator.api.kubernetes import SELECTS_NO_MARKS, AllowedToleration, NodeSelector
from slm_operator.api.parts import EngineSpec, ModelSpec, WorkloadSpec
from slm_operator.api.slo import SloSpec


class GpuSpec(Part):
    """The kind of GPU to measure on."""

    model_config = validations(SELECTS_NO_MARKS)
    product: Annotated[str, Field(max_length=63)] | None = None
    """GPU product as in the node label nvidia.com/gpu.product. Default: any."""
    node_selector: NodeSelector = {}
    """Further labels that the node must carry."""
    tolerations: Annotated[list[AllowedToleration], Field(max_length=32, json_schema_extra=ATOMIC)] = []
    """Tolerations of the profile pod."""


class SearchSpec(Part):
    """What the search looks for, and what it may cost."""

    slo: SloSpec = SloSpec()
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
    """GPU time that the search may cost."""


class SLMProfileSpec(Part):
    """What to measure, or, with measurements, what was measured elsewhere. Immutable: make a new profile instead."""

    model_config = validations(cel("self == oldSelf", "a profile's spec cannot change: make a new profile"))
    model: ModelSpec
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
    """Merged over the profile pod's template, as in SLMDeployment."""
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


class SLMProfileStatus(Part):
    """How the measurement went."""

    observed_generation: int | None = None
    """Generation of spec that this status speaks of."""
    conditions: Conditions = []
    """Ready, Reconciling, Stalled."""
    phase: Literal["Pending", "Running", "Complete", "Imported", "Failed"] | None = None
    """One word for people."""
    progress: ProfileProgress | None = None
    """How far a running profile is."""
    summary: Annotated[str, Field(max_length=256)] | None = None
    """How far it is, for people: point 3/6."""
    node: Name | None = None
    """Node that it was measured on."""
    gpu_seconds: int | None = None
    """GPU time that it cost."""
    measurements: MeasurementDocument | None = None
    """What was measured."""


class SLMProfile(Part):
    """Measurements of one model, engine, GPU product and workload."""

    model_config = ConfigDict(title="SLMProfile")
    spec: SLMProfileSpec
    """What to measure, or what was measured elsewhere."""
    status: SLMProfileStatus | None = None
    """How the measurement went. Written by the operator."""
