"""Replicas whose spec cannot be followed now: they go on as they are, are scaled, and status says what is awaited."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.api import names
from slm_operator.api.status import AdviceStatus
from slm_operator.manifests.served import read_served
from slm_operator.planning.actions import Delete, Plan, ScaleWorkload, SetReplicas
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.views import Assignment, DeploymentView
from slm_operator.watch.records import Cause, DeploymentRecord, WorkloadRecord

from tests import builders as build

from .test_deployment import TWO_PER_GPU, applied, measured, status

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_core.measurements import MeasurementDocument

GPU_4 = {"nodeSelector": {"pool": "small"}, "tolerations": [{"key": "dedicated", "operator": "Exists"}]}
BEFORE: dict[str, Any] = TWO_PER_GPU | {"replicas": 2, "accelerator": GPU_4}
"""What was asked for, advised and served."""


def plan(of: DeploymentView) -> Plan:
    return plan_deployment(of, build.SETTINGS, build.NOW)


def served(replicas: int = 2) -> WorkloadRecord:
    """The Deployment of what was served, all of its replicas answering."""
    manifest = applied(plan(measured(BEFORE)))["Deployment"]
    text = manifest["metadata"]["annotations"][names.SERVED_ANNOTATION]
    return build.workload("chat", replicas=replicas, ready=replicas, served=text)


def former_status() -> dict[str, Any]:
    return status(plan(measured(BEFORE, workload=served())))


def changed(spec: dict[str, Any] | None = None, **more: Any) -> DeploymentView:
    """The same deployment with another spec, and slots for what it has."""
    record = more.pop("deployment", None) or build.deployment(spec=BEFORE | (spec or {}), status=former_status())
    record = replace(record, meta=replace(record.meta, generation=2))
    slots = Assignment(nodes=("gpu-1",), slots=2, slice_class=build.MPS_2)
    return build.deployment_view(
        record, more.pop("profile", None), **({"workload": served(), "assignment": slots} | more)
    )


def unreadable(record: DeploymentRecord) -> DeploymentRecord:
    return replace(record, spec=None, broken="spec.model: no")


def with_profile(spec: dict[str, Any], document: MeasurementDocument | None = None, **more: Any) -> DeploymentView:
    record = build.deployment(spec=BEFORE | spec, status=former_status())
    return changed(deployment=record, profile=build.profile(record, document, **more))


def failed_profile() -> DeploymentView:
    said = {"type": "Profiled", "status": "False", "reason": "EngineDied", "message": "it died"}
    stalled = said | {"type": "Stalled", "status": "True"}
    return with_profile({}, status={"phase": "Failed", "conditions": [said, stalled]})


OTHER_MODEL = {"model": {"uri": "hf://org/other"}}
SLO_OUT_OF_REACH = {"slo": {"itl": {"maxMs": 0.01}, "onInfeasible": "Hold"}}
REFUSED_TEMPLATE = {"podTemplate": {"spec": {"containers": [{"name": "engine", "image": "mine"}]}}}
CASES: dict[str, tuple[Callable[[], DeploymentView], str, bool]] = {
    "its profile was deleted": (changed, "ProfileRequested", False),
    "another model": (lambda: changed(OTHER_MODEL), "ProfileRequested", False),
    "its profile waits": (lambda: with_profile({}), "Profiling", False),
    "a profile that failed": (failed_profile, "EngineDied", True),
    "a profile that is not there": (
        lambda: changed({"profiling": {"profileRef": {"name": "gone"}}}),
        "ProfileNotFound",
        True,
    ),
    "nothing may be measured": (lambda: changed({"profiling": {"policy": "Never"}}), "ProfileMissing", True),
    "an SLO out of reach, held": (
        lambda: with_profile(SLO_OUT_OF_REACH, build.imported()),
        "SLOInfeasible",
        True,
    ),
    "a template that is refused": (lambda: changed(REFUSED_TEMPLATE), "InvalidPodTemplate", True),
    "a spec that cannot be read": (
        lambda: changed(deployment=unreadable(build.deployment(status=former_status()))),
        "InvalidSpec",
        True,
    ),
}
"""What is in the way, the reason of Ready, and whether somebody must act."""
CANNOT_BE_ADVISED = {"an SLO out of reach, held", "a template that is refused"}


@pytest.mark.parametrize("case", CASES)
def test_serving_deployment_is_left_alone_and_status_says_so(case: str) -> None:
    of, reason, stalls = CASES[case]
    made = plan(of())
    said = {one["type"]: one for one in status(made)["conditions"]}
    assert len(said) == len(status(made)["conditions"]), "each type once, or the API server refuses the status"
    assert "Deployment" not in applied(made)
    assert not any(isinstance(action, Delete | ScaleWorkload) for action in made.actions)
    assert (said["Ready"]["reason"], "Stalled" in said, "Reconciling" in said) == (reason, stalls, not stalls)
    assert said["Ready"]["status"] == ("False" if stalls else "Unknown")
    assert (said["Available"]["status"], said["Available"]["reason"]) == ("True", "Available")
    assert said["Allocated"]["status"] == "True"
    advised = ("False", reason) if case in CANNOT_BE_ADVISED else ("True", "ServedAsBefore")
    assert (said["Advised"]["status"], said["Advised"]["reason"]) == advised
    assert status(made)["advice"] == former_status()["advice"]


def scaled(of: DeploymentView) -> list[int]:
    return [action.replicas for action in plan(of).actions if isinstance(action, ScaleWorkload)]


@pytest.mark.parametrize("case", [case for case in CASES if case != "a spec that cannot be read"])
@pytest.mark.parametrize("wanted", [0, 1, 5])
def test_the_number_of_replicas_is_obeyed(case: str, wanted: int) -> None:
    of = CASES[case][0]()
    spec = of.deployment.spec
    assert spec is not None
    asked = replace(of, deployment=replace(of.deployment, spec=spec.model_copy(update={"replicas": wanted})))
    assert scaled(asked) == [wanted]
    demand = demand_of(asked.deployment, asked.profile, asked.advice, read_served(served().served))
    assert demand is not None
    assert (demand.replicas, demand.slice_class, demand.node_selector) == (wanted, build.MPS_2, {"pool": "small"})
    assert [one.key for one in demand.tolerations] == ["dedicated"]


def test_serving_without_advice_keeps_its_slice_size() -> None:
    before = read_served(served().served)
    assert before is not None
    demand = demand_of(changed().deployment, None, None, before.model_copy(update={"slice_bytes": 7 << 30}))
    assert demand is not None
    assert demand.slice_bytes == 7 << 30


def test_the_operators_own_number_stays_a_full_pack() -> None:
    of = changed({"replicas": None})
    assert scaled(of) == []
    (write,) = (action for action in plan(of).actions if isinstance(action, SetReplicas))
    assert write.replicas == 2
    assert scaled(replace(of, deployment=replace(of.deployment, own_replicas=3))) == [3]


def test_without_a_status_the_advice_is_read_off_the_deployment() -> None:
    of = changed(deployment=build.deployment(spec=BEFORE))
    advice = status(plan(of))["advice"]
    AdviceStatus.model_validate(advice, extra="forbid")
    before = former_status()["advice"]
    kept = ("configuration", "feasible", "source", "profileRef", "digest")
    assert {name: before[name] for name in kept} == advice


def test_a_replica_that_fails_meanwhile_is_seen() -> None:
    pod = build.replica("chat-1", waiting=Cause("CrashLoopBackOff"))
    said = {one["type"]: one for one in status(plan(changed(workload=w_ready(1), pods=(pod,))))["conditions"]}
    assert (said["Available"]["status"], said["Available"]["reason"]) == ("False", "CrashLoopBackOff")
    assert said["Ready"]["status"] == "False"


def w_ready(ready: int) -> WorkloadRecord:
    return replace(served(), ready=ready)


@pytest.mark.parametrize(
    "text",
    [None, "", "{", "[]", '{"profile": 1}', '{"configuration": {"batchSize": "x"}}', "[" * 5000, '"\\ud800"'],
)
def test_unreadable_served_annotation_scales_nothing(text: str | None) -> None:
    of = changed(workload=replace(served(), served=text))
    assert read_served(text) is None
    assert scaled(of) == []
    said = {one["type"]: one["status"] for one in status(plan(of))["conditions"]}
    assert (said["Ready"], said["Available"]) == ("False", "Unknown")


def test_routing_goes_on_too() -> None:
    of = changed({"routing": {"gatewayRef": {"name": "inference"}, "endpointPickerRef": {"name": "chat-epp"}}})
    assert {"InferencePool", "HTTPRoute"} <= applied(plan(of)).keys()


@pytest.mark.parametrize(("pool", "reason"), [("small", "Ready"), ("large", "Planning")])
def test_only_an_assignment_for_its_own_nodes_is_taken(pool: str, reason: str) -> None:
    asked = build.demand(node_selector={"pool": pool}, product=build.imported().gpu.product)
    room = Assignment(asked=asked, nodes=("gpu-1",), slots=2, slice_class=build.MPS_2)
    said = {one["type"]: one["reason"] for one in status(plan(changed(assignment=room)))["conditions"]}
    assert said["Allocated"] == reason


def test_a_deployment_that_is_being_deleted_is_not_scaled() -> None:
    going = replace(served(), meta=replace(served().meta, deleting=True))
    assert scaled(changed({"replicas": 5}, workload=going)) == []


def test_deployment_never_served_is_not_scaled() -> None:
    of = changed(workload=None)
    assert scaled(of) == []
    assert demand_of(of.deployment, None, None) is None


PAUSED = {"paused": True}
PAUSES: dict[str, Callable[[], DeploymentView]] = {
    "as it was": lambda: with_profile(PAUSED, build.imported()),
    "with other advice": lambda: with_profile(PAUSED | {"sharing": {"mode": "Exclusive"}}, build.imported()),
    "with another image": lambda: with_profile(PAUSED | {"engine": {"image": "other:1"}}, build.imported()),
    "another model": lambda: changed(PAUSED | OTHER_MODEL),
    "its profile waits": lambda: with_profile(PAUSED),
    "a template that is refused": lambda: changed(PAUSED | REFUSED_TEMPLATE),
}


@pytest.mark.parametrize("case", PAUSES)
def test_paused_deployment_is_only_scaled(case: str) -> None:
    of = replace(PAUSES[case](), workload=served(replicas=3), assignment=None)
    made = plan(of)
    assert scaled(of) == [2]
    assert applied(made).keys() <= {"Service", "PodDisruptionBudget"}
    assert demand_of(of.deployment, of.profile, of.advice, read_served(served().served)) is None
    settled = status(plan(replace(of, workload=served())))
    said = {one["type"]: (one["status"], one["reason"]) for one in settled["conditions"]}
    (allocated,) = (one["message"] for one in settled["conditions"] if one["type"] == "Allocated")
    assert allocated == "spec.paused: no node is changed and no replica is replaced"
    assert (said["Ready"][0], said["Available"], said["Allocated"]) == (
        "Unknown",
        ("True", "Available"),
        ("Unknown", "Paused"),
    )
    assert settled["phase"] == "Paused"
    assert settled["advice"] == former_status()["advice"]


def test_paused_deployment_never_served_is_not_made() -> None:
    made = plan(replace(with_profile(PAUSED, build.imported()), workload=None))
    assert not applied(made)
    assert status(made)["phase"] == "Paused"
    assert "spec.paused: no replica is made" in [one["message"] for one in status(made)["conditions"]]


def test_no_profile_is_asked_for_while_paused() -> None:
    of = changed(PAUSED, workload=None)
    assert not applied(plan(of))
    said = {one["type"]: one["reason"] for one in status(plan(of))["conditions"]}
    assert said["Profiled"] == "Paused"


def test_a_change_of_scale_writes_no_other_annotation() -> None:
    few, many = (
        applied(plan(measured(BEFORE | {"replicas": count})))["Deployment"]["metadata"]["annotations"]
        for count in (1, 4)
    )
    assert few == many
