"""What an engine does that somebody else set up: its figures at its own batch, and what advice would change.

    document, SLO, settings, batch -> present figures -> difference to the advice

Assumes one engine with a GPU, or a measured pack. A figure is measured, or on the line between measured points, by the same
law as everywhere; beyond them there is none. Only whether a limit on mean ITL is broken can be said further out, because
a step of more sequences never takes less time. Pure. Must never call a configuration kept that nobody measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from slm_core import noise
from slm_core.candidates import CheckName, Predicted, Source, judge
from slm_core.configuration import EngineConfiguration
from slm_core.latency_model import fit_points, sweep_of
from slm_core.load import is_at
from slm_core.point_checks import SOUND
from slm_core.slo import Statistic
from slm_core.slo_check import slo_misses

from slm_operator.advisor.context import make_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.decision import Basis
    from slm_core.latency_model import Fit
    from slm_core.measurements import MeasurementDocument, Point
    from slm_core.slo import Limits, Slo

    from slm_operator.advisor.advice import Advice, Settings
    from slm_operator.advisor.context import Context


class Standing(StrEnum):
    """Whether the SLO holds."""

    KEEPS = "Keeps"
    BREAKS = "Breaks"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """One engine as it runs."""

    batch_size: int | None
    """None: not known."""
    figures: Predicted | None
    """None: nothing that was measured tells them."""
    standing: Standing
    because: str
    """Where the figures come from and which limit is broken, or why there are none, as a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What the advice would change."""

    throughput_fraction: float
    """Tokens per second of the advice over those of now, less 1."""
    itl_fraction: float
    """Mean ITL, the same."""
    noise_fraction: float
    """What a difference in throughput may be by chance, at 95 %."""

    @property
    def is_noise(self) -> bool:
        """Whether chance alone may explain the difference in throughput."""
        return abs(self.throughput_fraction) <= self.noise_fraction


def present(
    document: MeasurementDocument, slo: Slo, settings: Settings, batch_size: int | None, unknown: str = ""
) -> Present:
    """The figures of an engine with this batch at the decided load. `unknown`: why its batch is not known.

    Raises nothing for a question that `advise` answers.
    """
    if batch_size is None:
        return Present(batch_size=None, figures=None, standing=Standing.UNKNOWN, because=unknown)
    context = make_context(document, slo, settings, Source.MEASURED)
    engines = settings.engines_per_gpu or 1
    modes = {p.sharing_mode for p in context.basis.points if p.replicas == engines}
    if settings.mode is None and len(modes) > 1:
        why = f"{engines} engines were measured as {' and as '.join(sorted(modes))}: say how they share the GPU"
        return Present(batch_size=batch_size, figures=None, standing=Standing.UNKNOWN, because=why)
    measured = _measured(context, batch_size, engines)
    if measured is not None:
        return _of_point(context, measured, batch_size)
    if engines > 1:
        why = f"{engines} engines with {batch_size} sequences each were not measured"
        return Present(batch_size=batch_size, figures=None, standing=Standing.UNKNOWN, because=why)
    return _of_line(context, batch_size)


def difference(now: Present, advice: Advice) -> Difference | None:
    """What changes; None where either has no figures."""
    before, after = now.figures, advice.predicted
    if before is None or after is None:
        return None
    fits = [one.fit_fraction for one in (before, after) if one.fit_fraction is not None]
    return Difference(
        throughput_fraction=after.throughput_tokens_per_second / before.throughput_tokens_per_second - 1,
        itl_fraction=after.itl_ms / before.itl_ms - 1,
        noise_fraction=noise.of_comparison(before.ci_fraction, after.ci_fraction, fit_fraction=max(fits, default=None)),
    )


def _runs(context: Context, batch_size: int, engines: int) -> int:
    """Sequences that each engine has running: no more than the load brings."""
    asked = context.basis.in_flight
    return batch_size if asked is None else max(1, min(batch_size, -(-asked // engines)))


def _measured(context: Context, batch_size: int, engines: int) -> Point | None:
    """The point that counts for these engines at this load: its own, or full batches of what would run."""
    runs, basis = _runs(context, batch_size, engines), context.basis
    points = [p for p in basis.points if p.replicas == engines]
    if context.settings.mode is not None and engines > 1:
        points = [p for p in points if p.sharing_mode is context.settings.mode]
    own = [p for p in points if p.batch_size == batch_size and is_at(p, basis.in_flight)]
    same = [p for p in points if p.batch_size == runs and is_at(p, None)]
    found = own or same
    return _counting(basis, found)


def _counting(basis: Basis, points: Sequence[Point]) -> Point | None:
    """Of repetitions the confirmed one, else the sound one that came last."""
    ordered = sorted(points, key=lambda p: (p.confirmed, judge(p, SOUND).passed, p in basis.deciding.values()))
    return ordered[-1] if ordered else None


def _of_point(context: Context, point: Point, batch_size: int) -> Present:
    sound = judge(point, SOUND)
    if not sound.passed:
        doubted = sound.last.name is CheckName.PREEMPTION or not point.is_trusted
        because = f"measured at B={point.batch_size}, and {sound.last.because}"
        figures = None if doubted else _figures(point, batch_size)
        return Present(batch_size=batch_size, figures=figures, standing=Standing.UNKNOWN, because=because)
    standing, because = _judged(point, context.basis.wanted.limits)
    at = "" if point.batch_size == batch_size else f" at the {point.batch_size} that run there"
    return Present(
        batch_size=batch_size,
        figures=_figures(point, batch_size),
        standing=standing,
        because=f"measured{at}; {because}",
    )


def _figures(point: Point, batch_size: int) -> Predicted:
    return replace(Predicted.of(point), configuration=replace(EngineConfiguration.of(point), batch_size=batch_size))


def _judged(point: Point, limits: Limits) -> tuple[Standing, str]:
    misses = slo_misses(point, limits)
    if not misses:
        return Standing.KEEPS, "it keeps the SLO"
    broken = [miss for miss in misses if not miss.unknown]
    standing = Standing.BREAKS if broken else Standing.UNKNOWN
    return standing, ", and ".join(miss.because for miss in broken or misses)


def _of_line(context: Context, batch_size: int) -> Present:
    """Between measured points by their line; beyond them nothing but a limit that the largest one breaks already."""
    points, limits = context.basis.points, context.basis.wanted.limits
    sweep = [p for p in sweep_of(points) if judge(p, SOUND).passed]
    runs, fit = _runs(context, batch_size, 1), fit_points(points)
    largest = max(sweep, key=lambda p: p.batch_size, default=None)
    if fit is None or largest is None or runs < min(p.batch_size for p in sweep):
        because = f"B={batch_size} was not measured, and too few points are there to tell"
        return Present(batch_size=batch_size, figures=None, standing=Standing.UNKNOWN, because=because)
    if runs > largest.batch_size:
        return _beyond(largest, limits, batch_size)
    figures = _on_line(fit, runs, batch_size)
    limit_ms = _mean_itl_limit_ms(limits)
    if limit_ms is not None and figures.itl_ms > limit_ms:
        standing, said = Standing.BREAKS, f"mean ITL {figures.itl_ms:.1f} ms exceeds {limit_ms:.1f} ms"
    elif limits != limits.on_line or limits.unresolved:
        standing, said = (
            Standing.UNKNOWN,
            "whether it keeps every limit is not known, for only mean ITL can be predicted",
        )
    else:
        standing, said = Standing.KEEPS, "it keeps the SLO"
    because = f"predicted between measured points; {said}"
    return Present(batch_size=batch_size, figures=figures, standing=standing, because=because)


def _on_line(fit: Fit, runs: int, batch_size: int) -> Predicted:
    at = fit.predict(runs)
    return Predicted(
        configuration=EngineConfiguration(batch_size=batch_size, max_num_batched_tokens=None),
        throughput_tokens_per_second=at.throughput_tokens_per_second,
        output_tokens_per_second=at.output_tokens_per_second,
        itl_ms=at.itl_ms,
        source=Source.PREDICTED,
        fit_fraction=fit.noise_fraction,
    )


def _mean_itl_limit_ms(limits: Limits) -> float | None:
    """The one limit that the line can judge. None: there is none."""
    return limits.itl_ms if limits.itl_statistic is Statistic.MEAN else None


def _beyond(largest: Point, limits: Limits, batch_size: int) -> Present:
    """NB: of the latencies only mean ITL is known never to fall with B."""
    limit_ms, itl_ms = _mean_itl_limit_ms(limits), largest.itl_ms.mean_ms
    because = f"B={batch_size} is more than was measured, {largest.batch_size} at most, so its figures are not known"
    standing = Standing.UNKNOWN
    if limit_ms is not None and itl_ms > limit_ms:
        standing = Standing.BREAKS
        because += f"; full batches break the SLO, as B={largest.batch_size} does: mean ITL {itl_ms:.1f} ms exceeds {limit_ms:.1f} ms"
    return Present(batch_size=batch_size, figures=None, standing=standing, because=because)
