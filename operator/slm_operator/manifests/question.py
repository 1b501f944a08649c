"""What a deployment asks of the measurements: which SLO, which load, which ways to share. A profile answers many questions.

The subject (model, engine, GPU, lengths) is what a profile is found by (`profile_key`); the question decides which points
are measured of it. Whether a document answers one is asked of the search itself, so that nothing is measured for a
question that further points could not change. Must never be part of a profile's key.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from slm_core.engines.registry import engine_of
from slm_core.measurements import CPU
from slm_core.search.continuation import findings_of, step_after
from slm_core.search.steps import Done, Request, packs_asked, step_tokens
from slm_core.sharing import PACKED, asked_mode, sharing_of
from slm_core.sharing.time_slicing import TIME_SLICING
from slm_core.tuning import MAX_BATCH_SIZE, tuned

from slm_operator.api.base import only
from slm_operator.api.profile import SearchSpec
from slm_operator.api.slo import LatencyLimits
from slm_operator.digest import digest

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument, SharingMode

    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.api.parts import WorkloadSpec
    from slm_operator.api.profile import SLMProfileSpec

LOADS = ("concurrency_per_gpu", "requests_per_second_per_gpu")
"""Of a workload, what is a question and not a condition of the measurement."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be found out, and what all measuring of the profile may cost for it."""

    search: SearchSpec
    concurrency_per_gpu: int | None = None
    requests_per_second_per_gpu: float | None = None

    @cached_property
    def digest(self) -> str:
        """The same for equal questions. NB: the budget is in it: whoever raises it asks once more."""
        load = (self.concurrency_per_gpu, self.requests_per_second_per_gpu)
        return digest([self.search.model_dump(mode="json"), *load])


def searched(spec: SLMDeploymentSpec) -> SearchSpec:
    """The search that a deployment asks for."""
    return SearchSpec(
        slo=only(LatencyLimits, spec.slo),
        **tuned(spec.advisor),
        mode=spec.sharing.mode,
        engines_per_gpu=spec.sharing.engines_per_gpu,
        max_engines_per_gpu=spec.sharing.max_engines_per_gpu,
        max_gpu_minutes=spec.profiling.max_gpu_minutes,
    )


def question_of(spec: SLMDeploymentSpec) -> Question:
    """What a deployment asks."""
    return _question(searched(spec), spec.workload)


def first_question(spec: SLMProfileSpec) -> Question:
    """What a profile was made for."""
    return _question(spec.search, spec.workload)


def _question(search: SearchSpec, workload: WorkloadSpec) -> Question:
    return Question(search=search, **{name: getattr(workload, name) for name in LOADS})


def asking(spec: SLMProfileSpec, question: Question) -> SLMProfileSpec:
    """The profile with another question in place of its own."""
    load = {name: getattr(question, name) for name in LOADS}
    workload = spec.workload.model_copy(update=load)
    return spec.model_copy(update={"search": question.search, "workload": workload})


def lacking(question: Question, spec: SLMProfileSpec, document: MeasurementDocument) -> str | None:
    """What would be measured next for this question, and why; None where the document answers it, or cannot be continued.

    NB: an image prints what it likes. Of figures that no engine has, the laws find no next step.
    """
    request = request_for(question, spec, document)
    try:
        if not findings_of(document, request).outcomes:
            return None
        step = step_after(document, request)
    except (ArithmeticError, ValueError):
        return None
    return None if isinstance(step, Done) else step.because


def request_for(question: Question, spec: SLMProfileSpec, document: MeasurementDocument) -> Request:
    """The question in the words of the search, on the device that was measured."""
    search, asked = question.search, asked_mode(question.search.mode)
    memory_bytes = document.gpu.memory_bytes if document.gpu.product != CPU else None
    max_engines, engines = packs_asked(asked, search.engines_per_gpu, search.max_engines_per_gpu)
    return Request(
        slo=search.slo.limits(),
        max_gpu_seconds=search.max_gpu_minutes * 60,
        max_num_batched_tokens=step_tokens(memory_bytes, MAX_BATCH_SIZE.default),
        **tuned(search),
        modes=() if max_engines == 1 else _modes(asked, is_gpu=memory_bytes is not None),
        max_engines=max_engines,
        engines=engines,
        concurrency=question.concurrency_per_gpu,
        requests_per_second=question.requests_per_second_per_gpu,
        max_model_len=document.model.max_model_len,
        engine=engine_of(spec.engine.command),
    )


def _modes(asked: SharingMode | None, *, is_gpu: bool) -> tuple[SharingMode, ...]:
    if not is_gpu:  # without one packs share by time slicing alone, as the runtime has it
        return (TIME_SLICING.mode,)
    return tuple(one.mode for one in PACKED) if asked is None else (sharing_of(asked).mode,)
