"""The GPU Operator upgrades a node's driver: no change begins there, none runs out of time, and what failed is tried once more.

Finding 33: a change that met an upgrade ended in a rollback that stayed until somebody removed an annotation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.api import names
from slm_operator.partitioning.base import UNSHARED
from slm_operator.partitioning.config_manager import ConfigManager
from slm_operator.partitioning.plugin_config import config_key, plugin_config
from slm_operator.planning.actions import PatchNode
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.watch.records import Taint

from tests import builders as build

if TYPE_CHECKING:
    from slm_operator.planning.views import FleetPlan, FleetView

CONFIG = build.SETTINGS.device_plugin.config_label
LIMIT = build.SETTINGS.nodes.convergence_seconds
UPGRADE = "nvidia.com/gpu-driver-upgrade-state"
BUSY = (
    "upgrade-required",
    "cordon-required",
    "pod-restart-required",
    "uncordon-required",
    "upgrade-failed",
    "new-state",
)
KEYS = {config_key(one): plugin_config(one) for one in (build.MPS_2, UNSHARED)}
CLOSED = (Taint(key=names.CHANGING_TAINT),)


def plan(view: FleetView, seconds: float = 600) -> FleetPlan:
    return plan_fleet(view, build.SETTINGS, build.later(seconds))


def patches(made: FleetPlan) -> list[PatchNode]:
    return [one for one in made.plan.actions if isinstance(one, PatchNode)]


def said(made: FleetPlan) -> str:
    answer = made.assignments[build.demand().deployment]
    return f"{answer.reason}: {answer.stage or answer.pending_because}"


def idle(state: str | None, **more: Any) -> FleetView:
    labels = {UPGRADE: state} if state is not None else {}
    node = build.node(labels=labels, **more)
    return build.fleet_view(build.demand(), nodes=(node,), config_map=build.config_map(**KEYS))


def changing(state: str | None, *, cordoned: bool, tainted: bool = True) -> FleetView:
    """A node that was asked to become mps-2 at the beginning of time."""
    began = {
        names.CHANGE_STARTED_ANNOTATION: build.NOW.isoformat(),
        names.CHANGING_TO_ANNOTATION: '{"class": "mps-2", "serves": "team.chat"}',
        names.FORMER_CONFIG_ANNOTATION: "default",
    }
    labels = {CONFIG: config_key(build.MPS_2)} | ({UPGRADE: state} if state is not None else {})
    node = build.node(labels=labels, annotations=began, taints=CLOSED if tainted else (), unschedulable=cordoned)
    return build.fleet_view(build.demand(), nodes=(node,), config_map=build.config_map(**KEYS))


@pytest.mark.parametrize("state", BUSY)
def test_no_change_begins_in_an_upgrade(state: str) -> None:
    made = plan(idle(state))
    assert made.plan.actions == ()
    assert f"has its driver upgraded ({UPGRADE}={state})" in said(made)


@pytest.mark.parametrize("state", [None, "", "upgrade-done"])
def test_change_begins_where_no_upgrade_is_under_way(state: str | None) -> None:
    assert patches(plan(idle(state)))


def test_node_that_serves_nobody_is_not_given_back_in_an_upgrade() -> None:
    node = build.partitioned_node()
    busy = replace(node, meta=replace(node.meta, labels={**node.meta.labels, UPGRADE: "drain-required"}))
    assert patches(plan(build.fleet_view(nodes=(node,))))
    assert not patches(plan(build.fleet_view(nodes=(busy,))))


@pytest.mark.parametrize("state", BUSY)
@pytest.mark.parametrize("cordoned", [True, False])
def test_change_under_way_never_runs_out_of_time(*, state: str, cordoned: bool) -> None:
    assert "Rollback" in said(plan(changing(None, cordoned=False)))
    made = plan(changing(state, cordoned=cordoned))
    (patch,) = patches(made)
    assert names.CHANGE_FAILED_ANNOTATION not in patch.annotations
    assert patch.annotations[names.CHANGE_STARTED_ANNOTATION] == build.later(600).isoformat()
    assert "node gpu-1 has its driver upgraded" in said(made)
    assert cordoned or said(made).startswith("DriverUpgrade")


def test_taint_gives_way_to_the_upgrades_cordon() -> None:
    """The driver's own pod does not tolerate it: the upgrade would wait for ever, and we for the upgrade."""
    (patch,) = patches(plan(changing("pod-restart-required", cordoned=True), 10))
    assert patch.taints == ()
    assert not patches(plan(changing("pod-restart-required", cordoned=True, tainted=False), 10))


