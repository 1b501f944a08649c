"""One SLMProfile: start its Job, follow it, keep what it measured.

    Pending --(room in the budget of concurrent profiles)--> Running --result--> Complete
                                                                |------failed--> Failed (with what was measured until then)
    spec.measurements given: Imported

Must never start a second measurement of the same profile by itself: GPU time is the user's money. To measure again,
delete the profile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slm_core.codec import to_json

from slm_operator.api import names
from slm_operator.api.conditions import Finding, conditions
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.manifests.overlay import refused_fields
from slm_operator.manifests.profile import profile_job, request_digest
from slm_operator.planning.actions import Action, Apply, Delete, Plan
from slm_operator.planning.containers import remedy
from slm_operator.planning.profile.gpu import gpu_wait
from slm_operator.planning.profile.room import bounded_by_room, place
from slm_operator.planning.profile.turns import gives_its_place_up
from slm_operator.planning.status.events import transition_events
from slm_operator.planning.status.write import write_status

if TYPE_CHECKING:
    from datetime import datetime

    from slm_operator.api.profile import SLMProfileSpec
    from slm_operator.planning.profile.log import ProfileLog
    from slm_operator.planning.views import ProfileView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import JobRecord, PodRecord

FOLLOW_SECONDS = 3.0
"""How often a running profile's log is read."""
TOO_LATE = (
    "Spec was changed after the measurement had begun, which goes on as it was: delete the profile to measure anew"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    phase: str
    finding: Finding
    actions: tuple[Action, ...] = ()
    extra: dict[str, Any] | None = None
    look_again_seconds: float | None = None


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


def _outcome(view: ProfileView, settings: Settings, now: datetime) -> _Outcome:
    record = view.profile
    if record.broken is not None or record.spec is None:
        because = record.broken or "spec cannot be read"
        return _failed(Reason.INVALID_PROFILE, because) if record.imported else _held(Reason.INVALID_PROFILE, because)
    if record.imported:
        return _Outcome(
            phase="Imported", finding=_ready(Reason.IMPORTED, "the measurements were made elsewhere and imported")
        )
    if record.status.get("phase") in {"Complete", "Failed"}:
        return _finished(view, str(record.status["phase"]))
    refused = refused_fields(record.spec.pod_template or {}, settings.nodes.opt_in_label)
    if refused:
        return _held(Reason.INVALID_POD_TEMPLATE, "; ".join(refused))
    if view.refused_because is not None:
        return _waiting(Reason.REFUSED, f"the API server refuses the profile's Job: {view.refused_because}", 30.0)
    if view.job is None:
        return _start(view, record.spec, settings)
    return _with_job(view, view.job, record.spec, settings, now)


def _with_job(view: ProfileView, job: JobRecord, spec: SLMProfileSpec, settings: Settings, now: datetime) -> _Outcome:
    if _has_changed(job, spec) and not _has_begun(view):
        return _make_again(job)
    if gives_its_place_up(view, now):
        return _give_place(view, job, spec, settings)
    return _follow(view, settings)


def _start(view: ProfileView, spec: SLMProfileSpec, settings: Settings) -> _Outcome:
    if not view.turn.has_come:
        places = settings.profiling.concurrent
        running = f"{view.turn.running} profiles are running"
        if view.turn.bound is not None:
            bound = f"{view.turn.bound} of namespace {view.profile.meta.key.namespace}"
            return _waiting(
                Reason.QUEUED, f"{bound} run, which is all that tenancy.maxProfilesPerNamespace allows", 10.0
            )
        others = view.turn.running < places
        why = f"others come first, of {places} places" if others else "which is all that profiling.concurrent allows"
        return _waiting(Reason.QUEUED, f"{running}, {why}", 10.0)
    asked, most = spec.search.max_gpu_minutes, settings.tenancy.max_gpu_minutes_per_profile
    cut = f", for {most:g} GPU minutes and not {asked:g}: tenancy.maxGpuMinutesPerProfile" if asked > most else ""
    bounded = spec.model_copy(update={"search": spec.search.model_copy(update={"max_gpu_minutes": min(asked, most)})})
    bounded, fewer = bounded_by_room(view, bounded, settings)
    job = profile_job(view.profile, bounded, settings.profiling.image, place(view, spec.gpu, settings))
    return _Outcome(
        phase="Pending",
        finding=_not_yet(Reason.STARTING, f"the profile's Job is being created{cut}{fewer}"),
        actions=(Apply(manifest=job, because="no profile of this model, engine, GPU and workload exists yet"),),
        look_again_seconds=FOLLOW_SECONDS,
    )


def _follow(view: ProfileView, settings: Settings) -> _Outcome:
    if view.pod is not None and view.job is not None and _was_not_admitted(view.pod):
        return _try_again(view.job, view.pod)
    log = view.log
    if log.document is not None and (
        view.pod is None or view.pod.phase in {"Succeeded", "Failed"} or log.failure is None
    ):
        return _measured(view, log, settings)
    if log.failure is not None:
        return _failed(log.failure_class or "ProfileFailed", _sentence(log), _clean(view))
    if view.job is not None and view.job.finished and not log.is_cut:
        return _failed("ProfileFailed", _why_it_ended(view))
    pod = view.pod
    if pod is None:
        return _waiting(Reason.STARTING, "the profile's pod is being created", FOLLOW_SECONDS)
    obstacle = _obstacle(view, pod, settings)
    if obstacle is not None:
        return _waiting(*obstacle, 10.0)
    message = log.doing or "the engine is starting"
    if view.job is not None and view.profile.spec is not None and _has_changed(view.job, view.profile.spec):
        message += f". {TOO_LATE}"
    summary = "starting" if log.point is None else f"point {log.point}" + (f"/{log.of}" if log.of else "")
    progress = {"point": log.point or 0, "message": message} | ({"of": log.of} if log.of else {})
    return _Outcome(
        phase="Running",
        finding=_not_yet(Reason.MEASURING, f"{summary}: {message}"),
        extra={"progress": progress, "summary": summary, "node": pod.node},
        look_again_seconds=FOLLOW_SECONDS,
    )


def _give_place(view: ProfileView, job: JobRecord, spec: SLMProfileSpec, settings: Settings) -> _Outcome:
    """Somebody else may measure meanwhile: nothing of this one has begun."""
    pod = view.pod
    why = (
        "no pod was made for its Job, for which a quota may be the reason: see the Job's events"
        if pod is None
        else f"no whole GPU is free for the profile: {gpu_wait(view, spec.gpu, settings)}"
    )
    because = f"{why}. Another profile waits for its place; its turn comes again"
    leave = Delete(api_version="batch/v1", kind="Job", key=job.meta.key, uid=job.meta.uid, because=because)
    return replace(_waiting(Reason.QUEUED, because, 10.0), actions=(leave,))


def _has_changed(job: JobRecord, spec: SLMProfileSpec) -> bool:
    """Whether the Job was made for another node, template or budget than the spec has now. NB: a Job cannot be changed."""
    return job.request is not None and job.request != request_digest(spec)


def _has_begun(view: ProfileView) -> bool:
    """Whether GPU time has been spent on the measurement, which a new Job would waste."""
    ended = view.job is not None and (view.job.finished or view.log.has_ended)
    return ended or (view.pod is not None and view.pod.phase != "Pending")


def _make_again(job: JobRecord) -> _Outcome:
    because = "the profile's spec was changed before anything was measured: its Job is made again"
    waiting = _waiting(Reason.STARTING, because, 10.0)
    if job.meta.deleting:
        return waiting
    again = Delete(api_version="batch/v1", kind="Job", key=job.meta.key, uid=job.meta.uid, because=because)
    return replace(waiting, actions=(again,))


def _was_not_admitted(pod: PodRecord) -> bool:
    return pod.failed_because is not None and pod.failed_because.reason == "UnexpectedAdmissionError"


def _try_again(job: JobRecord, pod: PodRecord) -> _Outcome:
    """The kubelet refused the pod, because the device plugin was restarting, say: nothing ran, so no GPU time is lost."""
    because = f"the kubelet refused pod {pod.meta.key.name} before anything was measured: {pod.failed_because}"
    waiting = _waiting(Reason.ADMISSION_FAILED, f"{because}. It is tried again", 10.0)
    if job.meta.deleting:
        return waiting
    again = Delete(api_version="batch/v1", kind="Job", key=job.meta.key, uid=job.meta.uid, because=because)
    return replace(waiting, actions=(again,))


def _measured(view: ProfileView, log: ProfileLog, settings: Settings) -> _Outcome:
    document = log.document
    assert document is not None
    assert view.profile.spec is not None
    points = len(document.points)
    _, fewer = bounded_by_room(view, view.profile.spec, settings)
    message = f"{points} points measured" + (
        fewer if document.complete else f"; ended early: {document.incomplete_because}"
    )
    cost = round(document.cost.gpu_seconds) if document.cost is not None else None
    extra = {"measurements": to_json(document), "summary": f"{points} points", "gpuSeconds": cost}
    if view.pod is not None:
        extra["node"] = view.pod.node
    if not document.points:
        return _failed("NothingMeasured", _sentence(log) if log.failure else message)
    return _Outcome(
        phase="Complete",
        finding=_ready(Reason.MEASURED if document.complete else Reason.MEASURED_IN_PART, message),
        extra={name: value for name, value in extra.items() if value is not None},
    )


def _finished(view: ProfileView, phase: str) -> _Outcome:
    """Status holds the result: the Job has done its work. The rest of status stays as it is."""
    old = view.profile.status
    kept = {
        name: to_json(old[name])
        for name in ("measurements", "summary", "gpuSeconds", "product", "node", "progress")
        if name in old
    }
    said: dict[str, Any] = next((c for c in old.get("conditions", ()) if c.get("type") == Condition.PROFILED), {})
    finding = Finding(
        type=Condition.PROFILED,
        holds=phase == "Complete",
        reason=str(said.get("reason", phase)),
        message=str(said.get("message", "")),
        stalls=phase == "Failed",
    )
    return _Outcome(phase=phase, finding=finding, actions=_clean(view) if phase == "Complete" else (), extra=kept)


def _clean(view: ProfileView) -> tuple[Action, ...]:
    """A finished Job's pod still stands on the node; without the Job it goes. A failed one stays for its log."""
    job = view.job
    if job is None or job.meta.deleting or not job.finished:
        return ()
    because = "its measurements are in the profile's status"
    return (Delete(api_version="batch/v1", kind="Job", key=job.meta.key, uid=job.meta.uid, because=because),)


def _obstacle(view: ProfileView, pod: PodRecord, settings: Settings) -> tuple[str, str] | None:
    """Reason and message of what keeps the pod from measuring."""
    if pod.node is None and pod.unscheduled_because is None:
        return Reason.STARTING, "the profile's pod is being placed"
    if pod.node is None:
        spec = view.profile.spec
        assert spec is not None
        why = gpu_wait(view, spec.gpu, settings)
        return (
            Reason.WAITING_FOR_GPU,
            f"no whole GPU is free for the profile: {why} (scheduler: {pod.unscheduled_because})",
        )
    if pod.stuck is not None:
        where = f"pod {pod.meta.key.name} cannot start: {pod.stuck}"
        return pod.stuck.reason, f"{where}. {_remedy(view, pod) or 'Check spec.engine.image and its pull secret'}"
    return None


def _why_it_ended(view: ProfileView) -> str:
    pod = view.pod
    if pod is not None and (pod.terminated or pod.failed_because):
        helps = _remedy(view, pod) or "see its log"
        return f"the profile's pod {pod.meta.key.name} ended without a result: {pod.failed_because or pod.terminated}; {helps}, then delete this profile to measure again"
    why = view.job.failed_because if view.job is not None else None
    return f"the profile's Job ended without a result: {why or 'its pod is gone'}; delete this profile to measure again"


def _remedy(view: ProfileView, pod: PodRecord) -> str | None:
    return remedy(pod, view.profile.spec.engine if view.profile.spec is not None else None)


def _sentence(log: ProfileLog) -> str:
    return f"{log.failure}: {log.remedy}" if log.remedy else str(log.failure)


def _ready(reason: str, message: str) -> Finding:
    return Finding(type=Condition.PROFILED, holds=True, reason=reason, message=message)


def _not_yet(reason: str, message: str) -> Finding:
    return Finding(type=Condition.PROFILED, holds=False, reason=reason, message=message)


def _waiting(reason: str, message: str, seconds: float) -> _Outcome:
    return _Outcome(phase="Pending", finding=_not_yet(reason, message), look_again_seconds=seconds)


def _held(reason: str, message: str) -> _Outcome:
    """Nothing was measured, and nothing will be until spec is corrected."""
    finding = Finding(type=Condition.PROFILED, holds=False, reason=reason, message=message, stalls=True)
    return _Outcome(phase="Pending", finding=finding)


def _failed(reason: str, message: str, actions: tuple[Action, ...] = ()) -> _Outcome:
    finding = Finding(type=Condition.PROFILED, holds=False, reason=reason, message=message, stalls=True)
    return _Outcome(phase="Failed", finding=finding, actions=actions)


def _status(view: ProfileView, outcome: _Outcome, now: datetime) -> dict[str, Any]:
    meta, old = view.profile.meta, view.profile.status
    product = _product(view)
    return {
        "observedGeneration": meta.generation,
        "phase": outcome.phase,
        "conditions": conditions((outcome.finding,), old.get("conditions", ()), meta.generation, now),
        **({} if product is None else {"product": product}),
    } | (outcome.extra or {})


def _product(view: ProfileView) -> str | None:
    """What it was measured on, else what it is to be measured on; None: any."""
    measured = view.log.document or view.profile.measurements
    if measured is not None:
        return measured.gpu.product
    return view.profile.spec.gpu.product if view.profile.spec is not None else None
