"""The SLO in the API: in the API, an object for each row of `slm_core.slo.METRICS`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from slm_core import slo
from slm_core.slo import ITL, ITL_FACTOR, METRICS, TTFT, Slo

from slm_operator.api.base import Part, cel, validations, within

Statistic = Literal["Mean", "P50", "P90", "P99"]


class ItlSpec(Part):
    """Inter-token latency: (last token - first token) / (tokens - 1)."""

    model_config = validations(
        cel("!(has(self.maxMs) && has(self.maxFactor))", "give maxMs or maxFactor, not both"),
    )
    max_ms: Annotated[float, within(ITL.limit)] | None = None
    """Longest inter-token latency, in milliseconds."""
    max_factor: Annotated[float, within(ITL_FACTOR)] | None = None
    """The same as a multiple of the one measured at batch 32, as in the paper. Default, when neither is given: 4."""
    statistic: Statistic = "Mean"
    """Which figure of all requests must stay under the limit."""


class TtftSpec(Part):
    """Time to first token."""

    max_ms: Annotated[float, within(TTFT.limit)]
    """Longest time to first token, in milliseconds."""
    statistic: Statistic = "Mean"
    """Which figure of all requests must stay under the limit."""


class LatencyLimits(Part):
    """Latency limits of a request, one object for each metric."""

    itl: ItlSpec = ItlSpec()
    """Inter-token latency: (last token - first token) / (tokens - 1)."""
    ttft: TtftSpec | None = None
    """Time to first token. Default: no limit."""

    def limits(self) -> Slo:
        """The same as the search and the advisor have it, without a default."""
        asked: dict[str, Any] = {}
        for metric in METRICS:
            limit: ItlSpec | TtftSpec | None = getattr(self, metric.key)
            if limit is None:
                continue
            asked |= {metric.field: limit.max_ms, metric.statistic_field: slo.Statistic(limit.statistic)}
            if metric.factor is not None:
                asked[metric.factor.field] = getattr(limit, "max_factor", None)
        return Slo(**asked)


class SloSpec(LatencyLimits):
    """Latency limits of a request, and what to do where they cannot be kept."""

    on_infeasible: Literal["BestEffort", "Hold"] = "BestEffort"
    """When no configuration meets the SLO: serve the closest one and say so, or deploy nothing."""


class Figures(Part):
    """Figures of one configuration on one GPU."""

    tokens_per_second_per_gpu: float
    """Input and output tokens per second over all engines of the GPU."""
    output_tokens_per_second_per_gpu: float
    """Output tokens per second over all engines of the GPU."""
    itl_ms: float
    """Mean inter-token latency in milliseconds."""
    ttft_ms: float | None = None
    """Mean time to first token in milliseconds."""
