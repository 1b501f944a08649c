"""A profile with its result: status keeps what it says, and the Job goes that has done its work."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_core.codec import to_json

from slm_operator.api.names import Condition
from slm_operator.manifests.profile import request_digest
from slm_operator.planning.profile.outcome import Outcome, not_yet, without_job
from slm_operator.planning.profile.tries import is_made_here

if TYPE_CHECKING:
    from slm_operator.api.profile import SLMProfileSpec, TriesStatus
    from slm_operator.planning.views import ProfileView
    from slm_operator.watch.records import ProfileRecord

KEPT = ("measurements", "summary", "gpuSeconds", "product", "node", "progress", "answered")
"""Fields of status that stay as they are once something is measured."""


def finished(view: ProfileView, phase: str, spec: SLMProfileSpec, tries: TriesStatus) -> Outcome:
    """Status holds the result: the Job has done its work. The rest of status stays as it is."""
    said, job = _condition(view), view.job
    finding = replace(
        not_yet(str(said.get("reason", phase)), str(said.get("message", "")), stalls=phase == "Failed"),
        holds=phase == "Complete",
    )
    # A failed one stays for its log, while somebody may look. One that status counts has nothing more to say, though it may still run.
    is_done = job is not None and (job.finished or job.meta.uid == tries.job) and phase == "Complete"
    is_left = job is not None and phase == "Failed" and is_made_here(view.profile) and not view.used
    because = (
        "its words are in status, and nobody needs it" if is_left else "its measurements are in the profile's status"
    )
    # NB: a profile that failed under an earlier version of the operator has no digest of what it failed with.
    adopted = tries.model_copy(update={"request": request_digest(spec)})
    return Outcome(
        phase=phase,
        finding=finding,
        actions=without_job(job, because) if job is not None and (is_done or is_left) else (),
        extra=kept_of(view.profile),
        tries=adopted if phase == "Failed" and tries.request is None else tries,
        is_open=phase == "Failed",
    )


def _condition(view: ProfileView) -> dict[str, Any]:
    """The condition Profiled as it stands."""
    said = view.profile.status.get("conditions", ())
    return next((dict(one) for one in said if one.get("type") == Condition.PROFILED), {})


def kept_of(record: ProfileRecord) -> dict[str, Any]:
    """What status says of the measurements, as it is."""
    return {name: to_json(record.status[name]) for name in KEPT if name in record.status}
