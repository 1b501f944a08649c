"""Figures at the requested load, which is a number of requests in flight on one GPU.

A pack that wins with full batches loses when traffic is thin ("Mind the Memory Gap": -18 % with 50 requests in
flight), so candidates are compared at the load that will come. Assumes closed loops: what R engines do with N requests
in flight does not depend on how many more they would take. Must never pass a prediction off as a measurement: one
engine may be predicted between its points, a pack counts only where it was measured.

One line divides all points, for every load: either a point's own load is the asked one as its engines see it (they run
no more than fills their batches), or it is not. Nothing is in between, and nothing is both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slm_core.candidates import Check, CheckName, Predicted, Source
from slm_core.configuration import EngineConfiguration

if TYPE_CHECKING:
    from slm_core.decision import Basis
    from slm_core.latency_model import Fit
    from slm_core.measurements import Point

SAME_LOAD_FRACTION = 0.05
"""Loads that differ by no more of the larger one are the same load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLoad:
    """What a point says of the decided load."""

    check: Check
    predicted: Predicted | None = None
    """Its figures there, where they are not the point's own."""


def in_flight_of_rate(fit: Fit | None, requests_per_second: float, output_tokens_mean: float) -> int | None:
    """Requests in flight of one engine at a request rate: N = rate x output tokens x (a + b N), by Little's law.

    None without a fit, and when the rate is more than one engine serves: then every batch is full.
    """
    if fit is None:
        return None
    tokens_per_ms = requests_per_second * output_tokens_mean / 1000
    slack = 1 - tokens_per_ms * fit.turn.slope
    return max(1, math.ceil(tokens_per_ms * fit.turn.intercept / slack)) if slack > 0 else None


def is_partial(point: Point) -> bool:
    """Measured with fewer requests in flight than the batches hold."""
    return point.load < point.full_load


def distance(point: Point, asked: int | None) -> tuple[float, int]:
    """How far the point's load is from the asked one, as a fraction of the larger, both as far as they fill batches.

    Then, of those that are as near, how many requests wait more or less than asked.
    """
    full = point.full_load
    wanted = full if asked is None else asked
    runs, would_run = min(point.load, full), min(wanted, full)
    return abs(runs - would_run) / max(runs, would_run), abs(point.load - wanted)


def is_at(point: Point, asked: int | None) -> bool:
    """Whether the point was measured at the asked load. None: with full batches."""
    return distance(point, asked)[0] <= SAME_LOAD_FRACTION


def at_load(basis: Basis, point: Point) -> AtLoad:
    """Whether this point speaks for the decided load, and its figures there."""
    asked, configuration = basis.in_flight, EngineConfiguration.of(point)
    nearest = basis.nearest.get(configuration)
    if is_at(point, asked):
        return AtLoad(
            check=_measured_there(point, asked, is_nearest=nearest is None or distance(point, asked) <= nearest)
        )
    if asked is None or is_partial(point):
        return AtLoad(check=_elsewhere(point, asked or point.full_load))
    there, full = f"with {asked} requests in flight", point.full_load
    if nearest is not None:
        because = f"{there} its batches do not fill; it was measured at that load too, and that point decides"
        return AtLoad(check=Check(CheckName.LOAD, False, because, full, asked))
    if same := _filled(basis, configuration, asked):
        check = Check(CheckName.LOAD, True, f"{there} it does what was measured at that load", full, asked)
        return AtLoad(check=check, predicted=replace(Predicted.of(same), configuration=configuration))
    if point.replicas > 1:
        because = (
            f"fills only with {full} requests in flight and was not measured with {asked}: profile it at that load"
        )
        return AtLoad(check=Check(CheckName.LOAD, False, because, full, asked))
    check = Check(CheckName.LOAD, True, f"{there} its figures are predicted from the points around", full, asked)
    return AtLoad(check=check, predicted=predict_single(basis.fit, point, asked))


def _measured_there(point: Point, asked: int | None, *, is_nearest: bool) -> Check:
    value, limit = point.load, asked or point.full_load
    if not is_nearest:
        because = (
            f"measured with {value} requests in flight; it was measured nearer to {limit} too, and that point decides"
        )
        return Check(CheckName.LOAD, False, because, value, limit)
    if not is_partial(point):
        return Check(CheckName.LOAD, True, "measured with full batches")
    return Check(CheckName.LOAD, True, f"measured with {value} requests in flight", value, limit)


def _elsewhere(point: Point, limit: int) -> Check:
    because = f"measured with {point.load} requests in flight, which says nothing of {limit}"
    return Check(CheckName.LOAD, False, because, point.load, limit)


def _filled(basis: Basis, configuration: EngineConfiguration, in_flight: int) -> Point | None:
    """Such engines with the batch that so many requests in flight fill just: they do the same work."""
    batch_size, over = divmod(in_flight, configuration.engines_per_gpu)
    return None if over else basis.full.get(replace(configuration, batch_size=batch_size))


def predict_single(fit: Fit | None, point: Point, in_flight: int) -> Predicted:
    """One engine with fewer requests in flight than its batch holds.

    On the fitted line; without a fit, on the straight line from 0 to the point, below which no real engine falls.
    """
    if fit:
        at = fit.predict(in_flight)
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
        ci_fraction=point.throughput_ci_fraction,
        fit_fraction=fit.noise_fraction if fit else None,
    )
