"""The context of a decision: its inputs, plus the values derived from them once per call.

Every check reads the same figures from here. Assumes that `check_question` found nothing. Must never depend on the order of
points, except where a profile measured the same configuration again (`slm_core.candidates.deciding`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core.decision import Basis, Wanted
from slm_core.engines.registry import engine_named
from slm_core.latency_model import fit_points
from slm_core.load import in_flight_of_rate
from slm_core.slo_check import resolve

from slm_operator.advisor.advice import Objective

if TYPE_CHECKING:
    from slm_core.candidates import Source
    from slm_core.engines.base import Engine
    from slm_core.measurements import Ledger, MeasurementDocument
    from slm_core.slo import Slo

    from slm_operator.advisor.advice import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Inputs plus values derived once per call."""

    basis: Basis
    """The points and what is asked of them, as the search would ask."""
    settings: Settings
    engine: Engine
    """Which was measured."""
    ledger: Ledger | None
    fixed_bytes: int
    """What one engine needs before its first KV block. 0 without a ledger."""
    floor_bytes: int
    """KV bytes of one sequence of the longest length, without which an engine refuses to start. 0 where not known."""
    max_model_len: int | None
    """That length in tokens."""
    device_bytes: int
    """Memory of the GPU that will serve. 0 where not known."""
    source: Source
    """Measured, or Estimated."""
    product: str
    """Of the GPU that was measured."""


def make_context(document: MeasurementDocument, slo: Slo, settings: Settings, source: Source) -> Context:
    """Derive the context. Raises nothing for a question that `check_question` passed."""
    ledger, engine = document.ledger, engine_named(document.engine.name)
    wanted = Wanted(
        limits=resolve(slo, document.points),
        tuning=settings,
        in_flight=_in_flight(document, settings),
        engines=settings.engines_per_gpu,
        equal_is_enough=settings.objective is Objective.FREE_MEMORY,
        imported=document.cost is None,
    )
    return Context(
        basis=Basis.of(document.points, wanted),
        settings=settings,
        ledger=ledger,
        fixed_bytes=ledger.fixed_bytes if ledger else 0,
        engine=engine,
        floor_bytes=_floor_bytes(document, engine),
        max_model_len=document.model.max_model_len,
        device_bytes=settings.gpu_memory_bytes or (ledger.device_bytes if ledger else 0),
        source=source,
        product=document.gpu.product,
    )


def _in_flight(document: MeasurementDocument, settings: Settings) -> int | None:
    """The load to decide for: the user's, else the document's. A rate that was measured has the load of that measurement."""
    workload, rate = document.workload, settings.requests_per_second
    if settings.concurrency is not None:
        return settings.concurrency
    if rate is None or (rate == workload.requests_per_second and workload.concurrency is not None):
        return workload.concurrency
    return in_flight_of_rate(fit_points(document.points), rate, workload.output_tokens_mean)


def _floor_bytes(document: MeasurementDocument, engine: Engine) -> int:
    ledger, longest = document.ledger, document.model.max_model_len
    return engine.sequence_kv_tokens(longest) * ledger.kv_bytes_per_token if ledger and longest else 0
