"""The SLO: the latency limits that a user sets, and the table of what may be limited.

Assumes ITL = (last token - first token) / (tokens - 1). Whether a point keeps an SLO is for `slo_check`.

`METRICS` is the table of what may be limited. A further metric is a row of it, a field of its name in `Slo`, `Limits`,
`Means` and `Latencies` here, in `measurements.Point` and in the API, the engine's counters of it, and what the load
generator samples; whoever measures, judges and prints walks the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from slm_core.tuning import Bounds, Default

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_core.counters import CounterDelta
    from slm_core.measurements import Latency, Point

REFERENCE_BATCH_SIZE = 32
"""The B whose mean ITL the factor form multiplies (arXiv 2503.08311, section 6)."""


class Statistic(StrEnum):
    """The figure of a latency distribution that must stay under the limit."""

    MEAN = "Mean"
    P50 = "P50"
    P90 = "P90"
    P99 = "P99"


MIN_SAMPLES = {Statistic.MEAN: 0, Statistic.P50: 7, Statistic.P90: 64, Statistic.P99: 459}
"""Samples without a miss that support a claim about each of them."""
FIGURE = {
    Statistic.MEAN: attrgetter("mean_ms"),
    Statistic.P50: attrgetter("p50_ms"),
    Statistic.P90: attrgetter("p90_ms"),
    Statistic.P99: attrgetter("p99_ms"),
}
"""Where a latency keeps each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor(Default[float]):
    """A limit as a multiple of what was measured at the reference batch."""

    field: str
    """Its name, wherever an SLO is written."""
    help: str
    """For a command line, without the default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One latency that an SLO may limit: how it is read, predicted, judged and printed."""

    name: str
    """In sentences, and as the name of its check."""
    field: str
    """Where a point keeps its distribution, and an SLO, limits and figures their milliseconds. Camel case in JSON."""
    key: str
    """Its name in the API's `slo`, and how the engine's counters of it begin (`Counters.itl_sum`)."""
    follows_line: bool
    """Its mean follows the line fitted over B, so that it can be predicted. Else only what was measured tells."""
    limit: Bounds
    """What the API admits as a limit, in milliseconds."""
    help: str
    """For a command line."""
    digits: int
    """Of milliseconds, in status."""
    factor: Factor | None = None
    """The other way to limit it."""

    def of(self, point: Point | Latencies) -> Latency | None:
        """Its distribution; None where it was not measured."""
        latency: Latency | None = getattr(point, self.field)
        return latency

    @property
    def statistic_field(self) -> str:
        """Where an SLO and limits keep which figure of its distribution is meant."""
        return f"{self.key}_statistic"

    def statistic(self, limits: Slo | Limits) -> Statistic:
        """The figure of its distribution that is limited."""
        found: Statistic = getattr(limits, self.statistic_field)
        return found

    def limit_ms(self, limits: Slo | Limits) -> float | None:
        """What it must not exceed; None without a limit."""
        limit: float | None = getattr(limits, self.field)
        return limit

    def is_limited(self, slo: Slo) -> bool:
        """Whether it has a limit, in either form."""
        return any(getattr(slo, one.field) is not None for one in (self, self.factor) if one is not None)

    def mean_ms(self, means: Means) -> float | None:
        """Its mean; None where it is not known."""
        mean: float | None = getattr(means, self.field)
        return mean

    def kept(self, figure_ms: float, limit_ms: float, statistic: Statistic) -> str:
        """The sentence of a kept limit."""
        return f"{statistic.lower()} {self.name} {figure_ms:.1f} ms is within {limit_ms:.1f} ms"


