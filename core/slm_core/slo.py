"""What the user asks of latency, and whether a point keeps it.

Exists once, for the search that measures and for the advisor that decides: both must mean the same by "meets the SLO".
Assumes ITL = (last token - first token) / (tokens - 1). Must never read a missing figure as a kept promise: what the
samples do not support is a miss of its own kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING

from slm_core.latency_model import fit_points, sweep_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slm_core.measurements import Latency, Point

REFERENCE_BATCH_SIZE = 32
"""The B whose mean ITL the factor form multiplies (arXiv 2503.08311, section 6)."""


class Percentile(StrEnum):
    """The figure of a latency distribution that must stay under the limit."""

    MEAN = "Mean"
    P50 = "P50"
    P90 = "P90"
    P99 = "P99"


MIN_SAMPLES = {Percentile.MEAN: 0, Percentile.P50: 7, Percentile.P90: 64, Percentile.P99: 459}
"""Samples without a miss that support a claim about each percentile."""
FIGURE = {
    Percentile.MEAN: attrgetter("mean_ms"),
    Percentile.P50: attrgetter("p50_ms"),
    Percentile.P90: attrgetter("p90_ms"),
    Percentile.P99: attrgetter("p99_ms"),
}
"""Where a latency keeps each of them."""


class Quantity(StrEnum):
    """What an SLO limits."""

    ITL = "ITL"
    TTFT = "TTFT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """Latency limits as the user wrote them. All absent: any latency will do."""

    itl_ms: float | None = None
    """Largest inter-token latency, in milliseconds. Wins over the factor."""
    itl_factor: float | None = None
    """The same as a multiple of the mean ITL of one engine with full batches of 32."""
    ttft_ms: float | None = None
    """Largest time to first token, in milliseconds."""
    percentile: Percentile = Percentile.MEAN
    """The figure that both limits hold for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """An SLO in milliseconds, resolved against the measurements."""

    itl_ms: float | None = None
    """Absent: no limit, unless `unresolved` says otherwise."""
    ttft_ms: float | None = None
    percentile: Percentile = Percentile.MEAN
    itl_source: str = ""
    """Where the ITL limit comes from, in words."""
    unresolved: str | None = None
    """Why an ITL limit was asked for and could not be computed. Nothing meets such a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """One limit that a point breaks, or that it cannot be shown to keep."""

    what: Quantity
    percentile: Percentile
    measured_ms: float | None
    """Absent: the samples do not support this percentile."""
    limit_ms: float | None
    """Absent: the limit itself could not be computed."""
    because: str
    """The whole sentence."""

    @property
    def unknown(self) -> bool:
        """Not shown to keep the limit, not shown to break it either."""
        return self.measured_ms is None or self.limit_ms is None


def resolve(slo: Slo, points: Sequence[Point]) -> Limits:
    """The SLO in milliseconds. Its factor is taken of the measured B = 32, of the fit where 32 was not measured."""
    if slo.itl_ms is not None or slo.itl_factor is None:
        source = "" if slo.itl_ms is None else "as asked"
        return Limits(itl_ms=slo.itl_ms, ttft_ms=slo.ttft_ms, percentile=slo.percentile, itl_source=source)
    itl_ms, how = _reference_itl_ms(points)
    if itl_ms is None:
        return Limits(
            ttft_ms=slo.ttft_ms, percentile=slo.percentile, unresolved=f"{slo.itl_factor:g} x ITL at B=32: {how}"
        )
    return Limits(
        itl_ms=slo.itl_factor * itl_ms,
        ttft_ms=slo.ttft_ms,
        percentile=slo.percentile,
        itl_source=f"{slo.itl_factor:g} x {itl_ms:.2f} ms, the mean ITL {how} at B=32",
    )


def itl_limit_ms(slo: Slo, points: Sequence[Point]) -> float | None:
    """The ITL limit in milliseconds; None without one, and when it cannot be computed (`resolve` tells them apart)."""
    return resolve(slo, points).itl_ms


def _reference_itl_ms(points: Iterable[Point]) -> tuple[float | None, str]:
    sweep = sweep_of(points)
    measured = next((p for p in sweep if p.batch_size == REFERENCE_BATCH_SIZE), None)
    if measured:
        return measured.itl_ms.mean_ms, "measured"
    fit = fit_points(sweep)
    if fit:
        return fit.predict(REFERENCE_BATCH_SIZE).itl_ms, "fitted (32 was not measured)"
    return None, "measure one engine at B=32, or at two other batch sizes"


def figure_ms(latency: Latency, percentile: Percentile) -> float | None:
    """The figure of a distribution, or None when its samples do not support it."""
    if latency.samples < MIN_SAMPLES[percentile]:
        return None
    figure: float | None = FIGURE[percentile](latency)
    return figure


def slo_misses(point: Point, limits: Limits) -> tuple[Miss, ...]:
    """Every limit that `point` breaks or cannot be shown to keep. Empty: it meets the SLO."""
    misses = []
    if limits.unresolved:
        misses.append(_unresolved(limits, point))
    if limits.itl_ms is not None and (late := _miss(Quantity.ITL, limits.itl_ms, point.itl_ms, limits.percentile)):
        misses.append(late)
    if limits.ttft_ms is not None and (late := _miss(Quantity.TTFT, limits.ttft_ms, point.ttft_ms, limits.percentile)):
        misses.append(late)
    return tuple(misses)


def _miss(what: Quantity, limit_ms: float, latency: Latency | None, percentile: Percentile) -> Miss | None:
    measured_ms = figure_ms(latency, percentile) if latency else None
    if measured_ms is None:
        needed, samples = MIN_SAMPLES[percentile] or 1, latency.samples if latency else 0
        because = f"{percentile.lower()} {what} not known: {samples} samples do not support it ({needed} needed)"
    elif measured_ms <= limit_ms:
        return None
    else:
        because = f"{percentile.lower()} {what} {measured_ms:.1f} ms exceeds {limit_ms:.1f} ms"
    return Miss(what=what, percentile=percentile, measured_ms=measured_ms, limit_ms=limit_ms, because=because)


def _unresolved(limits: Limits, point: Point) -> Miss:
    return Miss(
        what=Quantity.ITL,
        percentile=limits.percentile,
        measured_ms=figure_ms(point.itl_ms, limits.percentile),
        limit_ms=None,
        because=f"ITL limit not known: {limits.unresolved}",
    )
