"""What an engine did at several loads, beside what was expected of it there from its profile.

    what `make record expected` has kept -> rounds (a profile, then engines under loads) -> by batch and clients, how far off

Each round is held against the profile measured in it. What is expected is the product's own. Pure. Must never pick rounds.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from slm_core.codec import parse_document
from slm_core.configuration import EngineConfiguration
from slm_core.slo import Limits
from slm_operator.advisor.expectation import Expectation, curve_of

from benchmarks.foreign.windows import Step, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WITHIN = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen at one load in one round, beside what was expected there."""

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
    """One load in all rounds."""

    rounds: tuple[Seen, ...]

    @property
    def batch_size(self) -> int:
        """Of the engine."""
        return self.rounds[0].batch_size

    @property
    def clients(self) -> int:
        """In a closed loop."""
        return self.rounds[0].window.clients

    @property
    def throughput_fraction(self) -> float:
        """How far off tokens per second are, in the median of the rounds."""
        return median(one.throughput_fraction for one in self.rounds)

    @property
    def itl_fraction(self) -> float:
        """The same of mean ITL."""
        return median(one.itl_fraction for one in self.rounds)


def compared(rounds: Sequence[Mapping[str, Any]]) -> list[Compared]:
    """Every load of every engine, by batch and clients."""
    found: defaultdict[tuple[int, int], list[Seen]] = defaultdict(list)
    for kept in rounds:
        for seen in _of_round(kept):
            found[seen.batch_size, seen.window.clients].append(seen)
    return [Compared(tuple(found[load])) for load in sorted(found)]


def _of_round(kept: Mapping[str, Any]) -> Iterator[Seen]:
    points = parse_document(kept["document"]).points
    for step in map(Step.read, kept["steps"]):
        served = EngineConfiguration(batch_size=step.batch_size, max_num_batched_tokens=None)
        curve = curve_of(points, served, Limits())
        if curve is None:
            raise ValueError(f"nothing sound was measured: {points}")
        for window in step.windows:
            there = curve.at(window.in_flight)
            if there is None:
                raise ValueError(
                    f"nothing is expected with {window.in_flight} in flight of a batch of {step.batch_size}"
                )
            yield Seen(step.batch_size, window, there)


def table(loads: Sequence[Compared]) -> list[str]:
    """Every load with its medians, and how far off each figure was in which rounds."""
    rows = [
        "| batch | clients | in flight | tokens/s | expected | off by | mean ITL (ms) | expected | off by |",
        "|" + "---|" * 9,
    ]
    for one in loads:
        seen = Window.median([each.window for each in one.rounds])
        rate = median(each.expected.throughput_tokens_per_second for each in one.rounds)
        itl_ms = median(each.expected.itl_ms for each in one.rounds)
        off = (
            _off(one.throughput_fraction, [each.throughput_fraction for each in one.rounds]),
            _off(one.itl_fraction, [each.itl_fraction for each in one.rounds]),
        )
        rows.append(
            f"| {one.batch_size} | {one.clients} | {seen.in_flight:.1f} | {seen.throughput_tokens_per_second:,.0f} "
            f"| {rate:,.0f} | {off[0]} | {seen.itl_ms:.1f} | {itl_ms:.1f} | {off[1]} |"
        )
    return rows


def _off(middle: float, rounds: Sequence[float]) -> str:
    return f"{middle:+.1%} ({min(rounds):+.1%} to {max(rounds):+.1%})"
