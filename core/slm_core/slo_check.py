"""Whether a measured point keeps an SLO: its limits in milliseconds, and each one that the point misses.

Exists once, for the search that measures and for the advisor that decides: both must mean the same by "meets the SLO".
Must never read a missing figure as a kept limit: what the samples do not support is a miss of its own kind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slm_core.latency_model import fit_points, sweep_of
from slm_core.slo import FIGURE, ITL, METRICS, MIN_SAMPLES, REFERENCE_BATCH_SIZE, Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slm_core.measurements import Latency, Point
    from slm_core.slo import Metric, Slo, Statistic


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """One limit that a point breaks, or that it cannot be shown to keep."""

    what: Metric
    statistic: Statistic
    measured_ms: float | None
    """Absent: the samples do not support this statistic."""
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
    asked: dict[str, Any] = {metric.field: metric.limit_ms(slo) for metric in METRICS}
    statistics: dict[str, Any] = {metric.statistic_field: metric.statistic(slo) for metric in METRICS}
    limits = Limits(**asked, **statistics)
    if slo.itl_ms is not None:
        return replace(limits, itl_source="as asked")
    if slo.itl_factor is None:
        return limits
    itl_ms, how = _reference_itl_ms(points)
    if itl_ms is None:
        return replace(limits, unresolved=f"{slo.itl_factor:g} x ITL at B={REFERENCE_BATCH_SIZE}: {how}")
    return replace(
        limits,
        itl_ms=slo.itl_factor * itl_ms,
        itl_source=f"{slo.itl_factor:g} x {itl_ms:.2f} ms, the mean ITL {how} at B={REFERENCE_BATCH_SIZE}",
    )


def _reference_itl_ms(points: Iterable[Point]) -> tuple[float | None, str]:
    sweep = sweep_of(points)
    measured = next((p for p in sweep if p.batch_size == REFERENCE_BATCH_SIZE), None)
    if measured:
        return measured.itl_ms.mean_ms, "measured"
    fit = fit_points(sweep)
    if fit:
        return fit.predict(REFERENCE_BATCH_SIZE).itl_ms, "fitted (32 was not measured)"
    return None, "measure one engine at B=32, or at two other batch sizes"


def figure_ms(latency: Latency, statistic: Statistic) -> float | None:
    """The figure of a distribution, or None when its samples do not support it."""
    if latency.samples < MIN_SAMPLES[statistic]:
        return None
    figure: float | None = FIGURE[statistic](latency)
    return figure


def slo_misses(point: Point, limits: Limits) -> tuple[Miss, ...]:
    """Every limit that `point` breaks or cannot be shown to keep. Empty: it meets the SLO."""
    misses = [_unresolved(limits, point)] if limits.unresolved else []
    for metric in METRICS:
        limit_ms = metric.limit_ms(limits)
        if limit_ms is not None and (late := _miss(metric, limit_ms, metric.of(point), metric.statistic(limits))):
            misses.append(late)
    return tuple(misses)


def _miss(what: Metric, limit_ms: float, latency: Latency | None, statistic: Statistic) -> Miss | None:
    measured_ms = figure_ms(latency, statistic) if latency else None
    if measured_ms is None:
        needed, samples = MIN_SAMPLES[statistic] or 1, latency.samples if latency else 0
        few = f"{samples} samples do not support it ({needed} needed)"
        because = f"{statistic.lower()} {what.name} not known: {few if samples < needed else 'it was not recorded'}"
    elif measured_ms <= limit_ms:
        return None
    else:
        because = f"{statistic.lower()} {what.name} {measured_ms:.1f} ms exceeds {limit_ms:.1f} ms"
    return Miss(what=what, statistic=statistic, measured_ms=measured_ms, limit_ms=limit_ms, because=because)


def _unresolved(limits: Limits, point: Point) -> Miss:
    return Miss(
        what=ITL,
        statistic=limits.itl_statistic,
        measured_ms=figure_ms(point.itl_ms, limits.itl_statistic),
        limit_ms=None,
        because=f"ITL limit not known: {limits.unresolved}",
    )