ITL_FACTOR = Factor(
    field="itl_factor",
    default=4.0,
    least=1,
    most=1000,
    help=f"the same, as a multiple of that at batch {REFERENCE_BATCH_SIZE}",
)
"""Where no limit on ITL is given, the paper's relaxed one holds. NB: `advise` takes any above 0, the API none below 1."""
ITL = Metric(
    name="ITL",
    field="itl_ms",
    key="itl",
    follows_line=True,
    limit=Bounds(above=0, most=60_000),
    help="most time between two tokens",
    digits=3,
    factor=ITL_FACTOR,
)
"""Inter-token latency. Every point has it."""
TTFT = Metric(
    name="TTFT",
    field="ttft_ms",
    key="ttft",
    follows_line=False,
    limit=Bounds(above=0, most=600_000),
    help="most time to the first token",
    digits=1,
)
"""Time to first token."""
METRICS = (ITL, TTFT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """Latency limits as the user wrote them. All absent: any latency will do."""

    itl_ms: float | None = None
    """Largest inter-token latency, in milliseconds. Wins over the factor."""
    itl_factor: float | None = None
    """The same as a multiple of the mean ITL of one engine with full batches of 32."""
    itl_statistic: Statistic = Statistic.MEAN
    """The figure of the inter-token latency that is limited."""
    ttft_ms: float | None = None
    """Largest time to first token, in milliseconds."""
    ttft_statistic: Statistic = Statistic.MEAN
    """The figure of the time to first token that is limited."""

    @classmethod
    def read(cls, source: object, prefix: str = "") -> Slo:
        """From whatever has attributes of these names: a part of the API, parsed arguments."""
        found: dict[str, Any] = {name: getattr(source, prefix + name) for name in LIMIT_FIELDS}
        found |= {m.statistic_field: Statistic(getattr(source, prefix + m.statistic_field)) for m in METRICS}
        return cls(**found)

    def or_default(self) -> Slo:
        """With the paper's relaxed limit, where ITL has none."""
        unlimited = self.itl_ms is None and self.itl_factor is None
        return replace(self, itl_factor=ITL_FACTOR.default) if unlimited else self


LIMITS = tuple(limit for metric in METRICS for limit in (metric, metric.factor) if limit is not None)
"""Whatever an SLO may limit, each way to do so, in the order in which they are shown."""
LIMIT_FIELDS = tuple(limit.field for limit in LIMITS)


def most_samples(slo: Slo) -> int:
    """Samples of each latency that support every limit that is asked. 0: means are enough."""
    asked = slo.or_default()
    return max((MIN_SAMPLES[m.statistic(asked)] for m in METRICS if m.is_limited(asked)), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """An SLO in milliseconds, resolved against the measurements."""

    itl_ms: float | None = None
    """Absent: no limit, unless `unresolved` says otherwise."""
    itl_statistic: Statistic = Statistic.MEAN
    ttft_ms: float | None = None
    ttft_statistic: Statistic = Statistic.MEAN
    itl_source: str = ""
    """Where the ITL limit comes from, in words."""
    unresolved: str | None = None
    """Why a requested ITL limit could not be computed. Nothing meets such a limit."""

    @property
    def on_line(self) -> Limits:
        """Of these only what the fitted line can predict: the means of metrics that follow it."""
        measured_only = [metric for metric in METRICS if not metric.follows_line]
        means: dict[str, Any] = {metric.statistic_field: Statistic.MEAN for metric in METRICS}
        return replace(self.without(measured_only), **means)

    def without(self, metrics: Iterable[Metric]) -> Limits:
        """The others alone. With ITL goes the reason why its limit could not be computed."""
        dropped: dict[str, Any] = {metric.field: None for metric in metrics}
        return replace(self, **dropped, unresolved=None if ITL.field in dropped else self.unresolved)

    def moved(self, factor: float) -> Limits:
        """Every limit that there is, times a factor."""
        limits = {metric.field: metric.limit_ms(self) for metric in METRICS}
        scaled: dict[str, Any] = {field: limit * factor for field, limit in limits.items() if limit is not None}
        return replace(self, **scaled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """The distributions of whatever was measured for a while."""

    itl_ms: Latency
    """Inter-token latency."""
    ttft_ms: Latency | None = None
    """Time to first token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Mean latencies in milliseconds."""

    itl_ms: float
    """Mean inter-token latency."""
    ttft_ms: float | None = None
    """Mean time to first token. Absent where it was not measured at this load."""


def means_of(point: Point | Latencies) -> dict[str, Any]:
    """The fields of `Means`, of a point as it stands."""
    return {m.field: latency.mean_ms for m in METRICS if (latency := m.of(point)) is not None}


def means_between(delta: CounterDelta) -> dict[str, Any]:
    """The fields of `Means` that engines counted in a stretch of time."""
    return {m.field: mean_ms for m in METRICS if (mean_ms := delta.mean_ms(m.key)) is not None}
