"""A node whose administrator wants no change now: it is not taken, not given back, and a change waits where it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from slm_operator.api import names
from slm_operator.planning.actions import EmitEvent, PatchNode
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.settings import Settings

from tests import builders as build

from .playing import play
from .test_fleet import play_out

if TYPE_CHECKING:
    from slm_operator.planning.views import FleetView

ONE_AT_A_TIME = Settings.model_validate({"nodes": {"maxChanging": 1}})


def hold(view: FleetView, *, value: str | None = "true") -> FleetView:
    """The same nodes with the annotation, or without it."""
    kept = [
        {name: text for name, text in node.meta.annotations.items() if name != names.PAUSED_ANNOTATION}
        | ({names.PAUSED_ANNOTATION: value} if value is not None else {})
        for node in view.nodes
    ]
    nodes = zip(view.nodes, kept, strict=True)
    return replace(view, nodes=tuple(replace(one, meta=replace(one.meta, annotations=own)) for one, own in nodes))


def test_a_held_node_is_not_taken_and_the_condition_says_why() -> None:
    view = hold(build.fleet_view(build.demand(), nodes=(build.node(),)))
    plan = plan_fleet(view, build.SETTINGS, build.NOW)
    assert not plan.plan.actions
    answer = plan.assignments[build.demand().deployment]
    assert answer.slots == 0
    assert f"is held by its annotation {names.PAUSED_ANNOTATION}" in (answer.pending_because or "")


def test_another_node_is_taken_in_place_of_a_held_one() -> None:
    held, free = hold(build.fleet_view(build.demand(), nodes=(build.node(),))).nodes[0], build.node("gpu-2")
    settled, _, plan = play_out(build.fleet_view(build.demand(), nodes=(held, free)))
    assert plan.assignments[build.demand().deployment].nodes == ("gpu-2",)
    assert settled.nodes[0] == held


def test_slices_left_on_a_held_node_are_not_waited_for() -> None:
    view, _, _ = play_out(build.fleet_view(build.demand("gone"), nodes=(build.node(),)))
    left = hold(view).nodes[0]
    _, _, plan = play_out(build.fleet_view(build.demand(), nodes=(left, build.node("gpu-2"))), start_s=100_000)
    assert plan.assignments[build.demand().deployment].nodes == ("gpu-2",)


def test_a_held_node_is_not_emptied_for_a_whole_gpu() -> None:
    view, _, _ = play_out(build.fleet_view(build.demand("gone", replicas=4), nodes=(build.node(), build.node("gpu-2"))))
    held, free = hold(view).nodes[0], view.nodes[1]
    wants = build.demand(slice_class=build.WHOLE, replicas=1)
    plan = plan_fleet(replace(view, demands=(wants,), nodes=(held, free)), build.SETTINGS, build.later(100_000))
    assert plan.assignments[wants.deployment].changing == ("gpu-2",)


def test_a_held_node_goes_on_serving() -> None:
    view, _, before = play_out(build.fleet_view(build.demand(), nodes=(build.node(),)))
    plan = plan_fleet(hold(view), build.SETTINGS, build.later(1000))
    assert not plan.plan.actions
    assert plan.assignments[build.demand().deployment].slots == before.assignments[build.demand().deployment].slots == 2


def test_a_held_node_is_not_given_back() -> None:
    view, _, _ = play_out(build.fleet_view(build.demand(), nodes=(build.node(),)))
    unwanted = hold(replace(view, demands=()))
    assert not plan_fleet(unwanted, build.SETTINGS, build.later(100_000)).plan.actions
    back, _, _ = play_out(hold(unwanted, value=None), start_s=100_000)
    assert dict(back.nodes[0].meta.labels) == dict(build.node().meta.labels)


@pytest.mark.parametrize("steps", range(6))
def test_change_of_a_held_node_waits_and_then_completes(steps: int) -> None:
    view = build.fleet_view(build.demand(), nodes=(build.node(),))
    for tick in range(steps):
        for action in plan_fleet(view, build.SETTINGS, build.later(10 * tick)).plan.actions:
            view = play(view, action)
    during = plan_fleet(hold(view), build.SETTINGS, build.later(60))
    assert not [action for action in during.plan.actions if not isinstance(action, EmitEvent)]
    _, _, after = play_out(view, start_s=100)
    assert after.assignments[build.demand().deployment].slots == 2


def test_change_of_a_held_node_takes_no_turn_of_others() -> None:
    view = build.fleet_view(build.demand(), build.demand("other"), nodes=(build.node(), build.node("gpu-2")))
    for tick in range(0, 120, 30):
        for action in plan_fleet(view, ONE_AT_A_TIME, build.later(tick)).plan.actions:
            view = play(view, action)
    held = replace(view, nodes=(hold(view).nodes[0], view.nodes[1]))
    for now, changed in ((view, {"gpu-1"}), (held, {"gpu-2"})):
        actions = plan_fleet(now, ONE_AT_A_TIME, build.later(130)).plan.actions
        assert {action.node for action in actions if isinstance(action, PatchNode)} == changed


@pytest.mark.parametrize("value", ["false", "", "yes"])
def test_only_value_true_holds_a_node(value: str) -> None:
    view = hold(build.fleet_view(build.demand(), nodes=(build.node(),)), value=value)
    assert plan_fleet(view, build.SETTINGS, build.NOW).plan.actions
