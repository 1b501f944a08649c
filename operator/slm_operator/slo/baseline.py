"""What live figures are compared with: the limits, the advice's figures, and what was measured over the load. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_operator.slo.window import Asked, limited_percentiles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.candidates import Predicted

    from slm_operator.advisor.expectation import Curve
    from slm_operator.slo.judge import Expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The advised figures that live ones are compared with."""

    expected: Expected
    predicted: Predicted | None
    """What the advice predicts for one GPU at the load that it is for."""
    profile: str
    """Name of the SLMProfile that it rests on."""
    pods_per_gpu: int
    """Pods that share a GPU: the pages that are read for it."""
    curve: Curve | None = None
    """What was measured of this configuration, over requests in flight. None: nothing."""
    histograms: Mapping[str, str] = field(default_factory=dict)
    """Names of the engine's histograms, by key of the SLO metric."""

    @property
    def percentiles(self) -> tuple[str, ...]:
        """Keys of the metrics of which a percentile is limited: only they need histograms."""
        return limited_percentiles(self.expected.limits)

    def asked(self, pods_per_gpu: int | None = None) -> Asked:
        """What windows are read for."""
        pods = self.pods_per_gpu if pods_per_gpu is None else pods_per_gpu
        return Asked(limits=self.expected.limits, pods_per_gpu=pods, histograms=self.histograms)
