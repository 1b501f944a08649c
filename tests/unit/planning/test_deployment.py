"""One deployment's story: which step it waits for, what it says, and what it may do meanwhile."""

from dataclasses import replace
from typing import Any

import jsonschema
import pytest
import yaml
from slm_operator.api import names
from slm_operator.api.crd import KINDS, definition
from slm_operator.api.status import SLMDeploymentStatus
from slm_operator.planning.actions import Apply, Delete, EmitEvent, Plan, WriteStatus
from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.deployment.gpu_spread import spread
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.views import Assignment, DeploymentView, Refusal
from slm_operator.watch.records import Cause

from tests import builders as build

TWO_PER_GPU = {"sharing": {"enginesPerGpu": 2, "mode": "MPS"}}
READY = Assignment(nodes=("gpu-1",), slots=2)


def view(spec: dict[str, Any] | None = None, **more: Any) -> DeploymentView:
    record = more.pop("deployment", None) or build.deployment(spec=spec)
    return build.deployment_view(record, more.pop("profile", None), **more)


def measured(spec: dict[str, Any] | None = None, **more: Any) -> DeploymentView:
    """With its profile, and slices of what is advised, `assignment` saying how many."""
    record = build.deployment(spec=spec)
    given = {"deployment": record, "profile": build.profile(record, build.imported()), "assignment": READY} | more
    wants = demand_of(record, given["profile"], advice_of(record, given["profile"]))
    if wants is not None and given["assignment"] is not None:
        given["assignment"] = replace(given["assignment"], slice_class=wants.slice_class)
    return view(**given)


def status(plan: Plan) -> dict[str, Any]:
    (write,) = (action for action in plan.actions if isinstance(action, WriteStatus))
    SLMDeploymentStatus.model_validate(write.status, extra="forbid")
    return dict(write.status)


def blocking(plan: Plan) -> tuple[str, str, bool]:
    """Reason and message of Ready, and whether it is stalled."""
    said = {condition["type"]: condition for condition in status(plan)["conditions"]}
    return said["Ready"]["reason"], said["Ready"]["message"], "Stalled" in said


def applied(plan: Plan) -> dict[str, dict[str, Any]]:
    return {action.manifest["kind"]: action.manifest for action in plan.actions if isinstance(action, Apply)}


def plan(of: DeploymentView) -> Plan:
    return plan_deployment(of, build.SETTINGS, build.NOW)


def test_deployment_without_a_profile_asks_for_an_unowned_one() -> None:
    made = plan(view())
    assert set(applied(made)) == {"SLMProfile"}
    assert "ownerReferences" not in applied(made)["SLMProfile"]["metadata"]
    assert blocking(made) == (
        "ProfileRequested",
        f"SLMProfile {applied(made)['SLMProfile']['metadata']['name']} is being created",
        False,
    )


def test_a_profile_that_is_refused_is_asked_for_and_said() -> None:
    made = plan(view(refusal=Refusal(kind="SLMProfile", because="exceeded quota: profiles")))
    assert set(applied(made)) == {"SLMProfile"}
    assert blocking(made) == ("Refused", "the API server refuses its SLMProfile: exceeded quota: profiles", False)


def test_a_profile_in_the_place_of_its_own_is_named() -> None:
    made = plan(view(namesake=build.profile(build.deployment())))
    assert applied(made) == {}
    reason, message, stalls = blocking(made)
    assert (reason, stalls) == ("ProfileMissing", True)
    assert "podTemplate sets of the engine (CPU, memory, variables) is another" in message


def test_a_measured_model_with_slices_is_served_as_advised() -> None:
    made = plan(measured(TWO_PER_GPU))
    assert set(applied(made)) == {"SLMProfile", "Service", "PodDisruptionBudget", "Deployment"} - {"SLMProfile"}
    pod = applied(made)["Deployment"]["spec"]["template"]["spec"]
    advice = status(made)["advice"]
    args = pod["containers"][0]["args"]
    assert args[args.index("--max-num-seqs") + 1] == str(advice["configuration"]["batchSize"])
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu.shared"] == "1"
    assert pod["nodeSelector"][names.CLASS_LABEL] == "mps-2"
    assert applied(made)["Deployment"]["spec"]["replicas"] == advice["configuration"]["enginesPerGpu"] == 2
    assert advice["source"] == "UserChoice"


OTHER_USER = {"podTemplate": {"spec": {"securityContext": {"runAsUser": 1000}}}}
OWN_SHM = {"podTemplate": yaml.safe_load((build.DATA.parent / "field/pod-templates/shm-under-mps.yaml").read_text())}


