"""The next step of one measurement that is due: its turn, its Job, and what follows from how that goes.

Of a profile's first measurement and of one that extends it alike: what differs is the question in its spec, and who reads
the outcome. Must never spend more GPU time than spec.search.maxGpuMinutes in all tries together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_core.wording import several

from slm_operator.api.conditions import rfc3339
from slm_operator.api.reasons import Reason
from slm_operator.manifests.former import going_on
from slm_operator.manifests.overlay import refused_fields
from slm_operator.manifests.profile import deadline_seconds, profile_job, request_digest
from slm_operator.planning.actions import Apply
from slm_operator.planning.profile.endings import Ended, Ending
from slm_operator.planning.profile.follow import FOLLOW_SECONDS, ended_so, follow, in_a_pause, waiting_since
from slm_operator.planning.profile.former import former_of
from slm_operator.planning.profile.gpu import gpu_wait
from slm_operator.planning.profile.outcome import AT_ONCE_SECONDS, Outcome, held, not_yet, waiting, without_job
from slm_operator.planning.profile.product import chosen, has_left, on_product
from slm_operator.planning.profile.room import bounded_by_room, place
from slm_operator.planning.profile.tries import (
    allowed_seconds,
    asks_anew,
    begun_anew,
    is_made_here,
    is_retry,
    is_spent,
    is_to_be_measured,
    spent_seconds,
    summary_of,
    tries_of,
    wait_until,
)
from slm_operator.planning.profile.turns import gives_its_place_up

if TYPE_CHECKING:
    from datetime import datetime

    from slm_operator.api.profile import SLMProfileSpec, TriesStatus
    from slm_operator.planning.views import ProfileView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import JobRecord, ProfileRecord


def next_step(view: ProfileView, settings: Settings, now: datetime) -> Outcome:
    """The next step of a profile that is to be measured."""
    record = view.profile
    assert record.spec is not None
    refused = refused_fields(record.spec.pod_template or {}, settings.nodes.opt_in_label)
    if refused:
        return held(Reason.INVALID_POD_TEMPLATE, "; ".join(refused))
    if view.refused_because is not None:
        return waiting(Reason.REFUSED, f"the API server refuses the profile's Job: {view.refused_because}", 30.0)
    if view.job is None:
        return _without_job(view, record.spec, tries_of(record), settings, now)
    return _with_job(view, view.job, record.spec, settings, now)


def _with_job(view: ProfileView, job: JobRecord, spec: SLMProfileSpec, settings: Settings, now: datetime) -> Outcome:
    is_chosen = spec.gpu.product is None
    spec = on_product(spec, job.product)
    view = replace(view, profile=replace(view.profile, spec=spec))
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
    if is_chosen and has_left(view, job.product, settings) and not _has_begun(view):
        because = f"no node that opted in has {job.product} any more, and nothing is measured on it: a product is chosen again"
        return waiting(Reason.STARTING, because, AT_ONCE_SECONDS, *without_job(job, because))
    if _is_unused(view) and not _has_begun(view):
        because = "nobody needs it any more, and nothing of it has been measured"
        return replace(_unused(), actions=without_job(job, because))
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
        return held(Reason.BUDGET_SPENT, _spent(record, tries, settings))
    until = wait_until(tries, now)
    if until is not None:
        seconds = max(1.0, (until - now).total_seconds())
        return in_a_pause(view, tries.model_copy(update={"next_try_time": rfc3339(until)}), settings, seconds)
    if not is_to_be_measured(record):  # first status must say that it seeks a GPU, for those who count places
        cleared = tries.model_copy(update={"next_try_time": None})
        return replace(waiting(Reason.QUEUED, "its turn is looked for", AT_ONCE_SECONDS), tries=cleared)
    if _is_unused(view):
        return _unused()
    if view.paused:
        return waiting(Reason.PAUSED, "every SLMDeployment that it is for has spec.paused: nothing is measured", 30.0)
    return _start(view, spec, tries, settings) if view.turn.has_come else _queued(view, settings, now)


def _is_unused(view: ProfileView) -> bool:
    """Whether it was made for deployments that are gone. NB: what is being measured for them goes on: it is kept."""
    return is_made_here(view.profile) and not view.used


def _unused() -> Outcome:
    return waiting(Reason.UNUSED, "no SLMDeployment needs it: it is measured once one does, or delete it", 300.0)


def _spent(record: ProfileRecord, tries: TriesStatus, settings: Settings) -> str:
    spec = record.spec
    assert spec is not None
    by_admin = allowed_seconds(spec, settings) < spec.search.max_gpu_minutes * 60
    extends = record.measurements is not None  # NB: then it is what the deployment allows that asks
    own = "spec.profiling.maxGpuMinutes of the SLMDeployment" if extends else "spec.search.maxGpuMinutes"
    bound = "config.tenancy.maxGpuMinutesPerProfile" if by_admin else own
    or_else = "" if extends else ", or delete the profile"
    return f"{summary_of(tries, spec, settings)}, and the rest holds no further try: raise {bound}{or_else}"


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
    former = former_of(view.profile)
    rest += f", on from {several(len(former.points), 'measured point')}" if former is not None else ""
    choice = chosen(view, spec.gpu, settings)
    bounded = spec.model_copy(update={"search": spec.search.model_copy(update={"max_gpu_minutes": left})})
    bounded = on_product(bounded, choice.product)
    bounded, fewer = bounded_by_room(view, bounded, settings)
    job = profile_job(view.profile, bounded, settings, place(view, bounded.gpu, settings))
    may_last = deadline_seconds(bounded) / 60
    slack = f"its pod may be on a node for {may_last:g} minutes, images and the model's download included"
    return Outcome(
        phase="Pending",
        finding=not_yet(Reason.STARTING, f"the profile's Job is being created{choice.because}{rest}{fewer}; {slack}"),
        actions=(Apply(manifest=going_on(job, former), because="what is asked of it is not measured yet"),),
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
