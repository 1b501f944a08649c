"""Conditions: what tools and people read first.

`Ready`, `Reconciling` and `Stalled` follow kstatus (sigs.k8s.io/cli-utils, pkg/kstatus): Reconciling or Stalled is
present and True while the object is in that state, and absent otherwise. A condition keeps its transition time while its status stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


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


def conditions(  # noqa: PLR0913 - what a status is made of
    findings: Iterable[Finding],
    former: Iterable[Mapping[str, Any]],
    generation: int,
    now: datetime,
    informational: Iterable[Finding] = (),
    *,
    ready: Finding | None = None,
) -> list[dict[str, Any]]:
    """All conditions for status: the findings in order, preceded by Ready and, while they apply, Reconciling or Stalled.

    Ready is False for the first finding that does not hold, or as it is given. `informational` is reported too and does
    not affect Ready.
    """
    ordered = list(findings)
    blocking = next((finding for finding in ordered if finding.holds is not True), None)
    summary = [ready or _ready(blocking)]
    if blocking is not None:
        kind = Condition.STALLED if blocking.stalls else Condition.RECONCILING
        summary.append(Finding(type=kind, holds=True, reason=blocking.reason, message=blocking.message))
    times = {str(old.get("type")): old for old in former}
    reported = (*summary, *ordered, *informational)
    return [_condition(finding, times.get(finding.type), generation, now) for finding in reported]


def waiting(findings: Sequence[Finding], steps: Iterable[Condition]) -> list[Finding]:
    """Unknown, reason Waiting, for those of the steps without a finding: they cannot be judged yet."""
    blocking = next((finding.type for finding in findings if finding.holds is False), None)
    message = "cannot be judged yet" if blocking is None else f"cannot be judged before {blocking} holds"
    known = {finding.type for finding in findings}
    return [
        Finding(type=step, holds=None, reason=Reason.WAITING, message=message) for step in steps if step not in known
    ]


def _ready(blocking: Finding | None) -> Finding:
    if blocking is None:
        return Finding(
            type=Condition.READY, holds=True, reason=Reason.READY, message="all requested resources are available"
        )
    return Finding(type=Condition.READY, holds=False, reason=blocking.reason, message=blocking.message)


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """The condition of this type in anybody's status; None without it."""
    return next((one for one in status.get("conditions") or () if one.get("type") == kind), None)


def rfc3339(moment: datetime) -> str:
    """A moment as every Kubernetes API writes it, in whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str | None) -> datetime | None:
    """A time that an API wrote; None where it cannot be read, or names no zone."""
    try:
        read = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return read if read.tzinfo is not None else None


def _condition(finding: Finding, old: Mapping[str, Any] | None, generation: int, now: datetime) -> dict[str, Any]:
    status = _STATUS[finding.holds]
    kept = old.get("lastTransitionTime") if old is not None and old.get("status") == status else None
    return {
        "type": str(finding.type),
        "status": status,
        "reason": str(finding.reason),
        "message": finding.message,
        "lastTransitionTime": kept or rfc3339(now),
        "observedGeneration": generation,
    }
