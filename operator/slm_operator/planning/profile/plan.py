"""One SLMProfile: start its Job, follow it, keep what it measured.

    Pending --(room in the budget of concurrent profiles)--> Running --result--> Complete
       ^------------- the cluster ended it: again, after a pause ----|
       ^-- spec changed, or a person asks for another try --- Failed <-- the model or its spec ended it
    spec.measurements given: Imported

A profile waits for its GPU as long as it takes. Must never measure again what is measured, nor spend more GPU time than
spec.search.maxGpuMinutes in all tries together: it is the user's money. To measure anew, delete the profile.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_core.codec import to_json

from slm_operator.api import names
from slm_operator.api.conditions import conditions, rfc3339
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.manifests.overlay import refused_fields
from slm_operator.manifests.profile import deadline_seconds, profile_job, request_digest
from slm_operator.planning.actions import Apply, Plan
from slm_operator.planning.profile.endings import Ended, Ending
from slm_operator.planning.profile.follow import FOLLOW_SECONDS, ended_so, follow, in_a_pause, waiting_since
from slm_operator.planning.profile.gpu import gpu_wait
from slm_operator.planning.profile.outcome import Outcome, failed, held, not_yet, ready, waiting, without_job
from slm_operator.planning.profile.room import bounded_by_room, place
from slm_operator.planning.profile.tries import (
    allowed_seconds,
    asks_anew,
    begun_anew,
    is_retry,
    is_spent,
    is_to_be_measured,
    spent_seconds,
    summary_of,
    tries_of,
    wait_until,
)
from slm_operator.planning.profile.turns import gives_its_place_up
from slm_operator.planning.status.events import transition_events
from slm_operator.planning.status.write import write_status

if TYPE_CHECKING:
    from datetime import datetime

    from slm_operator.api.profile import SLMProfileSpec, TriesStatus
    from slm_operator.planning.views import ProfileView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import JobRecord, ProfileRecord

AT_ONCE_SECONDS = 0.5
"""When to look again for the next step, once status shows this one."""
_WAITS = frozenset({Reason.QUEUED, Reason.WAITING_FOR_GPU, Reason.GPU_HELD_BY_REPLICAS, Reason.NO_POD, Reason.STARTING})
"""Reasons of a profile that waits for its turn or a GPU, or that has only just found one."""


def plan_profile(view: ProfileView, settings: Settings, now: datetime) -> Plan:
    """The next step of one profile."""
    record = view.profile
    if record.meta.deleting:
        return Plan()
    outcome = _outcome(view, settings, now)
    status = _status(view, outcome, now)
    write = write_status(names.PROFILE_KIND, record.meta, status, f"the profile is {outcome.phase}")
    events = transition_events(names.PROFILE_KIND, record.meta, record.status, write.status)
    return Plan(actions=(*outcome.actions, write, *events), look_again_seconds=outcome.look_again_seconds)


def _outcome(view: ProfileView, settings: Settings, now: datetime) -> Outcome:
    record = view.profile
    if record.broken is not None or record.spec is None:
        because = record.broken or "spec cannot be read"
        return failed(Reason.INVALID_PROFILE, because) if record.imported else held(Reason.INVALID_PROFILE, because)
    if record.imported:
        return Outcome(
            phase="Imported", finding=ready(Reason.IMPORTED, "the measurements were made elsewhere and imported")
        )
    phase, tries = record.status.get("phase"), tries_of(record)
    if phase == "Complete" or (phase == "Failed" and not asks_anew(record, tries)):
        return _finished(view, str(phase), record.spec, tries)
    refused = refused_fields(record.spec.pod_template or {}, settings.nodes.opt_in_label)
    if refused:
        return held(Reason.INVALID_POD_TEMPLATE, "; ".join(refused))
    if view.refused_because is not None:
        return waiting(Reason.REFUSED, f"the API server refuses the profile's Job: {view.refused_because}", 30.0)
    if view.job is None:
        return _without_job(view, record.spec, tries, settings, now)
    return _with_job(view, view.job, record.spec, settings, now)


def _with_job(view: ProfileView, job: JobRecord, spec: SLMProfileSpec, settings: Settings, now: datetime) -> Outcome:
    tries = tries_of(view.profile)
    if job.meta.uid == tries.job:  # status counts it: a restart from here on finds it counted
        because = "its try has ended, and the next one has a Job of its own"
        soon = FOLLOW_SECONDS if job.meta.deleting else AT_ONCE_SECONDS
        now_so = begun_anew(view.profile, tries) if asks_anew(view.profile, tries) else tries
        return replace(in_a_pause(view, now_so, settings, soon), actions=without_job(job, because))
    if _has_changed(job, view.profile) and not _has_begun(view):
        because = "the profile's spec was changed, or another try asked for, before anything was measured: its Job is made again"
        again = waiting(Reason.STARTING, because, 10.0, *without_job(job, because))
        return replace(again, tries=begun_anew(view.profile, tries) if tries.job is not None else None)
    if gives_its_place_up(view, now):
        return _give_place(view, job, spec, settings, now)
    return follow(view, job, tries, settings, now)


def _without_job(
    view: ProfileView, spec: SLMProfileSpec, tries: TriesStatus, settings: Settings, now: datetime
) -> Outcome:
    record = view.profile
    if spent_seconds(view, tries) > 0:  # it cost GPU time, and is gone with its Job
        return ended_so(view, tries, Ended(Ending.POD_GONE), settings, now)
    waits = tries.next_try_time is not None
    if (waits or record.status.get("phase") == "Failed") and asks_anew(record, tries):
        because = "its spec was changed, or another try is asked for"
        return replace(waiting(Reason.STARTING, because, AT_ONCE_SECONDS), tries=begun_anew(record, tries))
    if is_spent(spec, tries, settings):
        return held(Reason.BUDGET_SPENT, _spent(spec, tries, settings))
    until = wait_until(tries, now)
    if until is not None:
        seconds = max(1.0, (until - now).total_seconds())
        return in_a_pause(view, tries.model_copy(update={"next_try_time": rfc3339(until)}), settings, seconds)
    if not is_to_be_measured(record):  # first status must say that it seeks a GPU, for those who count places
        cleared = tries.model_copy(update={"next_try_time": None})
        return replace(waiting(Reason.QUEUED, "its turn is looked for", AT_ONCE_SECONDS), tries=cleared)
    if view.paused:
        return waiting(Reason.PAUSED, "every SLMDeployment that it is for has spec.paused: nothing is measured", 30.0)
    return _start(view, spec, tries, settings) if view.turn.has_come else _queued(view, settings, now)


def _spent(spec: SLMProfileSpec, tries: TriesStatus, settings: Settings) -> str:
    by_admin = allowed_seconds(spec, settings) < spec.search.max_gpu_minutes * 60
    bound = "config.tenancy.maxGpuMinutesPerProfile" if by_admin else "spec.search.maxGpuMinutes"
    return (
        f"{summary_of(tries, spec, settings)}, and the rest holds no further try: raise {bound}, or delete the profile"
    )


def _queued(view: ProfileView, settings: Settings, now: datetime) -> Outcome:
    places, turn = settings.profiling.concurrent, view.turn
    since = f"It waits since {waiting_since(view, now)}"
    if turn.bound is not None:
        bound = f"{turn.bound} of namespace {view.profile.meta.key.namespace}"
        why = f"{bound} run, which is all that tenancy.maxProfilesPerNamespace allows"
    elif turn.running < places:
        why = f"{turn.running} profiles are running, others come first, of {places} places"
    else:
        why = f"{turn.running} profiles are running, which is all that profiling.concurrent allows"
    return waiting(Reason.QUEUED, f"{why}. {since}", 10.0)


def _start(view: ProfileView, spec: SLMProfileSpec, tries: TriesStatus, settings: Settings) -> Outcome:
    asked, most = spec.search.max_gpu_minutes, settings.tenancy.max_gpu_minutes_per_profile
    cut = f", for {most:g} GPU minutes and not {asked:g}: tenancy.maxGpuMinutesPerProfile" if asked > most else ""
    left = min(asked, most) if tries.gpu_seconds == 0 else round(min(asked, most) - tries.gpu_seconds / 60, 2)
    rest = f", for the {left:g} GPU minutes that former tries left" if tries.gpu_seconds else cut
    bounded = spec.model_copy(update={"search": spec.search.model_copy(update={"max_gpu_minutes": left})})
    bounded, fewer = bounded_by_room(view, bounded, settings)
    profiling, where = settings.profiling, place(view, spec.gpu, settings)
    job = profile_job(view.profile, bounded, profiling.image, where, profiling.priority_class_name)
    may_last = deadline_seconds(bounded) / 60
    slack = f"its pod may be on a node for {may_last:g} minutes, images and the model's download included"
    return Outcome(
        phase="Pending",
        finding=not_yet(Reason.STARTING, f"the profile's Job is being created{rest}{fewer}; {slack}"),
        actions=(Apply(manifest=job, because="no profile of this model, engine, GPU and workload exists yet"),),
        tries=tries.model_copy(update={"next_try_time": None}),
        look_again_seconds=FOLLOW_SECONDS,
    )


def _give_place(view: ProfileView, job: JobRecord, spec: SLMProfileSpec, settings: Settings, now: datetime) -> Outcome:
    """Somebody else may measure meanwhile: nothing of this one has begun."""
    pod = view.pod
    why = (
        "no pod was made for its Job, for which a quota may be the reason: see the Job's events"
        if pod is None
        else f"no whole GPU is free for the profile: {gpu_wait(view, spec.gpu, settings)}"
    )
    because = (
        f"{why}. Another profile waits for its place; its turn comes again. It waits since {waiting_since(view, now)}"
    )
    return waiting(Reason.QUEUED, because, 10.0, *without_job(job, because))


def _has_changed(job: JobRecord, record: ProfileRecord) -> bool:
    """Whether the Job was made for another node, template or budget than the spec has now, or another try is asked for.

    NB: a Job cannot be changed.
    """
    assert record.spec is not None
    is_other = job.request is not None and job.request != request_digest(record.spec)
    return is_other or is_retry(record.retry, job.retry)


def _has_begun(view: ProfileView) -> bool:
    """Whether GPU time has been spent on the measurement, which a new Job would waste."""
    ended = view.job is not None and (view.job.finished or view.log.has_ended)
    return ended or (view.pod is not None and view.pod.phase != "Pending")


_KEPT = ("measurements", "summary", "gpuSeconds", "product", "node", "progress")


def _finished(view: ProfileView, phase: str, spec: SLMProfileSpec, tries: TriesStatus) -> Outcome:
    """Status holds the result: the Job has done its work. The rest of status stays as it is."""
    old, said, job = view.profile.status, _condition(view), view.job
    finding = replace(
        not_yet(str(said.get("reason", phase)), str(said.get("message", "")), stalls=phase == "Failed"),
        holds=phase == "Complete",
    )
    goes = job is not None and job.finished and phase == "Complete"  # a failed one stays for its log
    because = "its measurements are in the profile's status"
    # NB: a profile that failed under an earlier version of the operator has no digest of what it failed with.
    adopted = tries.model_copy(update={"request": request_digest(spec)})
    return Outcome(
        phase=phase,
        finding=finding,
        actions=without_job(job, because) if job is not None and goes else (),
        extra={name: to_json(old[name]) for name in _KEPT if name in old},
        tries=adopted if phase == "Failed" and tries.request is None else tries,
    )


def _condition(view: ProfileView) -> dict[str, Any]:
    """The condition Profiled as it stands."""
    said = view.profile.status.get("conditions", ())
    return next((dict(one) for one in said if one.get("type") == Condition.PROFILED), {})


def _status(view: ProfileView, outcome: Outcome, now: datetime) -> dict[str, Any]:
    meta, old = view.profile.meta, view.profile.status
    tries_before = tries_of(view.profile)
    tries = (outcome.tries if outcome.tries is not None else tries_before).given()
    kept = tries if any(tries.values()) else None
    waits = outcome.phase == "Pending" and outcome.finding.reason in _WAITS and not outcome.finding.stalls
    fields = {
        "observedGeneration": meta.generation,
        "phase": outcome.phase,
        "conditions": conditions((outcome.finding,), old.get("conditions", ()), meta.generation, now),
        "product": _product(view),
        "gpuSeconds": tries_before.gpu_seconds + spent_seconds(view, tries_before) or None,
        "waitingSince": waiting_since(view, now) if waits else None,
        "tries": kept,
    } | (outcome.extra or {})
    return {name: value for name, value in fields.items() if value is not None}


def _product(view: ProfileView) -> str | None:
    """What it was measured on, else what it is to be measured on; None: any."""
    measured = view.log.document or view.profile.measurements
    if measured is not None:
        return measured.gpu.product
    return view.profile.spec.gpu.product if view.profile.spec is not None else None
