"""Who divides a GPU where that is left to the operator: as it runs now, slices where a node fits, else a pack in a pod."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.measurements import SharingMode
from slm_operator.api import names
from slm_operator.partitioning.base import UNSHARED, SliceClass
from slm_operator.partitioning.config_manager import ConfigManager
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.watch.records import Key

from tests import builders as build

if TYPE_CHECKING:
    from slm_operator.planning.views import Assignment

DEAF = ConfigManager(version=(0, 20, 0), signals="/usr/bin/mps-control-daemon", daemon="mps-control-daemon")
SLICED_2 = SliceClass(mode=SharingMode.TIME_SLICING, engines_per_gpu=2)
PACK_2 = replace(build.MPS_2, in_one_pod=True)
NOT_OPTED_IN = build.node("gpu-1", labels={names.OPT_IN_LABEL: "false"})


def answer(
    *nodes: Any, namespaces: tuple[str, ...] = (), manager: ConfigManager | None = None, **asked: Any
) -> Assignment:
    view = build.fleet_view(build.demand(**{"asked": "Auto"} | asked), nodes=nodes)
    if manager is not None:
        view = replace(view, daemons=tuple(replace(one, config_manager=manager) for one in view.daemons))
    settings = build.SETTINGS.model_copy(update={"namespaces": namespaces})
    return plan_fleet(view, settings, build.NOW).assignments[Key("team", "chat")]


def said(given: Assignment) -> tuple[bool, str | None]:
    assert given.slice_class is not None
    return given.slice_class.in_one_pod, None if given.chosen is None else str(given.chosen.reason)


CASES: dict[str, tuple[Assignment, tuple[bool, str | None]]] = {
    "an opted-in node fits": (answer(build.node()), (False, "NodeFits")),
    "no node opted in": (answer(NOT_OPTED_IN), (True, "NoNodeFits")),
    "no node at all": (answer(), (True, "NoNodeFits")),
    "the opted-in node has another product": (answer(build.node(), product="NVIDIA-L4"), (True, "NoNodeFits")),
    "its slices would be too small": (answer(build.node(), slice_bytes=1 << 40), (True, "NoNodeFits")),
    "MPS does not hold by label": (answer(build.node(), manager=DEAF), (True, "ModeNotHeld")),
    "another mode holds by label": (
        answer(build.node(), manager=DEAF, slice_class=SLICED_2),
        (False, "NodeFits"),
    ),
    "nodes are not seen": (answer(namespaces=("team",)), (True, "NodesUnseen")),
    "nodes are not seen and slices are asked for": (
        answer(namespaces=("team",), asked="NodeSlices"),
        (False, "Asked"),
    ),
    "packs are asked for": (answer(build.node(), asked="PackPod"), (True, "Asked")),
    "slices are asked for and no node fits": (answer(asked="NodeSlices"), (False, "Asked")),
    "packs run now": (answer(build.node(), runs=PACK_2), (True, "AsBefore")),
    "slices run now and their node fits": (answer(build.node(), runs=build.MPS_2), (False, "AsBefore")),
    "slices run now under MPS that may not hold": (
        answer(build.node(), runs=build.MPS_2, manager=DEAF),
        (False, "AsBefore"),
    ),
    "slices ran and no node fits any more": (answer(NOT_OPTED_IN, runs=build.MPS_2), (True, "NoNodeFits")),
    "slices run now and nodes are not seen": (answer(namespaces=("team",), runs=build.MPS_2), (False, "AsBefore")),
    "co-tenants share": (answer(NOT_OPTED_IN, shared_tenancy=True), (False, "SharedTenancy")),
    "one engine a GPU and an opted-in node": (answer(build.node(), slice_class=UNSHARED), (False, "NodeFits")),
    "one engine a GPU and none opted in": (answer(NOT_OPTED_IN, slice_class=UNSHARED), (True, "NoNodeFits")),
    "one engine a GPU that is on an opted-in node": (
        answer(build.node(), slice_class=UNSHARED, runs=UNSHARED),
        (False, "AsBefore"),
    ),
    "one engine a GPU ran and packs pay now": (answer(NOT_OPTED_IN, runs=UNSHARED), (True, "NoNodeFits")),
}


@pytest.mark.parametrize("case", CASES)
def test_who_divides_the_gpu(case: str) -> None:
    given, expected = CASES[case]
    assert said(given) == expected


def test_a_pack_is_given_all_its_engines_and_changes_no_node() -> None:
    view = build.fleet_view(build.demand(asked="PackPod", replicas=7), nodes=(build.node(),))
    made = plan_fleet(view, build.SETTINGS, build.NOW)
    given = made.assignments[Key("team", "chat")]
    assert (given.slots, given.nodes, given.pending_because, made.plan.actions) == (7, (), None, ())


def test_a_node_where_a_pack_runs_is_taken_from_nobody() -> None:
    packed = build.demand("packed", asked="PackPod", replicas=2)
    pod = build.replica("packed-1", "gpu-1", "packed", gpu_requests={"nvidia.com/gpu": 1})
    view = build.fleet_view(build.demand(), packed, nodes=(build.node("gpu-1", gpus=1),), pods=(pod,))
    made = plan_fleet(view, build.SETTINGS, build.NOW)
    assert made.plan.actions == ()
    assert made.assignments[Key("team", "chat")].pending_because is not None


def test_failure_is_remembered_while_packs_serve_instead() -> None:
    why = {names.CHANGE_FAILED_ANNOTATION: '{"mps-2": "it does not hold"}'}
    failed = build.node("gpu-1", annotations=why)
    for runs in (None, PACK_2):
        view = build.fleet_view(build.demand(asked="Auto", runs=runs), nodes=(failed,))
        assert plan_fleet(view, build.SETTINGS, build.NOW).plan.actions == (), "or the node is drained for it once more"
    for asked, slice_class in (("PackPod", build.MPS_2), ("Auto", SLICED_2)):
        view = build.fleet_view(build.demand(asked=asked, slice_class=slice_class), nodes=(failed,))
        assert plan_fleet(view, build.SETTINGS, build.NOW).plan.actions, "nobody wants that class any more"
