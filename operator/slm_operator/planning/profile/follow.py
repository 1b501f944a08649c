"""A profile whose Job is there: what its pod waits for, how far it is, what it measured, and what follows when it ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from slm_core.codec import to_json

from slm_operator.api.conditions import moment, rfc3339
from slm_operator.api.reasons import Reason
from slm_operator.manifests.profile import request_digest, template_digest
from slm_operator.planning.containers import remedy
from slm_operator.planning.profile.contention import both_in_a_quota, both_want, replicas_in_the_way
from slm_operator.planning.profile.endings import Ending, ending_of
from slm_operator.planning.profile.gpu import gpu_wait
from slm_operator.planning.profile.outcome import (
    AT_ONCE_SECONDS,
    Outcome,
    failed,
    not_yet,
    ready,
    retry_command,
    waiting,
    without_job,
)
from slm_operator.planning.profile.room import bounded_by_room
from slm_operator.planning.profile.tries import allowed_seconds, counted, spent_seconds, summary_of

if TYPE_CHECKING:
    from datetime import datetime

    from slm_core.measurements import MeasurementDocument

    from slm_operator.api.profile import TriesStatus
    from slm_operator.planning.profile.endings import Ended
    from slm_operator.planning.views import ProfileView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import JobRecord, PodRecord

FOLLOW_SECONDS = 3.0
"""How often a running profile's log is read."""
POD_SECONDS = 30.0
"""How long Kubernetes usually needs at most to make a Job's pod."""
_LOOK = "kubectl describe pod has the kubelet's words"
OTHER_TEMPLATE = "It was measured under the pod template that spec had then: delete the profile to measure anew"
TOO_LATE = (
    "Spec was changed after the measurement had begun, which goes on as it was: delete the profile to measure anew"
)


def follow(view: ProfileView, job: JobRecord, tries: TriesStatus, settings: Settings, now: datetime) -> Outcome:
    """The next step of a profile whose Job stands."""
    has_begun = view.log.has_begun or spent_seconds(view, tries) > 0
    ended = ending_of(view, now, has_begun=has_begun)
    document = view.log.document
    if document is not None and document.points and _is_the_result(view, document, tries, ended, settings):
        return _measured(view, document, tries, settings)
    if ended is not None:
        return ended_so(view, tries, ended, settings, now)
    return _goes_on(view, job, settings, now)


def _is_the_result(
    view: ProfileView, document: MeasurementDocument, tries: TriesStatus, ended: Ended | None, settings: Settings
) -> bool:
    """Whether what was measured is kept.

    A document that the cluster cut short is worth less than a further try, if the budget holds one as long as this one was.
    """
    if document.complete or (ended is not None and not ended.consequence.again):
        return True
    if ended is None:
        return view.pod is None  # the pod's last word tells why it is incomplete
    assert view.profile.spec is not None
    spent = spent_seconds(view, tries)
    return allowed_seconds(view.profile.spec, settings) - tries.gpu_seconds - spent < spent


def ended_so(view: ProfileView, tries: TriesStatus, ended: Ended, settings: Settings, now: datetime) -> Outcome:
    """A try that ended without a result is counted. Its Job goes once status shows that."""
    never_ran = ended.ending in {Ending.IMAGE_LATE, Ending.NOT_CREATED}
    helps = _remedy(view, view.pod) if view.pod is not None and never_ran else None
    ended = ended if helps is None else replace(ended, said=f"{ended.said}: {helps}")
    after = counted(view, tries, ended, now)
    spent = {"gpuSeconds": after.gpu_seconds or None}
    name = view.profile.meta.key.name
    if not ended.consequence.again:
        reason = view.log.failure_class if ended.ending is Ending.ENGINE_FAILED else None
        own_words = ended.said if ended.ending is Ending.ENGINE_FAILED else f"the profile's pod: {ended}"
        # NB: the spec of a measured profile is immutable, and it is tried again for who asks.
        by = "" if view.profile.measurements is not None else "by a change of the profile's spec, or "
        again = f"When it is corrected, it is tried again {by}by: {retry_command(name)}"
        job = view.job
        goes = without_job(job, "its words are in status") if job is not None and job.finished and reason else ()
        outcome = failed(reason or Reason.PROFILE_FAILED, f"{own_words}. {again}", *goes)
        return replace(outcome, tries=after, extra=spent)
    return replace(in_a_pause(view, after, settings, 0.5), extra=spent)


def in_a_pause(view: ProfileView, tries: TriesStatus, settings: Settings, seconds: float) -> Outcome:
    """Until the next try."""
    assert view.profile.spec is not None
    due = f"It is tried again at {tries.next_try_time}, or at once: {retry_command(view.profile.meta.key.name)}"
    again = "It is tried again now" if tries.next_try_time is None else due
    message = f"{summary_of(tries, view.profile.spec, settings)}. {again}"
    return replace(waiting(Reason.AWAITING_RETRY, message, seconds), tries=tries)


