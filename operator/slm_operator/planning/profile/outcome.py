"""What one look at a profile finds: its phase, its condition, what is done, and what status keeps. And the ways to say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.api.conditions import Finding
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.planning.actions import Delete

if TYPE_CHECKING:
    from slm_operator.api.profile import TriesStatus
    from slm_operator.planning.actions import Action
    from slm_operator.watch.records import JobRecord


AT_ONCE_SECONDS = 0.5
"""When to look again for the next step, once status shows this one."""
_WAITS = frozenset({Reason.QUEUED, Reason.WAITING_FOR_GPU, Reason.GPU_HELD_BY_REPLICAS, Reason.NO_POD, Reason.STARTING})
"""Reasons of a profile that waits for its turn or a GPU, or that has only just found one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One look."""

    phase: str
    finding: Finding
    actions: tuple[Action, ...] = ()
    extra: dict[str, Any] | None = None
    """Further fields of status."""
    tries: TriesStatus | None = None
    """Tries as they are from now on. None: as they were."""
    look_again_seconds: float | None = None

    is_open: bool = True
    """Whether what a try has measured so far is kept for the next one. Not, once it is in the measurements."""

    @property
    def waits(self) -> bool:
        """Whether it waits for its turn or a GPU."""
        return self.phase == "Pending" and self.finding.reason in _WAITS and not self.finding.stalls


def ready(reason: str, message: str) -> Finding:
    """It is measured."""
    return Finding(type=Condition.PROFILED, holds=True, reason=reason, message=message)


def not_yet(reason: str, message: str, *, stalls: bool = False) -> Finding:
    """It is not."""
    return Finding(type=Condition.PROFILED, holds=False, reason=reason, message=message, stalls=stalls)


def waiting(reason: str, message: str, seconds: float, *actions: Action) -> Outcome:
    """It goes on by itself."""
    return Outcome(phase="Pending", finding=not_yet(reason, message), actions=actions, look_again_seconds=seconds)


def held(reason: str, message: str) -> Outcome:
    """Nothing will be measured until spec is corrected."""
    return Outcome(phase="Pending", finding=not_yet(reason, message, stalls=True))


def failed(reason: str, message: str, *actions: Action) -> Outcome:
    """It is not tried again by itself."""
    return Outcome(phase="Failed", finding=not_yet(reason, message, stalls=True), actions=actions)


def retry_command(profile: str) -> str:
    """How a person has it tried at once. Each value asks once, so this gives a new one each time."""
    return f"kubectl annotate slmp {profile} {names.RETRY_ANNOTATION}=$(date +%s) --overwrite"


def without_job(job: JobRecord, because: str) -> tuple[Action, ...]:
    """The Job goes, and its pod with it."""
    if job.meta.deleting:
        return ()
    return (Delete(api_version="batch/v1", kind="Job", key=job.meta.key, uid=job.meta.uid, because=because),)
