"""The table of what is expected of the advised configuration under less load, and more. Must never go beyond what was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from slm_operator.advisor.expectation import Reach, curve_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_core.measurements import MeasurementDocument
    from slm_core.slo import Limits

    from slm_operator.advisor.advice import Advice

LOAD_PARTS = (0.25, 0.5, 0.75, 1, 1.5)
"""Of full batches."""


def loads(document: MeasurementDocument, advice: Advice, limits: Limits) -> Iterator[tuple[str, ...]]:
    """One request, quarters of full batches, and half as many again, of which a third waits."""
    curve = curve_of(document.points, advice.configuration, limits)
    if curve is None:
        return
    for in_flight in sorted({1, *(math.ceil(curve.full * part) for part in LOAD_PARTS)}):
        if (there := curve.at(in_flight)) is None:
            continue
        more, less = ("≥ ", "≤ ") if there.reach is Reach.BOUND else ("", "")
        fits = curve.headroom(in_flight, limits)
        yield (
            f"{in_flight}",
            f"{more}{there.throughput_tokens_per_second:,.0f}",
            f"{less}{there.itl_ms:.1f}",
            "" if there.ttft_ms is None else f"{less}{there.ttft_ms:,.0f}",
            "" if fits is None else f"{fits}",
        )
