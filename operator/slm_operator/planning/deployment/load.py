"""`status.load`: the load that the SLO monitor saw, what was measured there, and what was expected.

It changes with the verdict alone, which does not follow each figure. Must never keep what can no longer be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.api.conditions import rfc3339
from slm_operator.api.reasons import Reason
from slm_operator.planning.deployment.advising import figures_status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from slm_operator.slo.monitor import Verdict


def load_status(verdict: Verdict | None, former: Mapping[str, Any] | None, now: datetime) -> dict[str, Any] | None:
    """In camelCase, as `api.status.LoadStatus` describes it. Until an operator that just started has seen enough, as it was."""
    if verdict is None or verdict.reason == Reason.NO_TRAFFIC:
        return dict(former) if former else None
    figures = verdict.figures
    if figures is None:
        return None
    expected = figures.expected
    load = {
        "inFlightPerGpu": round(figures.in_flight, 1),
        "measured": figures_status(figures),
        "expected": figures_status(expected),
        "expectedAs": str(expected.reach) if expected is not None else None,
        "headroomPerGpu": figures.headroom,
    }
    known = {name: value for name, value in load.items() if value is not None}
    observed = dict(former or {})
    observed_time = observed.pop("observedTime", None)
    return known | {"observedTime": observed_time if observed_time and observed == known else rfc3339(now)}
