"""What a served configuration does under the load of now, from the curve of what was measured of it, and how much more fits.

    points -> curve (knots by requests in flight, never falling) -> expectation at a load; headroom under the SLO

Figures are of one GPU in steady state. Between measured loads they lie on the line through the two next to it: of ITL, of
TTFT, and of the time in which all requests in flight gain one token each. From the least load to the next one an engine first
waits for its weights, however many requests share them, and then computes for each: there they lie half way between that line
and the one of larger loads. Below the least measured load there are bounds, and beyond full batches requests wait. Pure. Must
never say a figure beyond what was measured: there is none.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING

from slm_core.candidates import Rates, judge
from slm_core.latency_model import sweep_of
from slm_core.point_checks import SOUND
from slm_core.slo import METRICS
from slm_core.slo_check import figure_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from slm_core.configuration import EngineConfiguration
    from slm_core.measurements import Point
    from slm_core.slo import Limits, Metric


class Reach(StrEnum):
    """What an expectation rests on."""

    MEASURED = "Measured"
    """Loads next to it were measured."""
    BOUND = "Bound"
    """Less than was measured: at least so many tokens per second, at most such latencies."""
    WAITING = "Waiting"
    """More than batches hold: engines do what full batches do, and the others wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation(Rates):
    """What one GPU does with so many requests in flight."""

    in_flight: float
    reach: Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Knot(Rates):
    """What was measured with so many requests in flight on the GPU."""

    in_flight: float
    limited_ms: tuple[float | None, ...]
    """Of each metric the figure that the SLO limits, as METRICS has them, or one that it does not exceed. None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One configuration on one GPU, over requests in flight. Latencies and throughput never fall from knot to knot."""

    knots: tuple[Knot, ...]
    """By requests in flight, at least one."""
    full: int
    """Requests in flight that fill every batch."""
    output_tokens_mean: float

    def at(self, in_flight: float) -> Expectation | None:
        """What to expect there. None: more than was measured, though batches would hold it, or nothing in flight."""
        first, last, runs = self.knots[0], self.knots[-1], min(in_flight, self.full)
        if not 0 < in_flight < math.inf or runs > last.in_flight:
            return None
        waits_ms = 0.0
        knot = self._between(runs) if runs >= first.in_flight else _part(first, runs)
        if in_flight > self.full:
            # NB: who waits does so for his first token; by Little's law each place in the queue costs one request's time.
            waits_ms = 1000 * (in_flight - self.full) * self.output_tokens_mean / knot.output_tokens_per_second
        reach = Reach.WAITING if in_flight > self.full else Reach.MEASURED
        return Expectation(
            in_flight=in_flight,
            throughput_tokens_per_second=knot.throughput_tokens_per_second,
            output_tokens_per_second=knot.output_tokens_per_second,
            itl_ms=knot.itl_ms,
            ttft_ms=None if knot.ttft_ms is None else knot.ttft_ms + waits_ms,
            reach=reach if runs >= first.in_flight else Reach.BOUND,
        )

    def fits(self, limits: Limits) -> int | None:
        """Most requests in flight with which every limit holds and none waits. None: a limited figure was not measured.

        0 where the least measured load breaks a limit: what less would do is not known.
        """
        first, last = self.knots[0], self.knots[-1]
        asked = [(place, limit) for place, m in enumerate(METRICS) if (limit := m.limit_ms(limits)) is not None]
        if limits.unresolved or any(first.limited_ms[place] is None for place, _ in asked):
            return None

        def breaks(in_flight: int) -> bool:
            at = self._between(max(in_flight, first.in_flight)).limited_ms
            return any((figure := at[place]) is None or figure > limit for place, limit in asked)

        most = math.floor(min(self.full, last.in_flight))
        return bisect_left(range(1, most + 1), True, key=breaks)

    def headroom(self, in_flight: float, limits: Limits) -> int | None:
        """How many more requests fit on the GPU, beside those in flight. None: not known."""
        fits = self.fits(limits)
        return None if fits is None else max(0, fits - math.ceil(in_flight))

    def _between(self, in_flight: float) -> Knot:
        at = bisect_left(self.knots, in_flight, key=lambda knot: knot.in_flight)
        if self.knots[min(at, len(self.knots) - 1)].in_flight == in_flight or at == 0:
            return self.knots[at]
        low, high = self.knots[at - 1 : at + 1]
        return _mixed(low, high, _beyond(low, high, self.knots[at + 1 :]) if at == 1 else None, in_flight)


def curve_of(points: Iterable[Point], served: EngineConfiguration, limits: Limits) -> Curve | None:
    """The curve of a configuration from the sound points of its kind. None where there is none.

    One engine has its sweep: with fewer requests in flight than its batch holds it does what that smaller batch does. A
    pack has the points of packs with as many engines in its mode.
    """
    ordered = tuple(points)
    sound = [p for p in _of_kind(ordered, served) if judge(p, SOUND).passed and p.output_tokens_per_second > 0]
    full = served.batch_size * served.engines_per_gpu
    # NB: loads beyond full batches too, for they tell how the line of larger loads goes.
    chosen = [_of_load([p for p in sound if p.load == load], served) for load in sorted({p.load for p in sound})]
    if not chosen:
        return None
    return Curve(
        knots=tuple(_never_falling([_knot(p, limits) for p in chosen])),
        full=full,
        output_tokens_mean=chosen[-1].output_tokens_mean,
    )


