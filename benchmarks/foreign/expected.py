"""What a real engine did at several loads, beside what was expected of it there from points of the profiler.

    what `make record expected` has kept (turns of a point or a window) -> by batch and clients, how far off

Each load and each point has a turn in every cycle, and is held against those of its own cycle: a machine that is slow for a while is
so for all of them. The middle of the cycles is told. What is expected is the product's own. Pure. Must never leave out a turn.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
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
class Seen:
    """One load of one engine in one cycle, beside what was expected there."""

    batch_size: int
    window: Window
    expected: Expectation

    @property
    def throughput_fraction(self) -> float:
        """Expected tokens per second over those seen, less 1."""
        return self.expected.throughput_tokens_per_second / self.window.throughput_tokens_per_second - 1

    @property
    def itl_fraction(self) -> float:
        """The same of mean ITL."""
        return self.expected.itl_ms / self.window.itl_ms - 1


@dataclass(frozen=True, slots=True)
class Compared:
    """One load of one engine in all cycles."""

    batch_size: int
    clients: int
    cycles: tuple[Seen, ...]

    @property
    def throughput_fraction(self) -> float:
        """How far off tokens per second are, in the middle of the cycles."""
        return median(one.throughput_fraction for one in self.cycles)

    @property
    def itl_fraction(self) -> float:
        """The same of mean ITL."""
        return median(one.itl_fraction for one in self.cycles)


def compared(turns: Sequence[Mapping[str, Any]]) -> list[Compared]:
    """Every load of every engine, by batch and clients. Raises ValueError where nothing is expected of one."""
    cycles: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    loads: defaultdict[tuple[int, int], list[Seen]] = defaultdict(list)
    for turn in turns:
        cycles[turn["cycle"]].append(turn)
    for cycle in cycles.values():
        for seen in _of_cycle(cycle):
            loads[seen.batch_size, seen.window.clients].append(seen)
    return [Compared(*load, tuple(loads[load])) for load in sorted(loads)]


def _of_cycle(turns: Sequence[Mapping[str, Any]]) -> Iterator[Seen]:
    knots = [parse(Point, turn["point"], "point") for turn in turns if "point" in turn]
    for turn in (turn for turn in turns if "window" in turn):
        batch_size, window = turn["batchSize"], Window.read(turn["window"])
        curve = curve_of(knots, EngineConfiguration(batch_size=batch_size, max_num_batched_tokens=None), Limits())
        there = curve.at(window.in_flight) if curve else None
        if there is None:
            raise ValueError(
                f"cycle {turn['cycle']}, batch {batch_size}, {window.clients} clients: nothing is expected"
            )
        yield Seen(batch_size, window, there)


def table(loads: Sequence[Compared]) -> list[str]:
    """Every load, each figure in the middle of the cycles."""
    rows = [
        "| batch | clients | in flight | tokens/s | expected | off by | mean ITL (ms) | expected | off by |",
        "|" + "---|" * 9,
    ]
    for one in loads:
        seen = Window.median([each.window for each in one.cycles])
        rate = median(each.expected.throughput_tokens_per_second for each in one.cycles)
        itl_ms = median(each.expected.itl_ms for each in one.cycles)
        rows.append(
            f"| {one.batch_size} | {one.clients} | {seen.in_flight:.1f} | {seen.throughput_tokens_per_second:,.0f} "
            f"| {rate:,.0f} | {one.throughput_fraction:+.1%} | {seen.itl_ms:.1f} | {itl_ms:.1f} | {one.itl_fraction:+.1%} |"
        )
    return rows
