"""When a new template may be written: never over a replica that answers for one that has nowhere to run."""

from dataclasses import replace

import pytest
from slm_core.measurements import SharingMode
from slm_operator.partitioning.base import SliceClass
from slm_operator.planning.actions import Apply, PatchNode
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.deployment.rollout import slices_finding
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.planning.views import Assignment

from tests import builders as build

NOWHERE = Assignment(reason="NoCapacity", pending_because="no")
ROLLS = (
    ("slots of the new class", Assignment(slots=1), 2, 2, True),
    ("its own node is closed", replace(NOWHERE, may_be_disrupted=True, changing=("gpu-1",)), 2, 2, True),
    ("a node is being changed for it", replace(NOWHERE, changing=("gpu-1",)), 2, 2, False),
    ("no node can be had", NOWHERE, 2, 2, False),
    ("no node can be had, one of two answers", NOWHERE, 2, 1, False),
    ("no node can be had, and none answers", NOWHERE, 2, 0, True),
    ("to nothing at all", NOWHERE, 0, 2, True),
)


@pytest.mark.parametrize(
    ("answer", "wanted", "ready", "rolls"), [row[1:] for row in ROLLS], ids=[row[0] for row in ROLLS]
)
def test_whole_gpu_roll_begins(answer: Assignment, wanted: int, ready: int, *, rolls: bool) -> None:
    record = build.deployment(spec={"replicas": wanted, "sharing": {"mode": "Exclusive"}})
    view = build.deployment_view(
        record,
        build.profile(record, build.imported()),
        assignment=replace(answer, slice_class=build.WHOLE),
        workload=build.workload("chat", replicas=2, ready=ready),
    )
    kinds = {
        one.manifest["kind"]
        for one in plan_deployment(view, build.SETTINGS, build.NOW).actions
        if isinstance(one, Apply)
    }
    assert ("Deployment" in kinds) is rolls


def test_roll_to_whole_gpus_goes_one_node_at_a_time() -> None:
    nodes = tuple(build.partitioned_node(name) for name in ("gpu-1", "gpu-2"))
    pods = tuple(build.replica(f"chat-{n}", f"gpu-{1 + n % 2}") for n in range(4))
    whole = build.demand(slice_class=build.WHOLE)
    made = plan_fleet(build.fleet_view(whole, nodes=nodes, pods=pods), build.SETTINGS, build.NOW)
    assert [action.node for action in made.plan.actions if isinstance(action, PatchNode)] == ["gpu-1"]
    answer = made.assignments[whole.deployment]
    assert (answer.changing, answer.reason) == (("gpu-1", "gpu-2"), "NodeChanging")


@pytest.mark.parametrize(
    ("mode", "is_said"), [(SharingMode.MPS, True), (SharingMode.TIME_SLICING, False)], ids=["MPS", "time slices"]
)
def test_limits_that_no_engine_has_proven_are_called_so(mode: SharingMode, *, is_said: bool) -> None:
    """ADR 32: labels and slices say what a daemon was asked for, not what it holds engines to."""
    wanted = build.demand(slice_class=SliceClass(mode=mode, engines_per_gpu=2))
    given = Assignment(slice_class=wanted.slice_class, asked=wanted, nodes=("gpu-1",), slots=2)
    said = slices_finding(build.deployment_view(build.deployment(), None), given)
    assert said.holds
    assert said.message.startswith("2 slots on gpu-1")
    assert ("not proven by an engine" in said.message) is is_said
