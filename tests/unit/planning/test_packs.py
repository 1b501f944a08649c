"""Packs in pods: replicas are engines, pods are packs, and none ends for its successor before status has said so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.pack_pod import HTTP_PORT
from slm_operator.api import names
from slm_operator.manifests.served import read_served
from slm_operator.planning.actions import ScaleWorkload
from slm_operator.planning.deployment.packs import engines_per_pod
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.views import Assignment, Chosen
from slm_operator.watch.records import Cause

from tests import builders as build

from .test_deployment import TWO_PER_GPU, applied, measured, plan, status

if TYPE_CHECKING:
    from slm_operator.planning.views import DeploymentView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import PodRecord, WorkloadRecord

PACK_2 = replace(build.MPS_2, in_one_pod=True)


def view(replicas: int = 2, spec: dict[str, Any] | None = None, **more: Any) -> DeploymentView:
    asked = TWO_PER_GPU | {"replicas": replicas} | (spec or {})
    given = Assignment(slots=replicas, slice_class=PACK_2)
    known = build.profile(build.deployment(spec=asked), build.published("opt-1.3b"))
    return replace(measured(asked, **({"profile": known} | more)), assignment=given)


def workload(pods: int = 1, **changed: Any) -> WorkloadRecord:
    """Packs of two, all of them answering."""
    made = applied(plan(view(2 * pods)))["Deployment"]
    text = made["metadata"]["annotations"][names.SERVED_ANNOTATION]
    return replace(build.workload("chat", replicas=pods, ready=pods, served=text), **changed)


def pod(name: str = "chat-1", node: str | None = "gpu-1", **changed: Any) -> PodRecord:
    record = build.replica(name, node, resource="nvidia.com/gpu", **changed)
    return replace(record, meta=replace(record.meta, labels=record.meta.labels | {names.ENGINES_LABEL: "2"}))


PODS = {0: 0, 1: 1, 2: 1, 3: 2, 4: 2, 7: 4}


@pytest.mark.parametrize("replicas", PODS)
def test_pods_are_engines_by_packs_rounded_up(replicas: int) -> None:
    assert applied(plan(view(replicas)))["Deployment"]["spec"]["replicas"] == PODS[replicas]


def test_status_counts_engines_and_names_the_pods() -> None:
    said = status(
        plan(view(3, workload=workload(2), pods=(pod("chat-1", ready=True), pod("chat-2", "gpu-2", ready=True))))
    )
    assert (said["replicas"], said["readyReplicas"], said["packCount"]) == (4, 4, 2)
    assert [one["engines"] for one in said["packs"]] == [2, 2]
    available = next(one for one in said["conditions"] if one["type"] == "Available")
    assert available["status"] == "True"
    assert available["message"] == "2 of 2 packs answer, each of 2 engines in one pod, for 3 replicas"


def test_a_pack_that_goes_on_is_scaled_by_whole_packs() -> None:
    running = workload(1)
    gone = replace(view(5, workload=running), profile=None, advice=None)
    (scaled,) = [one for one in plan(gone).actions if isinstance(one, ScaleWorkload)]
    assert scaled.replicas == 3


def test_a_gateway_routes_to_the_router_of_each_pack() -> None:
    routing = {"gatewayRef": {"name": "inference"}, "endpointPickerRef": {"name": "chat-epp"}}
    planned = plan(view(4, spec={"routing": routing}))
    pool, made = applied(planned)["InferencePool"]["spec"], applied(planned)["Deployment"]["spec"]["template"]
    assert pool["selector"]["matchLabels"].items() <= made["metadata"]["labels"].items()
    assert pool["targetPorts"] == [{"number": HTTP_PORT}]
    routed = next(one for one in status(planned)["conditions"] if one["type"] == "Routed")
    assert "may route to the packs, and the router of each chooses its engine" in routed["message"]


def of_another_template(made: PodRecord) -> PodRecord:
    (owner,) = made.meta.owners
    return replace(made, meta=replace(made.meta, owners=(owner._replace(uid="of another template"),)))


STUCK = Cause("ImagePullBackOff", "401", container="runtime", image="mirror/slm-operator:1")
OF_THE_SETTINGS = {
    "its runtime's image does not come": ((pod(waiting=STUCK),), True),
    "its router ends again and again": (
        (pod(waiting=Cause("CrashLoopBackOff", container="router")),),
        True,
    ),
    "another pack answers": ((pod(waiting=STUCK), pod("chat-2", "gpu-2", ready=True)), False),
    "an older pack answers": ((pod(waiting=STUCK), of_another_template(pod("chat-2", "gpu-2", ready=True))), True),
    "its engine's image does not come": ((pod(waiting=Cause("ImagePullBackOff", container="engine")),), False),
    "it is starting": ((pod(waiting=Cause("PodInitializing")),), False),
    "it answers": ((pod(ready=True),), False),
}


@pytest.mark.parametrize("case", OF_THE_SETTINGS)
def test_a_corrected_image_is_taken_where_none_answers(case: str) -> None:
    """A pack keeps what it was made with, unless that is what keeps it from answering."""
    pods, is_taken = OF_THE_SETTINGS[case]
    wrong, right = (replaced_in(build.SETTINGS, router_image=image) for image in ("typo:1", "haproxy:3"))
    made = applied(plan_deployment(view(2), wrong, build.NOW))["Deployment"]
    text = made["metadata"]["annotations"][names.SERVED_ANNOTATION]
    ready = sum(one.ready for one in pods)
    stuck = build.workload("chat", replicas=1, updated=1, ready=ready, served=text)
    again = applied(plan_deployment(view(2, workload=stuck, pods=pods), right, build.NOW))["Deployment"]
    routers = [one["image"] for one in again["spec"]["template"]["spec"]["initContainers"] if one["name"] == "router"]
    assert routers == ["haproxy:3" if is_taken else "typo:1"]


def replaced_in(settings: Settings, **packs: str) -> Settings:
    return settings.model_copy(update={"packs": settings.packs.model_copy(update=packs)})


def test_what_runs_in_packs_is_known_to_the_fleet() -> None:
    running = workload(1)
    asked = view(2, workload=running)
    demand = demand_of(asked.deployment, asked.profile, asked.advice, read_served(running.served))
    assert demand is not None
    assert demand.runs == PACK_2
    assert engines_per_pod(running) == 2


def surge(of: DeploymentView) -> int:
    rolling: dict[str, int] = applied(plan(of))["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    return rolling["maxSurge"]


def allocated(of: DeploymentView) -> tuple[str, str]:
    said = next(one for one in status(plan(of))["conditions"] if one["type"] == "Allocated")
    return said["reason"], said["message"]


WAITS = pod("chat-2", None, phase="Pending", unscheduled_because="0/1 nodes: 1 Insufficient nvidia.com/gpu")
ROLLING = {"existing": 2, "updated": 1, "ready": 1}


def test_a_successor_is_opened_first() -> None:
    assert surge(view(2, workload=workload(1), pods=(pod(),))) == 1


def test_an_outage_is_said_before_a_pack_ends_for_its_successor() -> None:
    no_room = view(2, workload=workload(1, **ROLLING), pods=(pod(), WAITS))
    assert surge(no_room) == 1, "not before it is said"
    reason, message = allocated(no_room)
    assert reason == "ReplacedInPlace"
    assert "nothing answers meanwhile" in message
    told = replace(no_room, deployment=replace(no_room.deployment, status=status(plan(no_room))))
    assert surge(told) == 0


def test_of_several_packs_the_others_answer_meanwhile() -> None:
    no_room = view(6, workload=workload(3, existing=4, updated=1, ready=3), pods=(pod(), WAITS))
    assert "2 other packs answer meanwhile" in allocated(no_room)[1]


def test_an_outage_is_over_once_the_successor_answers() -> None:
    no_room = view(2, workload=workload(1, **ROLLING), pods=(pod(), WAITS))
    told = replace(no_room.deployment, status=status(plan(no_room)))
    starting = replace(no_room, deployment=told, workload=workload(1, ready=0), pods=(pod("chat-2"),))
    assert allocated(starting)[0] == "ReplacedInPlace"
    assert allocated(replace(starting, workload=workload(1)))[0] == "Ready"


def test_a_pack_that_waits_for_its_first_gpu_is_no_outage() -> None:
    waiting = view(2, workload=workload(1, updated=1, ready=0), pods=(WAITS,))
    assert allocated(waiting)[0] == "Ready"


def test_an_overlay_against_a_pack_leaves_what_serves() -> None:
    spec = {"podTemplate": {"spec": {"hostNetwork": True}}}
    refused = view(2, spec, workload=workload(1), pods=(pod(),))
    said = {one["type"]: one for one in status(plan(refused))["conditions"]}
    assert "hostNetwork" in said["Ready"]["message"]
    assert said["Available"]["status"] == "True"
    assert "Deployment" not in applied(plan(refused))


def budget(of: DeploymentView) -> int:
    unavailable: int = applied(plan(of))["PodDisruptionBudget"]["spec"]["maxUnavailable"]
    return unavailable


def pods_wanted(of: DeploymentView) -> int:
    count: int = applied(plan(of))["Deployment"]["spec"]["replicas"]
    return count


SERVING = pod("chat-1", "gpu-1", ready=True)


def drained(*pods: PodRecord, replicas: int = 2, **more: Any) -> DeploymentView:
    of = view(replicas, pods=pods, **({"workload": workload(1)} | more))
    return replace(of, cordoned=frozenset({"gpu-1"}))


def test_a_pack_that_serves_is_not_evicted_before_somebody_looks() -> None:
    assert budget(view(2, workload=workload(1), pods=(SERVING,))) == 0


def test_a_pack_on_a_cordoned_node_opens_its_successor_first() -> None:
    of = drained(SERVING)
    assert (pods_wanted(of), budget(of)) == (2, 0)


def test_a_pack_leaves_once_its_successor_answers_elsewhere() -> None:
    both = workload(1, replicas=2, existing=2, updated=2, ready=2, available=2)
    of = drained(SERVING, pod("chat-2", "gpu-2", ready=True), workload=both)
    assert (pods_wanted(of), budget(of)) == (2, 1)
    left = view(2, workload=both, pods=(pod("chat-2", "gpu-2", ready=True),))
    assert pods_wanted(left) == 1


def test_a_drain_is_not_held_where_no_gpu_is_free() -> None:
    waiting = workload(1, replicas=2, existing=2, updated=2)
    of = drained(SERVING, WAITS, workload=waiting)
    assert (pods_wanted(of), budget(of)) == (1, 0), "not before it is said"
    assert allocated(of)[0] == "ReplacedInPlace"
    told = replace(of, deployment=replace(of.deployment, status=status(plan(of))))
    assert (pods_wanted(told), budget(told)) == (1, 1)
    still = replace(told, pods=(SERVING,), workload=workload(1))
    assert (pods_wanted(still), budget(still)) == (1, 1), "the successor that found no place is gone"


def test_a_drain_goes_on_to_the_last_of_several_packs() -> None:
    both = (SERVING, pod("chat-3", "gpu-1", ready=True))
    waiting = workload(2, replicas=3, existing=3, updated=3)
    of = drained(*both, WAITS, replicas=4, workload=waiting)
    assert "nothing answers meanwhile" in allocated(of)[1]
    told = replace(of, deployment=replace(of.deployment, status=status(plan(of))))
    assert budget(told) == 1, "one after the other"
    one_gone = replace(told, pods=(SERVING, WAITS), workload=workload(2, ready=1))
    assert budget(one_gone) == 2, "beside the one that has gone and finds no place"
    assert "nothing answers meanwhile" in allocated(one_gone)[1]


def test_a_drain_says_who_answers_meanwhile() -> None:
    two = workload(2, replicas=3, existing=3, updated=3)
    of = drained(SERVING, pod("chat-3", "gpu-2", ready=True), WAITS, replicas=4, workload=two)
    assert "1 other pack answers meanwhile" in allocated(of)[1]


def test_a_drain_is_held_by_nobody_who_sees_no_node() -> None:
    namespaced = build.SETTINGS.model_copy(update={"namespaces": ("team",)})
    of = view(2, workload=workload(1), pods=(SERVING,))
    made = plan_deployment(of, namespaced, build.NOW)
    assert applied(made)["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


def test_a_pack_whose_kv_bytes_nobody_knows_is_not_started() -> None:
    unknown = view(2, profile=build.profile(build.deployment(spec=TWO_PER_GPU), build.imported()))
    said = {one["type"]: one for one in status(plan(unknown))["conditions"]}
    assert (said["Ready"]["reason"], said["Stalled"]["status"]) == ("KvUnknown", "True")
    assert "set spec.sharing.partitioning to NodeSlices" in said["Ready"]["message"]
    assert "Deployment" not in applied(plan(unknown))


def test_a_pack_that_cannot_follow_new_measurements_goes_on() -> None:
    unknown = build.profile(build.deployment(spec=TWO_PER_GPU), build.imported())
    said = status(plan(view(2, profile=unknown, workload=workload(1))))["conditions"]
    types = [one["type"] for one in said]
    assert sorted(set(types)) == sorted(types), "an API server takes no condition twice"
    (advised,) = [one for one in said if one["type"] == "Advised"]
    assert (advised["status"], advised["reason"]) == ("False", "KvUnknown")


OTHERS_END = Cause("OOMKilled", "engine 1", remedy="raise its memory", container="engine")
FAILS: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "an image without Python": (
        {"waiting": Cause("RunContainerError", 'exec: "python3": executable file not found'), "restarts": 1},
        "RunContainerError",
        ("python3 (3.11 or newer) with aiohttp",),
    ),
    "the memory of one engine": (
        {"terminated": Cause("OOMKilled", "engine 1 has grown", 137, "raise its memory"), "restarts": 1},
        "EngineEnded",
        ("OOMKilled (exit code 137): engine 1 has grown", "raise its memory"),
    ),
    "a slice where a whole GPU was asked for": (
        {"terminated": Cause("GpuPartitioned", "H100 is in MIG mode", 33, "disable MIG"), "restarts": 2},
        "EngineEnded",
        ("GpuPartitioned", "disable MIG"),
    ),
    "a router that ends again and again": (
        {
            "waiting": Cause("CrashLoopBackOff", container="router"),
            "terminated": Cause("Error", "no bind", container="router"),
        },
        "CrashLoopBackOff",
        (
            "CrashLoopBackOff (last: Error: no bind)",
            "config.packs.routerImage",
            "kubectl logs chat-1 -c router --previous",
        ),
    ),
    "a router that has ended, and starts again": (
        {"terminated": Cause("Error", exit_code=139, container="router"), "restarts": 1},
        "EngineEnded",
        ("starts again after Error (exit code 139)", "kubectl logs chat-1 -c router --previous"),
    ),
    "a router whose image is no image": (
        {"waiting": Cause("ImagePullBackOff", "not found", container="router"), "terminated": OTHERS_END},
        "ImagePullBackOff",
        ("ImagePullBackOff: not found; check config.packs.routerImage", "see kubectl describe pod chat-1"),
    ),
    "an engine beside a router": (
        {"waiting": Cause("CrashLoopBackOff", container="engine"), "terminated": OTHERS_END},
        "CrashLoopBackOff",
        ("(last: OOMKilled: engine 1)", "kubectl logs chat-1 --previous"),
    ),
    "a node with too few CPUs": (
        {"node": None, "unscheduled_because": "0/1 nodes are available: 1 Insufficient cpu"},
        "Unschedulable",
        ("Insufficient cpu",),
    ),
}


@pytest.mark.parametrize("case", FAILS)
def test_a_pack_that_does_not_answer_says_what_helps(case: str) -> None:
    changed, reason, words = FAILS[case]
    of = view(2, workload=workload(1, updated=1, ready=0), pods=(replace(pod(), **changed),))
    said = next(one for one in status(plan(of))["conditions"] if one["type"] == "Available")
    assert (said["status"], said["reason"]) == ("False", reason)
    assert all(word in said["message"] for word in words), said["message"]


def test_a_stuck_successor_is_said_while_the_former_answers() -> None:
    stuck = Cause("ErrImagePull", "401", container="runtime", image="mirror/slm-operator:1")
    pods = (pod(ready=True), pod("chat-2", "gpu-2", waiting=stuck))
    of = view(2, workload=workload(1, existing=2, updated=1, ready=1), pods=pods)
    said = next(one for one in status(plan(of))["conditions"] if one["type"] == "Available")
    assert (said["status"], said["reason"]) == ("False", "ErrImagePull")
    assert "1 of 1 pack answer" in said["message"]
    assert "pod chat-2 waits: container runtime (mirror/slm-operator:1): ErrImagePull: 401" in said["message"]


def test_a_quota_below_the_pack_is_said() -> None:
    stalled = workload(1, existing=0, updated=0, ready=0, stalled_because='pods "chat-1" is forbidden: exceeded quota')
    said = next(one for one in status(plan(view(2, workload=stalled)))["conditions"] if one["type"] == "Available")
    assert said["reason"] == "Stalled"
    assert "exceeded quota" in said["message"]


def test_why_a_gpu_is_divided_so_is_said_while_it_is() -> None:
    none_fits = Chosen(reason=names.Choice.NO_NODE_FITS, because="no node opted in")
    as_before = Chosen(reason=names.Choice.AS_BEFORE, because="its engines run so")
    first = view(2, workload=workload(1), pods=(pod(),))
    first = replace(first, assignment=Assignment(slots=2, slice_class=PACK_2, chosen=none_fits))
    later = replace(first, assignment=Assignment(slots=2, slice_class=PACK_2, chosen=as_before))
    told = replace(later, deployment=replace(later.deployment, status=status(plan(first))))
    assert status(plan(later))["sharing"]["reason"] == "AsBefore", "nobody knows why any more"
    said = status(plan(told))["sharing"]
    assert said == {"partitioning": "PackPod", "reason": "NoNodeFits", "message": "no node opted in", "pods": 1}


def test_engines_that_do_not_serve_are_a_number_in_status() -> None:
    ready = pod(ready=True)
    of = replace(view(2, workload=workload(1), pods=(ready,)), serving={ready.meta.uid: 1})
    said = status(plan(of))
    available = next(one for one in said["conditions"] if one["type"] == "Available")
    assert (said["replicas"], said["readyReplicas"], said["packs"][0]["readyEngines"]) == (2, 1, 1)
    assert available["status"] == "True"
    assert "not serving in pod chat-1: 1 engine (kubectl logs" in available["message"]
