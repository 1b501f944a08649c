"""Where an MPS daemon does not hear of its configuration: no node is drained for it twice, and whatever serves stays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from slm_core.measurements import SharingMode
from slm_operator.api import names
from slm_operator.partitioning.base import SliceClass
from slm_operator.partitioning.config_manager import ConfigManager
from slm_operator.partitioning.plugin_config import config_key, plugin_config
from slm_operator.planning.actions import EmitEvent, Evict, PatchNode
from slm_operator.planning.fleet.node.annotations import failures_in
from slm_operator.planning.fleet.plan import plan_fleet

from tests import builders as build

from .playing import play as play_action

if TYPE_CHECKING:
    from slm_operator.planning.views import Assignment, FleetPlan, FleetView

MPS = "mps-control-daemon"
CONFIG = build.SETTINGS.device_plugin.config_label
DEAF = ConfigManager(version=(0, 20, 0), signals="/usr/bin/mps-control-daemon", daemon="mps-control-daemon")
HEARING = replace(DEAF, signals="mps-control-daemon")
TO_CHAT = '{"class": "mps-2", "serves": "team.chat"}'
CHAT = build.demand().deployment
SLICED_2 = SliceClass(mode=SharingMode.TIME_SLICING, engines_per_gpu=2)


def released(view: FleetView, manager: ConfigManager) -> FleetView:
    """The fleet with every MPS daemon beside such a config-manager."""
    daemons = (replace(one, config_manager=manager) if one.part == MPS else one for one in view.daemons)
    return replace(view, daemons=tuple(daemons))


def beside(view: FleetView, node: str, manager: ConfigManager, started: str | None = None) -> FleetView:
    return replace(view, daemons=(*view.daemons, build.daemon(MPS, node, config_manager=manager, started=started)))


def plan(view: FleetView, seconds: float = 0) -> FleetPlan:
    return plan_fleet(view, build.SETTINGS, build.later(seconds))


def play(view: FleetView, manager: ConfigManager, seconds: float = 0) -> tuple[FleetView, FleetPlan, list[str], float]:
    """Play until nothing more is wanted: the world, the last plan, the events, and the seconds that passed."""
    events: list[str] = []
    for tick in range(60):
        now = seconds + 10 * tick
        made = plan(view, now)
        for action in made.plan.actions:
            events += [f"{action.reason} {action.message}"] if isinstance(action, EmitEvent) else []
            view = released(play_action(view, action), manager)
        view = replace(view, memory=made.memory)
        if not made.plan.actions and made.plan.look_again_seconds is None:
            return view, made, events, now
    raise AssertionError(f"never settles: {events}")


def answer(made: FleetPlan) -> Assignment:
    return made.assignments[CHAT]


def test_a_node_is_not_begun_where_another_s_daemon_is_deaf() -> None:
    other = build.partitioned_node("gpu-2", serves="team.other")
    mine, theirs = build.demand(), build.demand("other")
    view = beside(build.fleet_view(mine, theirs, nodes=(build.node(), other)), "gpu-2", DEAF)
    made = plan(view)
    assert not any(isinstance(action, PatchNode) and action.node == "gpu-1" for action in made.plan.actions)
    said = answer(made).pending_because or ""
    assert "gpu-1, gpu-2: cannot be had for MPS: the MPS control daemon's config-manager 0.20.0" in said


def test_the_reason_is_mps_signal_lost_where_it_is_the_only_one() -> None:
    made = plan(beside(build.fleet_view(build.demand(), nodes=(build.node(),)), "gpu-9", DEAF))
    assert not made.plan.actions
    assert answer(made).reason == "MpsSignalLost"


def test_a_first_node_goes_back_at_once_when_its_daemon_is_deaf() -> None:
    view, made, events, seconds = play(build.fleet_view(build.demand(), nodes=(build.node(),)), DEAF)
    rolled_back = next(event for event in events if event.startswith("RolledBack"))
    assert "set PROCESS_TO_SIGNAL of its config-manager to mps-control-daemon" in rolled_back
    assert seconds < build.SETTINGS.nodes.convergence_seconds
    node = view.nodes[0]
    assert CONFIG not in node.meta.labels
    assert set(failures_in(node.meta.annotations[names.CHANGE_FAILED_ANNOTATION])) == {"mps-2"}
    assert answer(made).reason == "MpsSignalLost"
    assert f"then remove its annotation {names.CHANGE_FAILED_ANNOTATION}" in (answer(made).pending_because or "")


def test_no_second_node_is_drained_to_see_the_same() -> None:
    _, made, events, _ = play(
        build.fleet_view(build.demand(replicas=4), nodes=(build.node(), build.node("gpu-2"))), DEAF
    )
    assert sum(event.startswith("RolledBack") for event in events) == 1
    assert not any("gpu-2" in event for event in events)
    assert answer(made).reason == "MpsSignalLost"


def test_it_is_tried_again_once_nobody_holds_it_against_the_node() -> None:
    view, _, _, seconds = play(build.fleet_view(build.demand(), nodes=(build.node(),)), DEAF)
    forgotten = replace(view.nodes[0], meta=replace(view.nodes[0].meta, annotations={}))
    _, made, events, _ = play(replace(view, nodes=(forgotten,)), HEARING, seconds)
    assert any(event.startswith("Allocated") for event in events)
    assert (answer(made).reason, answer(made).slots) == ("Ready", 2)


@pytest.mark.parametrize(
    "manager",
    [HEARING, replace(DEAF, version=(0, 18, 1)), replace(DEAF, version=None)],
    ids=["corrected", "0.18.1", "release unknown"],
)
def test_a_node_converges_where_the_daemon_may_hear(manager: ConfigManager) -> None:
    _, made, events, _ = play(build.fleet_view(build.demand(), nodes=(build.node(),)), manager)
    assert not any(event.startswith("RolledBack") for event in events)
    assert answer(made).slots == 2


def test_a_node_that_never_converges_names_what_is_doubted() -> None:
    unknown = replace(DEAF, version=None)
    labels = {CONFIG: config_key(build.MPS_2)}
    started = {names.CHANGE_STARTED_ANNOTATION: build.NOW.isoformat(), names.CHANGING_TO_ANNOTATION: TO_CHAT}
    node = build.node(slice_class=build.MPS_2, labels=labels, annotations=started, allocatable={names.NVIDIA_GPU: 0})
    late = plan(beside(build.fleet_view(build.demand(), nodes=(node,)), "gpu-1", unknown), 181)
    (event,) = (action for action in late.plan.actions if isinstance(action, EmitEvent))
    assert (
        "0 of 2 nvidia.com/gpu.shared are allocatable after 180 s (the MPS control daemon's config-manager"
        in event.message
    )
    assert "its image names no release" in event.message


def test_what_serves_by_chance_stays_and_is_reported() -> None:
    pods = (build.replica("a"), build.replica("b"))
    made = plan(beside(build.fleet_view(build.demand(), nodes=(build.partitioned_node(),), pods=pods), "gpu-1", DEAF))
    assert not any(isinstance(action, Evict | PatchNode) for action in made.plan.actions)
    assert (answer(made).reason, answer(made).slots) == ("MpsSignalLost", 2)
    assert (answer(made).pending_because or "").startswith("node gpu-1 serves by chance: the MPS control daemon's")


def test_slices_that_are_lost_are_explained_by_the_signal() -> None:
    bare = build.partitioned_node(allocatable={names.NVIDIA_SHARED_GPU: 0})
    made = plan(beside(build.fleet_view(build.demand(), nodes=(bare,), pods=(build.replica("a"),)), "gpu-1", DEAF))
    assert answer(made).reason == "SlicesDegraded"
    said = answer(made).pending_because or ""
    assert said.startswith(
        "node gpu-1: 0 of 2 nvidia.com/gpu.shared are allocatable; the MPS control daemon's config-manager"
    )


def test_replicas_older_than_a_deaf_daemon_are_replaced() -> None:
    early = replace(build.replica("early"), started="2026-01-01T00:00:00Z")
    view = beside(
        build.fleet_view(build.demand(), nodes=(build.partitioned_node(),), pods=(early,)),
        "gpu-1",
        DEAF,
        started="2026-01-01T00:01:00Z",
    )
    assert [action.pod.name for action in plan(view).plan.actions if isinstance(action, Evict)] == ["early"]


def test_mps_by_the_plugin_s_default_needs_no_signal() -> None:
    theirs, texts = build.node(slice_class=build.MPS_2), {"default": plugin_config(build.MPS_2)}
    view = build.fleet_view(build.demand(), nodes=(theirs,), config_map=replace(build.config_map(), data=texts))
    made = plan(beside(view, "gpu-1", DEAF))
    (patch,) = (action for action in made.plan.actions if isinstance(action, PatchNode))
    assert patch.labels[names.CLASS_LABEL] == "mps-2"


def test_mps_by_another_party_s_label_is_not_adopted() -> None:
    theirs = build.node(slice_class=build.MPS_2, labels={CONFIG: "theirs"})
    view = build.fleet_view(
        build.demand(), nodes=(theirs,), config_map=build.config_map(theirs=plugin_config(build.MPS_2))
    )
    made = plan(beside(view, "gpu-1", DEAF))
    assert not made.plan.actions
    assert answer(made).reason == "MpsSignalLost"


def test_time_slicing_needs_no_daemon() -> None:
    made = plan(beside(build.fleet_view(build.demand(slice_class=SLICED_2), nodes=(build.node(),)), "gpu-9", DEAF))
    assert made.plan.actions
    assert answer(made).reason == "NodeChanging"
