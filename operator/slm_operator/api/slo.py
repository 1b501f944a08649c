"""What a request is promised, and what is expected of one: in the API, a field for each row of `slm_core.slo.METRICS`."""

from __future__ import annotations

from typing import Annotated, Literal

from slm_core.slo import ITL, ITL_FACTOR, TTFT

from slm_operator.api.parts import Part, cel, validations, within


class SloSpec(Part):
    """What a request is promised."""

    model_config = validations(
        cel("!(has(self.itlMs) && has(self.itlFactor))", "give itlMs or itlFactor, not both"),
    )
    itl_ms: Annotated[float, within(ITL.limit)] | None = None
    """Inter-token latency in milliseconds: (last token - first token) / (tokens - 1)."""
    itl_factor: Annotated[float, within(ITL_FACTOR)] | None = None
    """Inter-token latency as a multiple of the one measured at batch 32, as in the paper. Default, when neither is given: 4."""
    ttft_ms: Annotated[float, within(TTFT.limit)] | None = None
    """Time to first token in milliseconds."""
    percentile: Literal["Mean", "P50", "P90", "P99"] = "Mean"
    """At which percentile of requests the limits hold."""
    on_infeasible: Literal["BestEffort", "Hold"] = "BestEffort"
    """When no configuration meets the SLO: serve the closest one and say so, or deploy nothing."""


class Prediction(Part):
    """Figures of one configuration on one GPU."""

    throughput_tokens_per_second: float
    """Input and output tokens per second over all engines of the GPU."""
    itl_ms: float
    """Mean inter-token latency in milliseconds."""
    ttft_ms: float | None = None
    """Mean time to first token in milliseconds."""