def _goes_on(view: ProfileView, job: JobRecord, settings: Settings, now: datetime) -> Outcome:
    pod, log = view.pod, view.log
    if pod is None:
        return _without_pod(view, job, now)
    if pod.meta.deleting:
        why = pod.disrupted_because or "it was deleted"
        return waiting(Reason.STARTING, f"pod {pod.meta.key.name} is being ended: {why}", FOLLOW_SECONDS)
    obstacle = _obstacle(view, pod, settings, now)
    if obstacle is not None:
        return waiting(*obstacle, 10.0)
    message = log.doing or f"the engine is starting{_deadline(pod)}"
    if view.profile.spec is not None and job.request not in (None, request_digest(view.profile.spec)):
        message += f". {TOO_LATE}"
    summary = "starting" if log.point is None else f"point {log.point}" + (f"/{log.of}" if log.of else "")
    progress = {"point": log.point or 0, "message": message} | ({"of": log.of} if log.of else {})
    return Outcome(
        phase="Running",
        finding=not_yet(Reason.MEASURING, f"{summary}: {message}"),
        extra={"progress": progress, "summary": summary, "node": pod.node},
        look_again_seconds=FOLLOW_SECONDS,
    )


def _without_pod(view: ProfileView, job: JobRecord, now: datetime) -> Outcome:
    made = moment(job.created)
    if made is None or (now - made).total_seconds() < POD_SECONDS:
        return waiting(Reason.STARTING, "the profile's pod is being created", FOLLOW_SECONDS)
    message = (
        f"Kubernetes has made no pod for Job {job.meta.key.name} since {job.created}, and goes on trying: a quota of the "
        "namespace, an admission policy, or a PriorityClass that does not exist; kubectl describe job has its words. "
        f"{both_in_a_quota(view)}"
    )
    return waiting(Reason.NO_POD, message, 10.0)


def _obstacle(view: ProfileView, pod: PodRecord, settings: Settings, now: datetime) -> tuple[str, str] | None:
    """Reason and message of what keeps the pod from measuring."""
    if pod.node is None and pod.unscheduled_because is None:
        return Reason.STARTING, "the profile's pod is being placed"
    if pod.node is None:
        spec = view.profile.spec
        assert spec is not None
        ours = replicas_in_the_way(view, spec.gpu, settings)
        why = f"no whole GPU is free for the profile: {gpu_wait(view, spec.gpu, settings)}"
        both = f". {both_want(view, ours, settings)}" if ours else ""
        since = f"It waits since {waiting_since(view, now)} (scheduler: {pod.unscheduled_because})"
        return Reason.GPU_HELD_BY_REPLICAS if ours else Reason.WAITING_FOR_GPU, f"{why}{both}. {since}"
    if pod.stuck is not None:
        where = f"pod {pod.meta.key.name} cannot start: {pod.stuck}"
        again = f"A corrected Secret is tried at once by: {retry_command(view.profile.meta.key.name)}"
        helps = _remedy(view, pod) or _LOOK
        return pod.stuck.reason, f"{where}{_deadline(pod)}. {helps}. {again}"
    return None


def _remedy(view: ProfileView, pod: PodRecord) -> str | None:
    return remedy(pod, view.profile.spec.engine if view.profile.spec is not None else None)


def _deadline(pod: PodRecord) -> str:
    """Until when it may be on its node, while nothing is measured."""
    accepted = moment(pod.accepted)
    if accepted is None or pod.deadline_seconds is None:
        return ""
    until = rfc3339(accepted + timedelta(seconds=pod.deadline_seconds))
    return f" (pod {pod.meta.key.name} has until {until} for its images, the model's download and the measurement)"


def _measured(view: ProfileView, document: MeasurementDocument, tries: TriesStatus, settings: Settings) -> Outcome:
    assert view.profile.spec is not None
    points = len(document.points)
    _, fewer = bounded_by_room(view, view.profile.spec, settings)
    message = f"{points} points measured" + (
        fewer if document.complete else f"; ended early: {document.incomplete_because}"
    )
    made_with = view.job.template if view.job is not None else None
    if made_with not in {None, template_digest(view.profile.spec)}:
        message += f". {OTHER_TEMPLATE}"
    extra = {"measurements": to_json(document), "summary": f"{points} points"}
    if view.pod is not None and view.pod.node is not None:
        extra["node"] = view.pod.node
    return Outcome(
        phase="Complete",
        finding=ready(Reason.MEASURED if document.complete else Reason.MEASURED_IN_PART, message),
        extra=extra,
        tries=tries.model_copy(update={"next_try_time": None}),
        look_again_seconds=AT_ONCE_SECONDS,  # its Job goes, and what else is asked of it is looked at
        is_open=False,
    )


def waiting_since(view: ProfileView, now: datetime) -> str:
    """Since when it waits for its turn or a GPU: as status says, else since its Job was made, else now."""
    job = view.job
    made = moment(job.created) if job is not None else None
    return str(view.profile.status.get("waitingSince") or rfc3339(made or now))