def test_taint_comes_back_with_the_end_of_the_cordon() -> None:
    for state in ("uncordon-required", "upgrade-done"):
        (patch,) = patches(plan(changing(state, cordoned=False, tainted=False)))
        assert patch.taints == CLOSED
        assert patch.annotations[names.CHANGE_STARTED_ANNOTATION] == build.later(600).isoformat()


def test_taint_stays_before_the_cordon() -> None:
    assert not patches(plan(changing("upgrade-required", cordoned=False), 10))


def test_other_nodes_change_while_one_is_upgraded() -> None:
    view = changing("drain-required", cordoned=True, tainted=False)
    wants = (build.demand(), build.demand("other"))
    view = build.fleet_view(*wants, nodes=(*view.nodes, build.node("gpu-2")), config_map=build.config_map(**KEYS))
    assert [one.node for one in patches(plan(view, 10))] == ["gpu-2"]


def failed(on: str | None, *, ready: bool = True, state: str | None = None, release: str = "0.20.0") -> FleetView:
    remembered = {names.CHANGE_FAILED_ANNOTATION: '{"mps-2": "0 of 2 slices"}'}
    if on is not None:
        remembered[names.FAILED_ON_ANNOTATION] = on
    view = idle(state, annotations=remembered, ready=ready)
    version = tuple(int(part) for part in release.split("."))
    plugin = build.daemon("device-plugin", "gpu-1", config_manager=ConfigManager(version=version))
    return replace(view, daemons=(plugin,))


@pytest.mark.parametrize(("ready", "state"), [(False, None), (True, "drain-required")], ids=["not ready", "upgraded"])
def test_what_failed_is_tried_again_after_the_node_was_away(*, ready: bool, state: str | None) -> None:
    assert not patches(plan(failed("0.20.0")))
    assert "was rolled back" in said(plan(failed("0.20.0")))
    (patch,) = patches(plan(failed("0.20.0", ready=ready, state=state)))
    assert patch.annotations == {names.FAILED_ON_ANNOTATION: "away"}
    assert not patches(plan(failed("away", ready=ready, state=state)))
    (patch,) = patches(plan(failed("away")))
    assert patch.annotations[names.CHANGING_TO_ANNOTATION]


def test_what_failed_is_tried_again_with_another_plugin() -> None:
    assert not patches(plan(failed("0.20.0", release="0.20.0")))
    (patch,) = patches(plan(failed("0.20.0", release="0.21.0")))
    assert patch.annotations[names.CHANGING_TO_ANNOTATION]


def test_what_failed_somewhere_unknown_stays() -> None:
    assert not patches(plan(failed(None)))


@pytest.mark.parametrize(("ready", "on"), [(True, "0.20.0"), (False, "away")])
def test_failure_remembers_where_it_was(*, ready: bool, on: str) -> None:
    view = changing(None, cordoned=False)
    plugin = build.daemon("device-plugin", "gpu-1", config_manager=ConfigManager(version=(0, 20, 0)))
    made = plan(replace(view, nodes=(replace(view.nodes[0], ready=ready),), daemons=(plugin,)))
    (patch,) = patches(made)
    assert patch.annotations[names.CHANGE_FAILED_ANNOTATION]
    assert patch.annotations[names.FAILED_ON_ANNOTATION] == on


def test_forgotten_failure_leaves_no_mark() -> None:
    view = replace(failed("away"), demands=(), pods=())
    (patch,) = patches(plan(view))
    assert patch.annotations == {names.CHANGE_FAILED_ANNOTATION: None, names.FAILED_ON_ANNOTATION: None}
