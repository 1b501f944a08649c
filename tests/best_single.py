"""What any number of engines on a GPU has to beat, found by the published formula instead of the advisor's own path.

Must never ask the advisor for its choice: tests compare the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.batching import choose
from slm_core.candidates import CheckName
from slm_core.slo_check import resolve

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument
    from slm_core.slo import Slo
    from slm_operator.advisor.advice import Advice


def fastest_single(document: MeasurementDocument, slo: Slo, min_efficiency: float, advice: Advice) -> float | None:
    """Its tokens per second. None: no single engine satisfies.

    Where a pack keeps the SLO, the least efficiency of one engine does not count: it exists to leave room for packs.
    """
    pack_counts = any(check.name is CheckName.GAIN for candidate in advice.candidates for check in candidate.checks)
    found = choose(document.points, resolve(slo, document.points), 0.0 if pack_counts else min_efficiency)
    return found.fastest and found.fastest.point.throughput_tokens_per_second
