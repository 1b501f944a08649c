"""The law that a decoding engine follows: one step of B sequences takes a + b B, so T(B) = B / (a + b B).

Exists so that few points stand for all ("Mind the Memory Gap", arXiv 2503.08311: fitted to 2-5 points it predicts the
others within a few per cent). Assumes full batches of one engine with one token budget per step. Must never be fed
marked points or packs, and never replaces a measurement: the advisor chooses measured points only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core import noise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slm_core.measurements import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """y = intercept + slope * B, with what the points left unexplained."""

    intercept: float
    slope: float
    noise_fraction: float
    """Weighted root mean square of the relative residuals; 0 when the line has no more points than parameters."""

    def at(self, batch_size: float) -> float:
        """The line's value at B."""
        return self.intercept + self.slope * batch_size

    def inverse(self, value: float) -> float:
        """The B at which the line reaches `value`; infinite for a flat line below it."""
        if self.slope > 0:
            return (value - self.intercept) / self.slope
        return math.inf if value >= self.intercept else -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the fit expects of one engine with full batches of B."""

    batch_size: int
    itl_ms: float
    """Mean inter-token latency."""
    output_tokens_per_second: float
    throughput_tokens_per_second: float
    """Input and output tokens per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Both lines of one engine, in milliseconds over B."""

    itl: Line
    """Mean inter-token latency."""
    turn: Line
    """Time for B sequences to gain one token each, B / T(B): ITL plus each token's part of waiting and prefill."""
    total_per_output: float
    """Input and output tokens for each output token, as measured."""

    @property
    def noise_fraction(self) -> float:
        """The larger residual noise of the two lines."""
        return max(self.itl.noise_fraction, self.turn.noise_fraction)

    def predict(self, batch_size: int) -> Prediction:
        """Latency and throughput at any B, measured or not."""
        output = 1000 * batch_size / self.turn.at(batch_size)
        return Prediction(
            batch_size=batch_size,
            itl_ms=self.itl.at(batch_size),
            output_tokens_per_second=output,
            throughput_tokens_per_second=output * self.total_per_output,
        )


def is_full_single(point: Point) -> bool:
    """One engine whose batch was kept full."""
    return point.replicas == 1 and (point.in_flight is None or point.in_flight >= point.batch_size)


def sweep_of(points: Iterable[Point]) -> tuple[Point, ...]:
    """The unmarked full-batch points of one engine, as the sweep ran it: with the first such point's token budget."""
    clean = [p for p in points if is_full_single(p) and p.is_trusted]
    return tuple(p for p in clean if p.max_num_batched_tokens == clean[0].max_num_batched_tokens)


def fit_points(points: Iterable[Point]) -> Fit | None:
    """Fit the sweep among `points` by least squares on relative errors. None with fewer than two different B."""
    sweep = [p for p in sweep_of(points) if p.output_tokens_per_second > 0]
    if len({p.batch_size for p in sweep}) < 2:
        return None
    sizes = [float(p.batch_size) for p in sweep]
    doubts = [noise.of_fitted_point(p.throughput_ci_fraction) for p in sweep]
    return Fit(
        itl=fit_line(sizes, [p.itl_ms.mean_ms for p in sweep], doubts),
        turn=fit_line(sizes, [1000 * p.batch_size / p.output_tokens_per_second for p in sweep], doubts),
        total_per_output=sum(p.throughput_tokens_per_second for p in sweep)
        / sum(p.output_tokens_per_second for p in sweep),
    )


def fit_line(xs: Sequence[float], ys: Sequence[float], noise_fractions: Sequence[float]) -> Line:
    """Weighted least squares of y = a + b x with a, b >= 0; each y is uncertain by its fraction. Needs two different x."""
    weights = [1 / (doubt * y) ** 2 for y, doubt in zip(ys, noise_fractions, strict=True)]
    total = sum(weights)
    mean_x = sum(w * x for w, x in zip(weights, xs, strict=True)) / total
    mean_y = sum(w * y for w, y in zip(weights, ys, strict=True)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, x in zip(weights, xs, strict=True))
    slope = sum(w * (x - mean_x) * (y - mean_y) for w, x, y in zip(weights, xs, ys, strict=True)) / spread
    intercept = mean_y - slope * mean_x
    if slope < 0:  # noise at flat ends: time per step never falls with B
        slope, intercept = 0.0, mean_y
    elif intercept < 0:
        slope = sum(w * x * y for w, x, y in zip(weights, xs, ys, strict=True)) / sum(
            w * x * x for w, x in zip(weights, xs, strict=True)
        )
        intercept = 0.0
    residuals = [((intercept + slope * x) / y - 1) ** 2 for x, y in zip(xs, ys, strict=True)]
    free = len(xs) - 2
    unexplained = math.sqrt(sum(residuals) / free) if free > 0 else 0.0
    return Line(intercept=intercept, slope=slope, noise_fraction=unexplained)
