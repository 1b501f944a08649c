"""Figures at the requested load.

A pack that wins with full batches loses when traffic is thin ("Mind the Memory Gap": -18 % with 50 requests in
flight), so candidates are compared at the load that will come. Assumes closed loops: what R engines do with N requests
in flight does not depend on how many more they would take. Must never pass a prediction off as a measurement: one
engine may be predicted between its points, a pack counts only where it was measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slm_core import noise
from slm_core.candidates import Check, CheckName, Predicted, Source
from slm_core.configuration import EngineConfiguration
from slm_core.latency_model import fit_line, fit_points

from slm_operator.advisor.context import LOAD_TOLERANCE, is_partial, same_load

if TYPE_CHECKING:
    from slm_core.measurements import Point

    from slm_operator.advisor.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLoad:
    """What a point says of the decided load."""

    check: Check
    predicted: Predicted | None = None
    """Its figures there, where they are not the point's own."""


def at_load(context: Context, point: Point) -> AtLoad:
    """Whether this point speaks for the decided load, and its figures there."""
    asked, full = context.in_flight, point.full_load
    if is_partial(point):
        return AtLoad(check=_measured_with(point.load, asked, full))
    if asked is None or asked >= full * (1 - LOAD_TOLERANCE):
        return AtLoad(check=Check(CheckName.LOAD, True, "measured with full batches"))
    there = f"with {asked} requests in flight"
    configuration = EngineConfiguration.of(point)
    if configuration in context.at_load:
        because = f"{there} its batches do not fill; it was measured at that load too, and that point decides"
        return AtLoad(check=Check(CheckName.LOAD, False, because, full, asked))
    if same := _filled(context, configuration, asked):
        return AtLoad(
            check=Check(CheckName.LOAD, True, f"{there} it does what was measured at that load", full, asked),
            predicted=replace(Predicted.of(same), configuration=configuration),
        )
    if point.replicas > 1:
        because = (
            f"fills only with {full} requests in flight and was not measured with {asked}: profile it at that load"
        )
        return AtLoad(check=Check(CheckName.LOAD, False, because, full, asked))
    because = f"{there} its figures are predicted from the points around"
    return AtLoad(
        check=Check(CheckName.LOAD, True, because, full, asked), predicted=predict_single(context, point, asked)
    )


def _filled(context: Context, configuration: EngineConfiguration, in_flight: int) -> Point | None:
    """Such engines with the batch that so many requests in flight fill just: they do the same work."""
    batch_size, over = divmod(in_flight, configuration.engines_per_gpu)
    return None if over else context.full.get(replace(configuration, batch_size=batch_size))


def _measured_with(in_flight: int, asked: int | None, full: int) -> Check:
    """Of a point whose batches did not fill."""
    if asked is not None and same_load(in_flight, asked):
        return Check(CheckName.LOAD, True, f"measured with {in_flight} requests in flight", in_flight, asked)
    limit = asked or full
    because = f"measured with {in_flight} requests in flight, which says nothing of {limit}"
    return Check(CheckName.LOAD, False, because, in_flight, limit)


def predict_single(context: Context, point: Point, in_flight: int) -> Predicted:
    """One engine with fewer requests in flight than its batch holds.

    On the fitted line; without a fit, on the straight line from 0 to the point, below which no real engine falls.
    """
    if context.fit:
        at = context.fit.predict(in_flight)
        total, output, itl = at.throughput_tokens_per_second, at.output_tokens_per_second, at.itl_ms
    else:
        part = in_flight / point.full_load
        total, output = point.throughput_tokens_per_second * part, point.output_tokens_per_second * part
        itl = point.itl_ms.mean_ms
    return Predicted(
        configuration=EngineConfiguration.of(point),
        throughput_tokens_per_second=total,
        output_tokens_per_second=output,
        itl_ms=itl,
        source=Source.PREDICTED,
    )


def pays_from(context: Context, pack: Point, single: Point, gate: float) -> int | None:
    """Requests in flight per GPU from which `pack` beats `single` by `gate`, by the lines fitted to both.

    The pack's line needs two loads measured in packs of the same R and mode; with one load it is that load. None when
    the lines never cross below full batches, or without a line for one engine.
    """
    alike = (p for p in context.points if p.replicas == pack.replicas and p.sharing_mode is pack.sharing_mode)
    kin = [p for p in alike if p.is_trusted]
    loads = [float(p.load) for p in kin]
    fit = context.fit or fit_points(context.points)
    if fit is None:
        return None
    if len(set(loads)) < 2:
        return pack.load
    turns = [1000 * load / p.output_tokens_per_second for load, p in zip(loads, kin, strict=True)]
    line = fit_line(loads, turns, [noise.REPEAT_FRACTION] * len(kin))
    for in_flight in range(1, pack.full_load + 1):
        alone = fit.turn.at(min(in_flight, single.batch_size)) / min(in_flight, single.batch_size)
        if alone >= (1 + gate) * line.at(in_flight) / in_flight:
            return in_flight
    return None
