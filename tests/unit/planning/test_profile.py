"""One profile's story: queued, measured, kept; and what it says when it cannot be measured."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from slm_core.codec import to_json
from slm_core.measurements import Mark, MeasurementDocument
from slm_operator.api.parts import EngineSpec
from slm_operator.api.profile import SLMProfileSpec, SLMProfileStatus
from slm_operator.manifests.profile import request_digest
from slm_operator.planning.actions import Apply, Delete, Plan, WriteStatus
from slm_operator.planning.profile.log import ProfileLog, read_log
from slm_operator.planning.profile.plan import plan_profile
from slm_operator.planning.profile.turns import Turn
from slm_operator.planning.views import ProfileView
from slm_operator.settings import Prices
from slm_operator.watch.records import Cause, Owner, PodRecord

from tests import builders as build

JOB = build.job(build.profile(build.deployment()), meta=build.meta("opt"))
POD = build.measuring(JOB)
ENDED = replace(JOB, active=0, succeeded=1, finished=True)


def view(**more: Any) -> ProfileView:
    record = more.pop("profile", None) or build.profile(build.deployment())
    return ProfileView(profile=record, **more)


def plan(of: ProfileView) -> Plan:
    return plan_profile(of, build.SETTINGS, build.NOW)


def status(made: Plan) -> dict[str, Any]:
    (write,) = (action for action in made.actions if isinstance(action, WriteStatus))
    SLMProfileStatus.model_validate(write.status, extra="forbid")
    return dict(write.status)


def log(*events: dict[str, Any], before: str = "", after: str = "") -> ProfileLog:
    lines = "".join(f"{json.dumps(event, separators=(',', ':'))}\n" for event in events)
    return read_log(build.printed(before + lines + after))


RESULT = {"event": "result", "document": to_json(build.imported())}


def test_a_profile_starts_one_job_in_the_engines_own_image() -> None:
    (apply,) = (action for action in plan(view()).actions if isinstance(action, Apply))
    pod = apply.manifest["spec"]["template"]["spec"]
    assert apply.manifest["kind"] == "Job"
    assert pod["containers"][0]["image"] == "vllm/vllm-openai:v0.32.0"
    assert pod["initContainers"][0]["image"] == build.SETTINGS.profiling.image
    assert pod["automountServiceAccountToken"] is False


def test_progress_is_shown_while_it_runs() -> None:
    said = log({"event": "progress", "point": 3, "message": "B = 64"}, before="INFO engine noise\n")
    made = plan(view(job=JOB, pod=POD, log=said))
    assert status(made)["phase"] == "Running"
    assert status(made)["summary"] == "point 3"
    assert made.look_again_seconds == 3.0


def test_a_line_that_is_being_written_is_read_the_next_time() -> None:
    said = log({"event": "progress", "point": 1, "message": "B = 1"}, after='{"event":"progr')
    assert status(plan(view(job=JOB, pod=POD, log=said)))["summary"] == "point 1"


def test_the_result_is_kept_and_then_the_job_goes() -> None:
    made = plan(view(job=ENDED, pod=replace(POD, phase="Succeeded"), log=log(RESULT)))
    assert status(made)["phase"] == "Complete"
    assert status(made)["measurements"] == RESULT["document"]
    kept = build.profile(build.deployment(), status=status(made))
    after = plan(view(profile=kept, job=ENDED))
    assert [action.key.name for action in after.actions if isinstance(action, Delete)] == ["opt"]
    assert status(after) == status(made)


def test_points_before_a_failure_are_kept() -> None:
    document = to_json(replace(build.imported(), complete=False, incomplete_because="the engine died at B = 64"))
    said = log(
        {"event": "result", "document": document},
        {"event": "failed", "class": "EngineDied", "message": "exit 137", "remedy": "m"},
    )
    made = plan(view(job=replace(ENDED, succeeded=0, failed=1), pod=replace(POD, phase="Failed"), log=said))
    assert status(made)["phase"] == "Complete"
    assert "ended early: the engine died at B = 64" in status(made)["conditions"][0][
        "message"
    ] or "measurements" in status(made)


WANTS_A_DRIVER = "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, please update your driver"
WAITING = replace(POD, node=None, phase="Pending", unscheduled_because="0/1 nodes")
FAILED = {
    "event": "failed",
    "class": "ModelMissing",
    "message": "/models/opt does not exist",
    "remedy": "check spec.model.uri",
}


def unpullable(container: str, image: str) -> Cause:
    return Cause("ImagePullBackOff", "401", container=container, image=image)


STORIES = {
    "queued": (view(turn=Turn(running=2, has_come=False)), "Pending", "Queued", "profiling.concurrent"),
    "queued behind others": (view(turn=Turn(running=1, has_come=False)), "Pending", "Queued", "others come first"),
    "no GPU free": (
        view(job=JOB, pod=WAITING),
        "Pending",
        "WaitingForGPU",
        "0/1 nodes",
    ),
    "no node opted in": (view(job=JOB, pod=WAITING), "Pending", "WaitingForGPU", "any with nvidia.com/gpu"),
    "GPU held by others": (
        view(job=JOB, pod=WAITING, nodes=(build.node(),), gpu_pods=(build.foreign("training"),)),
        "Pending",
        "WaitingForGPU",
        "held by a pod of another namespace",
    ),
    "GPU partitioned for others": (
        view(job=JOB, pod=WAITING, nodes=(build.node(labels={"slm-operator.io/serves": "team.chat"}),)),
        "Pending",
        "WaitingForGPU",
        "team.chat",
    ),
    "image missing": (
        view(job=JOB, pod=replace(POD, phase="Pending", waiting=unpullable("engine", "vllm:9"))),
        "Pending",
        "ImagePullBackOff",
        "container engine (vllm:9): ImagePullBackOff: 401. check spec.engine.image",
    ),
    "the operator's image missing": (
        view(job=JOB, pod=replace(POD, phase="Pending", waiting=unpullable("runtime", "slm-operator:9"))),
        "Pending",
        "ImagePullBackOff",
        "container runtime (slm-operator:9): ImagePullBackOff: 401. it is the operator's own image",
    ),
    "an image of a template missing": (
        view(job=JOB, pod=replace(POD, phase="Pending", waiting=unpullable("logs", "logs:9"))),
        "Pending",
        "ImagePullBackOff",
        "spec.podTemplate brings this container",
    ),
    "image missing for long": (
        view(
            job=replace(JOB, created=build.later(-3600).isoformat()),
            pod=replace(POD, phase="Pending", waiting=unpullable("runtime", "slm-operator:9")),
        ),
        "Pending",
        "AwaitingRetry",
        "container runtime (slm-operator:9): ImagePullBackOff: 401: it is the operator's own image",
    ),
    "model missing": (view(job=ENDED, pod=POD, log=log(FAILED)), "Failed", "ModelMissing", "check spec.model.uri"),
    "for nobody but the paused": (view(paused=True), "Pending", "Paused", "nothing is measured"),
    "no pod is made": (
        view(job=replace(JOB, created=build.later(-60).isoformat())),
        "Pending",
        "NoPod",
        "a quota of the namespace",
    ),
    "an image for a newer driver": (
        view(job=JOB, pod=replace(POD, phase="Pending", waiting=Cause("CreateContainerError", WANTS_A_DRIVER))),
        "Pending",
        "CreateContainerError",
        "use a newer NVIDIA driver on the node",
    ),
    "an image for a newer driver, as another runtime says it": (
        view(job=ENDED, pod=replace(POD, terminated=Cause("StartError", WANTS_A_DRIVER, exit_code=128))),
        "Pending",
        "AwaitingRetry",
        "use a newer NVIDIA driver on the node",
    ),
    "killed": (
        view(job=ENDED, pod=replace(POD, terminated=Cause("OOMKilled", exit_code=137))),
        "Failed",
        "ProfileFailed",
        "it ran out of host memory: raise it in spec.podTemplate of the SLMDeployment",
    ),
    "refused": (view(refused_because="exceeded quota"), "Pending", "Refused", "exceeded quota"),
    "unreadable result": (
        view(job=ENDED, pod=POD, log=log({"event": "result", "document": {}})),
        "Failed",
        "UnreadableResult",
        "one version",
    ),
}


@pytest.mark.parametrize("case", STORIES)
def test_obstacle_is_named_with_its_remedy(case: str) -> None:
    of, phase, reason, words = STORIES[case]
    made = status(plan(of))
    ready = next(c for c in made["conditions"] if c["type"] == "Ready")
    assert made["phase"] == phase
    assert ready["reason"] == reason
    assert words in ready["message"]


def test_waiting_profile_is_in_progress_and_not_stalled() -> None:
    for case in ("queued", "no GPU free", "image missing", "no pod is made"):
        assert {one["type"]: one["status"] for one in status(plan(STORIES[case][0]))["conditions"]} == {
            "Ready": "False",
            "Reconciling": "True",
            "Profiled": "False",
        }


def test_a_failed_profile_is_not_measured_again_by_itself() -> None:
    failed = status(plan(view(job=ENDED, pod=POD, log=log(FAILED))))
    again = plan(view(profile=build.profile(build.deployment(), status=failed)))
    assert not any(isinstance(action, Apply) for action in again.actions)
    assert status(again) == failed


def advised(spec: dict[str, Any] | None = None, document: MeasurementDocument | None = None) -> dict[str, Any]:
    record = build.profile(build.deployment(spec=spec), document or build.imported())
    return status(plan(view(profile=record)))


def test_a_measured_profile_advises_without_a_deployment() -> None:
    """The published advice for a limit of twice the ITL at B = 32."""
    said = advised({"slo": {"itl": {"maxFactor": 2}}})
    assert said["advice"]["configuration"]["batchSize"] == 96
    assert said["advice"]["sentences"][0].startswith("Serve one engine per GPU")
    assert not {"digest", "profileRef"} & said["advice"].keys()
    assert "noAdviceBecause" not in said


def test_profile_is_advised_for_its_own_load() -> None:
    assert advised({"workload": {"concurrencyPerGpu": 20}})["advice"]["inFlightPerGpu"] == 20


def test_same_advice_of_a_profile_keeps_its_time() -> None:
    record = build.profile(build.deployment(), build.imported())
    first = status(plan(view(profile=record)))
    again = replace(record, status=first)
    later = plan_profile(view(profile=again), build.SETTINGS, build.NOW + timedelta(hours=1))
    assert status(later)["advice"] == first["advice"]


def test_profile_without_an_answer_says_why() -> None:
    doubted = [replace(p, marks=(Mark.THROTTLED,)) for p in build.imported().points]
    said = advised(document=replace(build.imported(), points=tuple(doubted)))
    assert "every single-engine point is in doubt" in said["noAdviceBecause"]
    assert "advice" not in said


def test_a_profile_that_is_being_measured_advises_nothing_yet() -> None:
    assert "advice" not in status(plan(view(job=JOB, pod=POD, log=log())))


def test_prices_of_the_operator_give_a_profile_its_cost() -> None:
    prices = Prices(per_gpu_hour={build.imported().gpu.product: 2.0})
    record = build.profile(build.deployment(), build.imported())
    made = plan_profile(view(profile=record), build.SETTINGS.model_copy(update={"prices": prices}), build.NOW)
    assert status(made)["advice"]["currency"] == "USD"


def test_an_imported_profile_needs_no_job() -> None:
    made = plan(view(profile=build.profile(build.deployment(), build.imported())))
    assert status(made)["phase"] == "Imported"
    assert not any(isinstance(action, Apply) for action in made.actions)


MOVED: dict[str, dict[str, Any]] = {
    "a toleration": {"gpu": {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}},
    "a larger budget": {"search": {"maxGpuMinutes": 60}},
    "other nodes": {"gpu": {"nodeSelector": {"pool": "b"}}},
    "a pull secret": {"podTemplate": {"spec": {"imagePullSecrets": [{"name": "s"}]}}},
}
UNPULLABLE = replace(POD, phase="Pending", waiting=Cause("ImagePullBackOff", "no such image"))


def changed(more: dict[str, Any], **at: Any) -> ProfileView:
    """A profile whose Job was made for its former spec."""
    before = build.profile(build.deployment())
    assert before.spec is not None
    job = replace(at.pop("job", JOB), request=request_digest(before.spec))
    spec = SLMProfileSpec.model_validate(before.spec.given() | more)
    return view(profile=replace(before, spec=spec), job=job, **at)


@pytest.mark.parametrize("pod", [None, WAITING, UNPULLABLE], ids=["no pod", "no GPU", "no image"])
@pytest.mark.parametrize("more", MOVED)
def test_a_change_of_a_waiting_profile_gets_it_a_new_job(more: str, pod: PodRecord | None) -> None:
    of = changed(MOVED[more], pod=pod)
    made = plan(of)
    assert [action.key.name for action in made.actions if isinstance(action, Delete)] == ["opt"]
    assert status(made)["phase"] == "Pending"
    assert "its Job is made again" in status(made)["conditions"][0]["message"]
    (apply,) = (action for action in plan(replace(of, job=None, pod=None)).actions if isinstance(action, Apply))
    next_job = replace(JOB, request=apply.manifest["metadata"]["annotations"]["slm-operator.io/request"])
    assert not any(isinstance(action, Delete) for action in plan(replace(of, job=next_job)).actions)


def test_a_job_that_is_going_is_not_deleted_twice() -> None:
    going = replace(JOB, meta=replace(JOB.meta, deleting=True))
    made = plan(changed(MOVED["a toleration"], job=going, pod=WAITING))
    assert not any(isinstance(action, Delete) for action in made.actions)


def test_change_of_a_measuring_profile_comes_too_late() -> None:
    made = plan(
        changed(MOVED["a larger budget"], pod=POD, log=log({"event": "progress", "point": 3, "message": "B = 64"}))
    )
    assert not any(isinstance(action, Delete) for action in made.actions)
    assert status(made)["phase"] == "Running"
    assert "delete the profile to measure anew" in status(made)["conditions"][0]["message"]


def test_change_after_the_result_was_logged_loses_none() -> None:
    made = plan(changed(MOVED["a larger budget"], job=ENDED, pod=replace(POD, phase="Succeeded"), log=log(RESULT)))
    assert status(made)["phase"] == "Complete"


def test_immutable_fields_are_no_part_of_the_request() -> None:
    record = build.profile(build.deployment())
    assert record.spec is not None
    other = record.spec.model_copy(update={"engine": EngineSpec(image="another")})
    assert request_digest(other) == request_digest(record.spec)


def test_a_bad_template_waits_for_its_correction() -> None:
    bad = SLMProfileSpec.model_validate(
        {"model": {"uri": "pvc://models/opt"}, "podTemplate": {"spec": {"restartPolicy": "Always"}}}
    )
    made = status(plan(view(profile=build.profile(build.deployment(), spec=bad))))
    assert made["phase"] == "Pending"
    assert [one["reason"] for one in made["conditions"] if one["type"] == "Stalled"] == ["InvalidPodTemplate"]


def test_measurements_that_this_version_cannot_read_are_kept() -> None:
    theirs = {"measurements": {"schema": "slm-operator.io/measurements/v9", "points": []}, "partial": {"schema": "v9"}}
    before = {"phase": "Complete", "gpuSeconds": 300, "product": "NVIDIA-L4", "partialOf": "x"} | theirs
    record = build.profile(build.deployment(), broken="status.measurements: schema: too new", status=before)
    (write,) = (one for one in plan(view(profile=record)).actions if isinstance(one, WriteStatus))
    assert {name: write.status[name] for name in (*theirs, "gpuSeconds", "product", "partialOf")} == {
        name: before[name] for name in (*theirs, "gpuSeconds", "product", "partialOf")
    }
    assert write.status["phase"] == "Complete", "nobody measures it again"
    assert not any(isinstance(one, Apply) for one in plan(view(profile=record)).actions)


def test_owners_that_an_earlier_version_gave_are_taken_away() -> None:
    record = build.profile(build.deployment(), ours=True)
    owned = replace(record, meta=replace(record.meta, owners=(Owner("SLMDeployment", "chat", "u", controller=False),)))
    found = [one.manifest for one in plan(view(profile=owned, used=False)).actions if isinstance(one, Apply)]
    (made,) = found
    assert (made["kind"], made["metadata"]["name"]) == ("SLMProfile", record.meta.key.name)
    assert "ownerReferences" not in made["metadata"]
    by_hand = replace(owned, meta=replace(owned.meta, labels={}))
    assert "SLMProfile" not in {
        one.manifest["kind"] for one in plan(view(profile=by_hand)).actions if isinstance(one, Apply)
    }


def test_a_profile_of_deployments_that_are_gone_begins_nothing() -> None:
    record, made = (build.profile(build.deployment(), ours=ours) for ours in (False, True))
    idle = plan(view(profile=made, used=False))
    assert not any(isinstance(one, Apply) for one in idle.actions)
    assert status(idle)["conditions"][0]["reason"] == "Unused"
    waits = plan(view(profile=made, used=False, job=JOB, pod=WAITING))
    assert [one.kind for one in waits.actions if isinstance(one, Delete)] == ["Job"]
    runs = plan(view(profile=made, used=False, job=JOB, pod=POD))
    assert not any(isinstance(one, Delete) for one in runs.actions), "it is nearly paid"
    assert any(isinstance(one, Apply) for one in plan(view(profile=record, used=False)).actions), "one made by hand"


def test_a_failed_job_stays_for_its_log_while_somebody_may_look() -> None:
    made = build.profile(build.deployment(), ours=True)
    failed = replace(made, status={"phase": "Failed", "tries": {"request": request_digest(made.spec)}})  # type: ignore[arg-type]
    for used, gone in ((True, []), (False, ["Job"])):
        actions = plan(view(profile=failed, job=replace(ENDED, succeeded=0, failed=1), used=used)).actions
        assert [one.kind for one in actions if isinstance(one, Delete)] == gone


def test_figures_of_a_former_pod_template_say_so() -> None:
    made_then = replace(ENDED, template="another")
    message = status(plan(view(job=made_then, pod=replace(POD, phase="Succeeded"), log=log(RESULT))))["conditions"][-1]
    assert message["reason"] == "Measured"
    assert "under the pod template that spec had then" in message["message"]
