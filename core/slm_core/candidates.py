"""Candidates: measured configurations with the results of their checks.

The search, which measures, and the advisor, which decides, share this module. Both must mean the same by "which
measurement counts" and "what failed"; the choice among those that pass is `choice`. Assumes measured points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from slm_core.configuration import EngineConfiguration
from slm_core.slo import Means, means_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from slm_core.measurements import Point

    Question = Callable[[Point], "Check"]
    """One small question about one point."""


class Source(StrEnum):
    """Where a part of the advice comes from."""

    MEASURED = "Measured"
    """From a measured point."""
    PREDICTED = "Predicted"
    """Between measured points, on the line ITL = a + b B fitted to them."""
    ESTIMATED = "Estimated"
    """From the model's configuration and the GPU's data sheet. Never enough for a pack."""
    USER_CHOICE = "UserChoice"
    """The user said so."""


class Verdict(StrEnum):
    """What became of a candidate."""

    CHOSEN = "Chosen"
    KEPT = "Kept"
    """Passed every check, and another did better."""
    REJECTED = "Rejected"
    """Failed the last check of its list."""


class CheckName(StrEnum):
    """The questions, in the order of their chain: the further a candidate came, the nearer it is."""

    SHARING = "Sharing"
    """Does the user allow it?"""
    SLICE_LIMIT = "SliceLimit"
    """Can the device plugin make so many slices?"""
    PREEMPTION = "Preemption"
    """Did the engine keep every sequence that it had begun?"""
    TRUSTED = "Trusted"
    """No doubt and no failed request?"""
    PRECISION = "Precision"
    """Is its interval narrow enough to say anything?"""
    CONFIRMED = "Confirmed"
    """Does this point decide, measured with the KV bytes that would be given?"""
    MEMORY = "Memory"
    """Does it fit its slice?"""
    SLO = "SLO"
    """Does it keep the limits?"""
    LOAD = "Load"
    """Does it hold at the requested load?"""
    EFFICIENCY = "Efficiency"
    """Does one engine still gain by so large a batch?"""
    GAIN = "Gain"
    """Is a pack better than the best single engine?"""
    NOISE = "Noise"
    """Not to be distinguished from the best: chosen for its latency, or kept for another's. Nothing fails it."""
    RANK = "Rank"
    """Chosen, or behind the choice. Nothing fails it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One small question about one candidate, with its answer and its numbers."""

    name: CheckName
    passed: bool
    because: str
    """The answer as a sentence for a person."""
    value: float = 0.0
    """The figure that was compared. 0 where there is none, infinite where it is not known."""
    limit: float = 0.0
    """What it was compared with. 0 where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates(Means):
    """What one GPU does in steady state."""

    throughput_tokens_per_second: float
    """Input and output tokens per second per GPU."""
    output_tokens_per_second: float
    """Generated tokens per second per GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted(Rates):
    """What is expected from one GPU in steady state, at the load that was decided for."""

    configuration: EngineConfiguration
    """Of which."""
    source: Source = Source.MEASURED
    """Measured, Predicted or Estimated."""
    ci_fraction: float | None = None
    """Half width of the 95 % confidence interval of throughput where it was measured. Absent: a single run without one."""
    fit_fraction: float | None = None
    """What the fit left unexplained, of a prediction by it."""
    joules_per_token: float | None = None
    """Energy of the whole board for a token. None: not measured; no line predicts it."""

    @classmethod
    def of(cls, point: Point) -> Predicted:
        """The figures of a point as they stand."""
        return cls(
            configuration=EngineConfiguration.of(point),
            throughput_tokens_per_second=point.throughput_tokens_per_second,
            output_tokens_per_second=point.output_tokens_per_second,
            ci_fraction=point.throughput_ci_fraction,
            joules_per_token=point.joules_per_token,
            **means_of(point),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One measured configuration and what was found when it was judged."""

    point: Point
    """The measurement."""
    checks: tuple[Check, ...] = ()
    """In the order in which they were made. The first that fails is the last."""
    predicted: Predicted | None = None
    """Its figures at the decided load, where they are not the point's own."""
    chosen: bool = False
    """Whether it is what is served."""

    @property
    def passed(self) -> bool:
        """Whether nothing failed yet."""
        return all(check.passed for check in self.checks)

    @property
    def verdict(self) -> Verdict:
        """What became of it."""
        if not self.passed:
            return Verdict.REJECTED
        return Verdict.CHOSEN if self.chosen else Verdict.KEPT

    @property
    def last(self) -> Check:
        """The check that tells the verdict: why it was chosen or kept, or the one that it failed."""
        return self.checks[-1]

    @property
    def because(self) -> str:
        """Why it was chosen, kept or rejected: the sentence of its last check."""
        return self.last.because

    @property
    def throughput(self) -> float:
        """Tokens per second at the decided load."""
        return self.figures.throughput_tokens_per_second

    @property
    def figures(self) -> Predicted:
        """Its figures at the decided load, for a rejected candidate only where they were needed."""
        return self.predicted or Predicted.of(self.point)

    def then(self, check: Check) -> Candidate:
        """With one more check."""
        return replace(self, checks=(*self.checks, check))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What makes one point a repetition of another."""

    configuration: EngineConfiguration
    in_flight: int | None

    @classmethod
    def of(cls, point: Point) -> Measurement:
        """What a point repeats where another has the same."""
        return cls(configuration=EngineConfiguration.of(point), in_flight=point.in_flight)


def deciding(points: Iterable[Point]) -> dict[Measurement, Point]:
    """Of repetitions the last, in the order in which they were measured; but none unconfirmed after a confirmed one."""
    found: dict[Measurement, Point] = {}
    for point in points:
        before = found.get(Measurement.of(point))
        if before is None or point.confirmed or not before.confirmed:
            found[Measurement.of(point)] = point
    return found


def judge(point: Point, questions: Iterable[Question]) -> Candidate:
    """Ask one question after the other, up to the first that fails: that one is the reason."""
    judged = Candidate(point=point)
    for question in questions:
        judged = judged.then(question(point))
        if not judged.passed:
            break
    return judged
