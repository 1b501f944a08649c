"""Conditions: what tools and people read first.

`Ready`, `Reconciling` and `Stalled` follow kstatus (sigs.k8s.io/cli-utils, pkg/kstatus): Reconciling or Stalled is
present and True while that is so, and absent otherwise. A condition keeps its transition time while its status stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One condition, as a plan found it."""

    type: Condition
    holds: bool | None
    """None is Unknown."""
    reason: str
    message: str
    stalls: bool = False
    """Only a change of spec or of the cluster by somebody else can help."""


_STATUS = {True: "True", False: "False", None: "Unknown"}


def conditions(
    findings: Iterable[Finding],
    former: Iterable[Mapping[str, Any]],
    generation: int,
    now: datetime,
    aside: Finding | None = None,
) -> list[dict[str, Any]]:
    """All conditions for status: the findings in order, preceded by Ready and, while they apply, Reconciling or Stalled.

    Ready is False for the first finding that does not hold; the steps after it are Unknown by nature and are left out.
    `aside` is told too and has no part in Ready.
    """
    ordered = list(findings)
    blocking = next((finding for finding in ordered if finding.holds is not True), None)
    summary = [_ready(blocking)]
    if blocking is not None:
        kind = Condition.STALLED if blocking.stalls else Condition.RECONCILING
        summary.append(Finding(type=kind, holds=True, reason=blocking.reason, message=blocking.message))
    times = {str(old.get("type")): old for old in former}
    told = (*summary, *ordered, *([aside] if aside is not None else []))
    return [_condition(finding, times.get(finding.type), generation, now) for finding in told]


def _ready(blocking: Finding | None) -> Finding:
    if blocking is None:
        return Finding(type=Condition.READY, holds=True, reason=Reason.READY, message="all that was asked for is so")
    return Finding(type=Condition.READY, holds=False, reason=blocking.reason, message=blocking.message)


def _condition(finding: Finding, old: Mapping[str, Any] | None, generation: int, now: datetime) -> dict[str, Any]:
    status = _STATUS[finding.holds]
    kept = old.get("lastTransitionTime") if old is not None and old.get("status") == status else None
    return {
        "type": str(finding.type),
        "status": status,
        "reason": str(finding.reason),
        "message": finding.message,
        "lastTransitionTime": kept or now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "observedGeneration": generation,
    }
