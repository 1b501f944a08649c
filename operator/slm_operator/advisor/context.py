"""The context of a decision: its inputs, plus the values derived from them once per call.

Every check reads the same figures from here. Assumes that `check_question` found nothing. Must never depend on the order of
points, except where a profile measured the same configuration again (`slm_core.candidates.deciding`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core import batching
from slm_core.candidates import deciding
from slm_core.configuration import EngineConfiguration
from slm_core.engines.registry import engine_named
from slm_core.latency_model import fit_points
from slm_core.slo_check import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.candidates import Measurement, Source
    from slm_core.engines.base import Engine
    from slm_core.latency_model import Fit
    from slm_core.measurements import Ledger, MeasurementDocument, Point
    from slm_core.slo import Limits, Slo

    from slm_operator.advisor.advice import Settings

LOAD_TOLERANCE = 0.05
"""Loads that differ by less are the same load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Inputs plus values derived once per call."""

    points: tuple[Point, ...]
    """Single engines first, by rising batch."""
    settings: Settings
    limits: Limits
    """The SLO in milliseconds."""
    in_flight: int | None
    """The load to decide for. Absent: full batches."""
    fit: Fit | None
    """ITL and time per token of one engine over B. Absent with fewer than two batch sizes, and for full batches."""
    single_sequence: float | None
    """T(1) in input and output tokens per second. Absent: not known."""
    engine: Engine
    """Which was measured."""
    ledger: Ledger | None
    fixed_bytes: int
    """What one engine needs before its first KV block. 0 without a ledger."""
    floor_bytes: int
    """KV bytes of one sequence of the longest length, without which an engine refuses to start. 0 where not known."""
    device_bytes: int
    """Memory of the GPU that will serve. 0 where not known."""
    source: Source
    """Measured, or Estimated."""
    imported: bool
    """Converted from another tool's results, which know no confirmation."""
    deciding: Mapping[Measurement, Point]
    """Of repetitions the one that counts. Empty where the points were imported: they stand in no order."""
    confirmed: frozenset[EngineConfiguration]
    """Configurations that were measured with their final KV bytes."""
    at_load: frozenset[EngineConfiguration]
    """Configurations that were measured with just the decided load in flight."""
    full: Mapping[EngineConfiguration, Point]
    """Full-batch points by configuration. Empty where full batches are decided for."""


def make_context(document: MeasurementDocument, slo: Slo, settings: Settings, source: Source) -> Context:
    """Derive the context. Raises nothing for a question that `check_question` passed."""
    ledger, engine = document.ledger, engine_named(document.engine.name)
    points = tuple(sorted(document.points, key=_order))
    load = settings.concurrency or settings.requests_per_second or document.workload.concurrency
    fit = fit_points(points) if load else None
    in_flight = settings.concurrency or in_flight_of_rate(document, fit, settings.requests_per_second)
    if settings.requests_per_second is None:
        in_flight = in_flight or document.workload.concurrency
    single, _ = batching.single_sequence_tokens_per_second(document.points)
    partial = [p for p in points if is_partial(p)]
    return Context(
        points=points,
        settings=settings,
        limits=resolve(slo, points),
        in_flight=in_flight,
        fit=fit,
        single_sequence=single,
        ledger=ledger,
        fixed_bytes=ledger.fixed_bytes if ledger else 0,
        engine=engine,
        floor_bytes=_floor_bytes(document, engine),
        device_bytes=settings.gpu_memory_bytes or (ledger.device_bytes if ledger else 0),
        source=source,
        imported=document.cost is None,
        deciding=deciding(document.points) if document.cost else {},
        confirmed=frozenset(EngineConfiguration.of(p) for p in points if p.confirmed),
        at_load=frozenset(EngineConfiguration.of(p) for p in partial if in_flight and same_load(p.load, in_flight)),
        full={EngineConfiguration.of(p): p for p in points if not is_partial(p)} if in_flight else {},
    )


def _floor_bytes(document: MeasurementDocument, engine: Engine) -> int:
    ledger, longest = document.ledger, document.model.max_model_len
    return engine.sequence_kv_tokens(longest) * ledger.kv_bytes_per_token if ledger and longest else 0


def in_flight_of_rate(document: MeasurementDocument, fit: Fit | None, requests_per_second: float | None) -> int | None:
    """Requests in flight of one engine at a request rate: N = rate x output tokens x (a + b N), by Little's law.

    None without a rate or a fit, and when the rate is more than one engine serves: then every batch is full.
    """
    if requests_per_second is None or fit is None:
        return None
    tokens_per_ms = requests_per_second * document.workload.output_tokens_mean / 1000
    slack = 1 - tokens_per_ms * fit.turn.slope
    return max(1, math.ceil(tokens_per_ms * fit.turn.intercept / slack)) if slack > 0 else None


def is_partial(point: Point) -> bool:
    """Measured with fewer requests in flight than the batches hold."""
    return point.in_flight is not None and point.in_flight < point.full_load * (1 - LOAD_TOLERANCE)


def same_load(one: float, other: float) -> bool:
    """Whether two loads are the same within the tolerance."""
    return abs(one - other) <= LOAD_TOLERANCE * other


def _order(p: Point) -> tuple[object, ...]:
    return (
        p.replicas,
        p.batch_size,
        p.sharing_mode,
        p.in_flight or 0,
        not p.confirmed,
        p.max_num_batched_tokens or 0,
        -p.throughput_tokens_per_second,
        p.itl_ms.mean_ms,
        p.kv_peak_fraction,
    )