@pytest.mark.parametrize(
    ("template", "words"),
    [(OTHER_USER, "MPS serves one user at a time"), (OWN_SHM, "hides that of the MPS daemon")],
    ids=["another user", "a shared memory of its own"],
)
def test_an_engine_against_the_rules_of_mps_is_not_put_under_it(template: dict[str, Any], words: str) -> None:
    made = plan(measured(TWO_PER_GPU | template, workload=WORKLOAD))
    reason, message, stalls = blocking(made)
    assert (reason, stalls) == ("InvalidPodTemplate", True)
    assert words in message
    assert "set spec.sharing.mode to Auto, TimeSlicing or Exclusive" in message
    assert not applied(made).keys() & {"Deployment", "Service", "PodDisruptionBudget"}
    assert not any(isinstance(action, Delete) for action in made.actions)


def test_engine_of_another_user_is_served_without_mps() -> None:
    for mode in ("Exclusive", "TimeSlicing", "Auto"):
        made = plan(
            measured({"sharing": {"mode": mode, "enginesPerGpu": 1 if mode == "Exclusive" else 2}} | OTHER_USER)
        )
        assert applied(made)["Deployment"]["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 1000


@pytest.mark.parametrize("template", [OTHER_USER, OWN_SHM], ids=["another user", "a shared memory of its own"])
def test_no_gpu_time_is_spent_on_mps_that_cannot_be_served(template: dict[str, Any]) -> None:
    made = plan(view({"sharing": {"mode": "MPS"}} | template))
    assert blocking(made)[0] == "InvalidPodTemplate"
    assert not applied(made)
    assert "SLMProfile" in applied(plan(view({"sharing": {"mode": "Auto"}} | template)))


def test_replicas_without_slices_wait_and_status_says_why() -> None:
    waits = Assignment(reason="ForeignPods", pending_because="node gpu-1: its GPU is held by pod others/training")
    made = plan(measured(TWO_PER_GPU, assignment=waits))
    assert applied(made)["Deployment"]["spec"]["replicas"] == 2
    assert blocking(made) == ("ForeignPods", "node gpu-1: its GPU is held by pod others/training", False)


def test_all_replicas_answering_is_ready_and_quiet_afterwards() -> None:
    ready = WORKLOAD
    made = plan(measured(TWO_PER_GPU, workload=ready))
    assert status(made)["phase"] == "Ready"
    assert {c["type"] for c in status(made)["conditions"]} == {
        "Ready",
        "Profiled",
        "Advised",
        "Allocated",
        "Available",
        "SLOMet",
    }
    again = measured(TWO_PER_GPU, workload=ready)
    again = replace(again, deployment=replace(again.deployment, status=status(made)))
    later = plan_deployment(again, build.SETTINGS, build.later(3600))
    assert status(later) == status(made)
    assert not any(isinstance(action, EmitEvent) for action in later.actions)


def test_more_free_slots_than_needed_change_nothing() -> None:
    first = measured(TWO_PER_GPU, workload=WORKLOAD)
    asked = demand_of(first.deployment, first.profile, first.advice)
    assert asked is not None

    def said(slots: int) -> dict[str, Any]:
        room = Assignment(slice_class=asked.slice_class, asked=asked, nodes=("gpu-1",), slots=slots)
        return status(plan(replace(first, assignment=room)))

    assert said(asked.replicas) == said(asked.replicas + 6)


def test_running_replicas_go_on_while_their_only_node_changes() -> None:
    changing = Assignment(changing=("gpu-1",), reason="NodeChanging", pending_because="node gpu-1 is being drained")
    made = plan(measured(TWO_PER_GPU, assignment=changing, workload=WORKLOAD))
    assert "Deployment" not in applied(made), "a new template would stop one of them at once"
    assert applied(made)["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert blocking(made)[0] == "NodeChanging"


def test_closed_node_lets_all_replicas_go_and_roll_to_advice() -> None:
    closed = Assignment(
        changing=("gpu-1",), may_be_disrupted=True, reason="NodeChanging", pending_because="it is being drained"
    )
    made = plan(measured(TWO_PER_GPU, assignment=closed, workload=WORKLOAD))
    assert "Deployment" in applied(made)
    assert applied(made)["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 2


def test_slices_of_former_advice_do_not_count() -> None:
    before = replace(measured(TWO_PER_GPU, workload=WORKLOAD), assignment=replace(READY, slice_class=build.MPS_4))
    made = plan(before)
    assert "Deployment" not in applied(made)
    assert blocking(made)[0] == "Planning"


def test_pending_replica_does_not_block_its_nodes_change() -> None:
    nowhere = Assignment(may_be_disrupted=True, reason="NoCapacity", pending_because="node gpu-1: serves team.other")
    made = plan(measured(TWO_PER_GPU, assignment=nowhere, workload=WORKLOAD))
    assert applied(made)["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 2
    assert blocking(made)[0] == "NoCapacity"


def test_deleted_deployment_is_planned_nothing() -> None:
    record = build.deployment()
    gone = replace(record, meta=replace(record.meta, deleting=True))
    assert plan(view(deployment=gone)) == Plan()


def test_a_pod_that_the_kubelet_refused_is_removed() -> None:
    refused = build.replica(
        "chat-1", phase="Failed", failed_because=Cause("UnexpectedAdmissionError", "maximum request size")
    )
    made = plan(measured(TWO_PER_GPU, workload=WORKLOAD, pods=(refused,)))
    assert [action.key.name for action in made.actions if isinstance(action, Delete)] == ["chat-1"]


WORKLOAD = build.workload("chat", replicas=2, ready=2)
STARTING = build.workload("chat", replicas=2, ready=1)
STUCK = {
    "spec unreadable": (
        view(deployment=replace(build.deployment(), spec=None, broken="spec.model: missing")),
        "InvalidSpec",
        "spec.model",
        True,
    ),
    "named profile missing": (
        view({"profiling": {"profileRef": {"name": "golden"}}}),
        "ProfileNotFound",
        "SLMProfile golden",
        True,
    ),
    "never measure": (view({"profiling": {"policy": "Never"}}), "ProfileMissing", "IfMissing", True),
    "owned field in podTemplate": (
        view({"podTemplate": {"spec": {"containers": [{"name": "engine", "image": "mine"}]}}}),
        "InvalidPodTemplate",
        "spec.engine.image",
        True,
    ),
    "SLO out of reach and held": (
        measured({"slo": {"itl": {"maxMs": 0.5}, "onInfeasible": "Hold"}}),
        "SLOInfeasible",
        "Nothing is deployed",
        True,
    ),
    "measurements contradict themselves": (
        measured(
            profile=build.profile(build.deployment(), replace(build.imported(), points=build.imported().points[1:]))
        ),
        "InvalidMeasurements",
        "B=1",
        True,
    ),
    "image cannot be pulled": (
        measured(
            workload=STARTING,
            pods=(build.replica("chat-1", waiting=Cause("ImagePullBackOff", "no such image")),),
        ),
        "ImagePullBackOff",
        "no such image",
        False,
    ),
    "engine crashes": (
        measured(
            workload=STARTING,
            pods=(build.replica("chat-1", waiting=Cause("CrashLoopBackOff", "10s"), terminated=Cause("Error 1")),),
        ),
        "CrashLoopBackOff",
        "kubectl logs chat-1 --previous",
        False,
    ),
    "quota": (
        measured(refusal=Refusal(kind="Service", because="exceeded quota: gpus")),
        "Refused",
        "exceeded quota",
        True,
    ),
    "not planned yet": (measured(assignment=None), "Planning", "being chosen", False),
}


@pytest.mark.parametrize("case", STUCK)
def test_obstacle_is_named_with_its_remedy(case: str) -> None:
    of, reason, words, stalled = STUCK[case]
    made = blocking(plan(of))
    assert made[0] == reason
    assert words in made[1]
    assert made[2] is stalled


def test_routing_that_cannot_be_made_stalls_and_serving_stays() -> None:
    asked = {"routing": {"gatewayRef": {"name": "inference"}, "endpointPickerRef": {"name": "chat-epp"}}}
    missing = Refusal(kind="InferencePool", because="404 page not found", unserved=True)
    made = plan(measured(TWO_PER_GPU | asked, workload=WORKLOAD, refusal=missing))
    reason, message, stalled = blocking(made)
    assert (reason, stalled) == ("GatewayApiMissing", True)
    assert "Service is the way" in message
    assert {"Deployment", "InferencePool", "HTTPRoute"} <= set(applied(made))
    assert next(c for c in status(made)["conditions"] if c["type"] == "Available")["status"] == "True"


def test_an_infeasible_slo_served_at_best_effort_says_so() -> None:
    made = plan(measured({"slo": {"itl": {"maxMs": 0.5}}}))
    advised = next(c for c in status(made)["conditions"] if c["type"] == "Advised")
    assert advised["reason"] == "SLOInfeasible"
    assert "Deployment" in applied(made)


PACKS = 300


def test_status_counts_packs_beyond_those_it_lists() -> None:
    written = status(plan_deployment(build.many_packs(PACKS), build.SETTINGS, build.NOW))
    assert (len(written["packs"]), written["packCount"]) == (256, PACKS)
    (kind,) = (one for one in KINDS if one.kind == "SLMDeployment")
    (version,) = definition(kind)["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    jsonschema.Draft4Validator(schema).validate(written)
    assert len(spread(build.many_packs(PACKS).pods, 2) or "") in range(100, 300)
