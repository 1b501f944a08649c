"""One SLMProfile: start its Job, follow it, keep what it measured.

    Pending --(room in the budget of concurrent profiles)--> Running --result--> Complete
       ^------------- the cluster ended it: again, after a pause ----|
       ^-- spec changed, or a person asks for another try --- Failed <-- the model or its spec ended it
    spec.measurements given: Imported
    Complete, and a deployment asks what it does not answer: extended, and Complete all the while

A profile waits for its GPU as long as it takes. Must never measure again what is measured, nor spend more GPU time than
spec.search.maxGpuMinutes in all tries together: it is the user's money. To measure anew, delete the profile.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.api.conditions import conditions
from slm_operator.api.reasons import Reason
from slm_operator.manifests.profile import disowned
from slm_operator.planning.actions import Apply, Plan
from slm_operator.planning.profile.advice import profile_advice
from slm_operator.planning.profile.ended import finished, kept_of
from slm_operator.planning.profile.extension import extended
from slm_operator.planning.profile.follow import waiting_since
from slm_operator.planning.profile.former import partial_status
from slm_operator.planning.profile.measuring import next_step
from slm_operator.planning.profile.outcome import Outcome, failed, held, ready
from slm_operator.planning.profile.retention import retention
from slm_operator.planning.profile.tries import asks_anew, is_made_here, spent_seconds, tries_of
from slm_operator.planning.status.events import transition_events
from slm_operator.planning.status.write import write_status

if TYPE_CHECKING:
    from datetime import datetime

    from slm_operator.planning.views import ProfileView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import ProfileRecord


def plan_profile(view: ProfileView, settings: Settings, now: datetime) -> Plan:
    """The next step of one profile."""
    record = view.profile
    if record.meta.deleting:
        return Plan()
    outcome, kept = _outcome(view, settings, now), retention(record, settings, now, is_used=view.used)
    status = _status(view, outcome, now) | profile_advice(view, outcome.phase, settings.prices, now)
    status |= {"unusedSince": kept.unused_since} if kept.unused_since else {}
    write = write_status(names.PROFILE_KIND, record.meta, status, f"the profile is {outcome.phase}")
    events = transition_events(names.PROFILE_KIND, record.meta, record.status, write.status)
    goes = () if kept.delete is None else (kept.delete,)
    soon = min((s for s in (outcome.look_again_seconds, kept.look_again_seconds) if s is not None), default=None)
    return Plan(actions=(*_disowned(record), *outcome.actions, write, *events, *goes), look_again_seconds=soon)


def _disowned(record: ProfileRecord) -> tuple[Apply, ...]:
    is_owned = any(owner.kind == names.DEPLOYMENT_KIND for owner in record.meta.owners)
    if not is_owned or record.spec is None or record.imported or not is_made_here(record):
        return ()
    because = "what was measured outlives the deployments that it was measured for"
    return (Apply(manifest=disowned(record, record.spec), because=because),)


def _outcome(view: ProfileView, settings: Settings, now: datetime) -> Outcome:
    record = view.profile
    if record.broken is not None or record.spec is None:
        because = record.broken or "spec cannot be read"
        found = failed(Reason.INVALID_PROFILE, because) if record.imported else held(Reason.INVALID_PROFILE, because)
        # NB: what this version cannot read, a newer one has measured, and finds again.
        stays = "Complete" if record.status.get("phase") == "Complete" else found.phase
        return replace(found, phase=stays, extra=kept_of(record))
    if record.imported:
        return Outcome(
            phase="Imported", finding=ready(Reason.IMPORTED, "the measurements were made elsewhere and imported")
        )
    phase, tries = record.status.get("phase"), tries_of(record)
    if phase == "Complete":
        return extended(view, record.spec, settings, now) or finished(view, str(phase), record.spec, tries)
    if phase == "Failed" and not asks_anew(record, tries):
        return finished(view, str(phase), record.spec, tries)
    return next_step(view, settings, now)


def _status(view: ProfileView, outcome: Outcome, now: datetime) -> dict[str, Any]:
    meta, old = view.profile.meta, view.profile.status
    tries_before = tries_of(view.profile)
    tries = (outcome.tries if outcome.tries is not None else tries_before).given()
    kept = tries if any(tries.values()) else None
    fields = (
        {
            "observedGeneration": meta.generation,
            "phase": outcome.phase,
            "conditions": conditions((outcome.finding,), old.get("conditions", ()), meta.generation, now),
            "product": _product(view),
            "gpuSeconds": tries_before.gpu_seconds + spent_seconds(view, tries_before) or None,
            "waitingSince": waiting_since(view, now) if outcome.waits else None,
            "tries": kept,
        }
        | (partial_status(view) if outcome.is_open else {})
        | (outcome.extra or {})
    )
    return {name: value for name, value in fields.items() if value is not None}


def _product(view: ProfileView) -> str | None:
    """What it was measured on, else what it is to be measured on; None: any."""
    measured = view.log.document or view.profile.measurements
    if measured is not None:
        return measured.gpu.product
    named = view.profile.spec.gpu.product if view.profile.spec is not None else None
    return named or (view.job.product if view.job is not None else None)