def _of_kind(points: Sequence[Point], served: EngineConfiguration) -> Iterable[Point]:
    if served.engines_per_gpu > 1:
        kin = (served.engines_per_gpu, served.sharing_mode)
        return (p for p in points if (p.replicas, p.sharing_mode) == kin)
    swept = sweep_of(points)
    own = (p for p in points if p.replicas == 1 and p.batch_size == served.batch_size and p not in swept)
    return (*swept, *own)


def _of_load(points: Sequence[Point], served: EngineConfiguration) -> Point:
    """Of those with one load what is served itself, confirmed if it was, and the last of repetitions."""
    return max(reversed(points), key=lambda p: (p.batch_size == served.batch_size, p.confirmed, p.load == p.full_load))


def _knot(point: Point, limits: Limits) -> Knot:
    return Knot(
        in_flight=point.load,
        throughput_tokens_per_second=point.throughput_tokens_per_second,
        output_tokens_per_second=point.output_tokens_per_second,
        itl_ms=point.itl_ms.mean_ms,
        ttft_ms=point.ttft_ms.mean_ms if point.ttft_ms is not None else None,
        limited_ms=tuple(_limited(metric, point, limits) for metric in METRICS),
    )


def _limited(metric: Metric, point: Point, limits: Limits) -> float | None:
    latency = metric.of(point)
    return None if latency is None else figure_ms(latency, metric.statistic(limits))


def _never_falling(knots: Sequence[Knot]) -> Iterator[Knot]:
    """The same where noise has a larger load measured as less work or less wait: then as the smaller one.

    A limited figure that one load's samples do not support is taken from the next larger load, which can only be worse.
    """
    total = accumulate((k.throughput_tokens_per_second for k in knots), max)
    output = accumulate((k.output_tokens_per_second for k in knots), max)
    itl = accumulate((k.itl_ms for k in knots), max)
    ttft = _rising([k.ttft_ms for k in knots])
    limited = zip(*(_rising(_filled(one)) for one in zip(*(k.limited_ms for k in knots), strict=True)), strict=True)
    for knot, *figures in zip(knots, total, output, itl, ttft, limited, strict=True):
        names = ("throughput_tokens_per_second", "output_tokens_per_second", "itl_ms", "ttft_ms", "limited_ms")
        yield replace(knot, **dict(zip(names, figures, strict=True)))


def _rising(figures: Sequence[float | None]) -> list[float | None]:
    """What is known, no less than what was known before."""
    most, found = -math.inf, list[float | None]()
    for figure in figures:
        most = most if figure is None else max(most, figure)
        found.append(None if figure is None else most)
    return found


def _filled(figures: Sequence[float | None]) -> list[float | None]:
    """What is not known is what the next one is."""
    following, found = None, list[float | None]()
    for figure in reversed(figures):
        following = following if figure is None else figure
        found.append(following)
    return found[::-1]


def _beyond(low: Knot, high: Knot, larger: Sequence[Knot]) -> Knot | None:
    """The knot that tells how figures go on: as far from the two as they are apart, or it would tell of noise. None: none is larger."""
    width = high.in_flight - low.in_flight
    return next((k for k in larger if k.in_flight - high.in_flight >= width), larger[-1] if larger else None)


def _mixed(low: Knot, high: Knot, beyond: Knot | None, in_flight: float) -> Knot:
    """Between two measured loads. `beyond`: tells the line of larger loads, where that is to be heeded."""
    back = high.in_flight - in_flight
    part = 1 - back / (high.in_flight - low.in_flight)

    def between(one: float, other: float, further: float | None) -> float:
        """On the line, which is the most that it may be. The least is on the other line, and no less than what less load has."""
        line = one + part * (other - one)
        if beyond is None or further is None:
            return line
        slope = (further - other) / (beyond.in_flight - high.in_flight)
        return (line + min(line, max(one, other - slope * back))) / 2

    def known(one: float | None, other: float | None, further: float | None = None) -> float | None:
        return None if one is None or other is None else between(one, other, further)

    def rate(figure: Callable[[Knot], float]) -> float:
        """By the time in which all in flight gain one token: that is what lies on a line, and not the rate."""
        further = None if beyond is None else beyond.in_flight / figure(beyond)
        return in_flight / between(low.in_flight / figure(low), high.in_flight / figure(high), further)

    return Knot(
        in_flight=in_flight,
        throughput_tokens_per_second=rate(lambda knot: knot.throughput_tokens_per_second),
        output_tokens_per_second=rate(lambda knot: knot.output_tokens_per_second),
        itl_ms=between(low.itl_ms, high.itl_ms, None if beyond is None else beyond.itl_ms),
        ttft_ms=known(low.ttft_ms, high.ttft_ms, None if beyond is None else beyond.ttft_ms),
        # NB: the most that they may be, so that no more is said to fit than does.
        limited_ms=tuple(map(known, low.limited_ms, high.limited_ms)),
    )


def _part(least: Knot, in_flight: float) -> Knot:
    """The share of the least measured load: fewer requests in flight never get less each, nor wait longer."""
    part = in_flight / least.in_flight
    return replace(
        least,
        throughput_tokens_per_second=part * least.throughput_tokens_per_second,
        output_tokens_per_second=part * least.output_tokens_per_second,
    )
