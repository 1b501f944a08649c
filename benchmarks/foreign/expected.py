"""What a real engine did at several loads, beside what was expected of it there from points of the profiler.

    what `make record expected` has kept (turns of a point or a window) -> by batch and clients, how far off

Each load has had a turn in every cycle, and the middle one by tokens per second is taken, of points as of windows. What is expected
is the product's own. Pure. Must never leave out a turn.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_core.codec import parse
from slm_core.configuration import EngineConfiguration
from slm_core.measurements import Point
from slm_core.slo import Limits
from slm_operator.advisor.expectation import Expectation, curve_of

from benchmarks.foreign.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WITHIN = 0.1


@dataclass(frozen=True, slots=True)
class Compared:
    """One load of one engine, in the middle of the cycles, beside what was expected there."""

    batch_size: int
    seen: Window
    slowest: Window
    fastest: Window
    expected: Expectation

    @property
    def throughput_fraction(self) -> float:
        """Expected tokens per second over those seen, less 1."""
        return self.expected.throughput_tokens_per_second / self.seen.throughput_tokens_per_second - 1

    @property
    def itl_fraction(self) -> float:
        """The same of mean ITL."""
        return self.expected.itl_ms / self.seen.itl_ms - 1


def compared(turns: Sequence[Mapping[str, Any]]) -> list[Compared]:
    """Every load of every engine, by batch and clients. Raises ValueError where nothing is expected of one."""
    points, windows = defaultdict[int, list[Point]](list), defaultdict[tuple[int, int], list[Window]](list)
    for turn in turns:
        if "point" in turn:
            point = parse(Point, turn["point"], "point")
            points[point.batch_size].append(point)
        else:
            window = Window.read(turn["window"])
            windows[turn["batchSize"], window.clients].append(window)
    knots = [sorted(several, key=_rate)[len(several) // 2] for _, several in sorted(points.items())]
    return list(_compared(knots, windows))


def _compared(knots: Sequence[Point], windows: Mapping[tuple[int, int], Sequence[Window]]) -> Iterator[Compared]:
    for (batch_size, clients), several in sorted(windows.items()):
        curve = curve_of(knots, EngineConfiguration(batch_size=batch_size, max_num_batched_tokens=None), Limits())
        slowest, *_, fastest = by_speed = sorted(several, key=_rate)
        seen = by_speed[len(by_speed) // 2]
        there = curve.at(seen.in_flight) if curve else None
        if there is None:
            raise ValueError(f"batch {batch_size}, {clients} clients: nothing is expected there")
        yield Compared(batch_size, seen, slowest, fastest, there)


def _rate(one: Point | Window) -> float:
    return one.throughput_tokens_per_second


def table(loads: Sequence[Compared]) -> list[str]:
    """Every load, with the slowest and the fastest of its cycles."""
    rows = [
        "| batch | clients | in flight | tokens/s | expected | off by | mean ITL (ms) | expected | off by |",
        "|" + "---|" * 9,
    ]
    for one in loads:
        seen, there = one.seen, one.expected
        slowest, fastest = (each.throughput_tokens_per_second for each in (one.slowest, one.fastest))
        rows.append(
            f"| {one.batch_size} | {seen.clients} | {seen.in_flight:.1f} "
            f"| {seen.throughput_tokens_per_second:,.0f} ({slowest:,.0f} to {fastest:,.0f}) "
            f"| {there.throughput_tokens_per_second:,.0f} | {one.throughput_fraction:+.1%} "
            f"| {seen.itl_ms:.1f} | {there.itl_ms:.1f} | {one.itl_fraction:+.1%} |"
        )
    return rows
