"""NVIDIA's pods on a node that changes: they do not tolerate our taint, so where one is gone the node is opened, if nothing can be had."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.api import names
from slm_operator.partitioning.base import UNSHARED, SliceClass
from slm_operator.partitioning.plugin_config import config_key, plugin_config
from slm_operator.planning.actions import Evict, PatchNode
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.watch.records import Taint

from tests import builders as build

if TYPE_CHECKING:
    from slm_operator.planning.views import FleetPlan, FleetView

CONFIG = build.SETTINGS.device_plugin.config_label
LIMIT = build.SETTINGS.nodes.convergence_seconds
NOTHING = {names.NVIDIA_GPU: 0, names.NVIDIA_SHARED_GPU: 0}
SWITCHED = {CONFIG: config_key(build.MPS_2)}


def plan(view: FleetView, seconds: float = 10) -> FleetPlan:
    return plan_fleet(view, build.SETTINGS, build.later(seconds))


def stage(made: FleetPlan) -> str:
    return made.assignments[build.demand().deployment].stage or ""


def patches(made: FleetPlan) -> list[PatchNode]:
    return [one for one in made.plan.actions if isinstance(one, PatchNode)]


def taints(made: FleetPlan) -> tuple[Taint, ...] | None:
    """What the node's taints are to be; None where they stay."""
    return next((one.taints for one in made.plan.actions if isinstance(one, PatchNode)), None)


def changing(
    *, plugin: bool, tainted: bool = True, shown: SliceClass = UNSHARED, back: bool = False, **more: Any
) -> FleetView:
    """A node that becomes mps-2, or is given back, since the beginning of time."""
    becomes = '{"givenBack": true}' if back else '{"class": "mps-2", "serves": "team.chat"}'
    began = {
        names.CHANGE_STARTED_ANNOTATION: build.NOW.isoformat(),
        names.CHANGING_TO_ANNOTATION: becomes,
        names.FORMER_CONFIG_ANNOTATION: "default",
    }
    said = {"labels": {CONFIG: "default"}, "allocatable": NOTHING} | more
    mark = (Taint(key=names.CHANGING_TAINT),) if tainted else ()
    node = build.node(slice_class=shown, annotations=began, taints=mark, **said)
    keys = build.config_map(**{config_key(one): plugin_config(one) for one in (build.MPS_2, UNSHARED)})
    daemons = build.plugin_pods("gpu-1") if plugin else ()
    demands = () if back else (build.demand(),)
    return build.fleet_view(*demands, nodes=(node,), config_map=keys, daemons=daemons)


@pytest.mark.parametrize("labels", [{CONFIG: "default"}, SWITCHED], ids=["before its switch", "after its switch"])
def test_closed_node_without_its_plugin_is_opened(labels: dict[str, str]) -> None:
    """N4: its pod could not come until the change had been given up, twice three minutes later."""
    made = plan(changing(plugin=False, labels=labels))
    assert taints(made) == ()
    assert stage(made) == "node gpu-1 waits for its device plugin's pod"


def test_node_is_closed_again_once_the_plugins_pod_is_on_it() -> None:
    waiting = changing(plugin=False, tainted=False)
    assert taints(plan(waiting)) is None
    assert "is open meanwhile: nothing is allocatable there" in stage(plan(waiting))
    back = changing(plugin=True, tainted=False)
    assert taints(plan(back)) == (Taint(key=names.CHANGING_TAINT),)


@pytest.mark.parametrize("resource", [names.NVIDIA_GPU, names.NVIDIA_SHARED_GPU])
def test_node_that_has_anything_to_give_stays_closed(resource: str) -> None:
    view = changing(plugin=False, allocatable=NOTHING | {resource: 1}, labels=SWITCHED)
    assert taints(plan(view)) is None
    opened = changing(plugin=False, allocatable=NOTHING | {resource: 1}, labels=SWITCHED, tainted=False)
    assert taints(plan(opened)) == (Taint(key=names.CHANGING_TAINT),)


def test_replicas_are_not_evicted_while_the_plugin_is_awaited() -> None:
    view = changing(plugin=False)
    made = plan(replace(view, pods=(build.replica("chat-0"),)))
    assert not [one for one in made.plan.actions if isinstance(one, Evict)]
    assert taints(made) == ()


def test_plugin_that_never_comes_ends_the_change() -> None:
    view = changing(plugin=False, tainted=False)
    made = plan(view, LIMIT + 1)
    assert made.assignments[build.demand().deployment].reason == "Rollback"
    assert "its device plugin's pod did not come within 180 s" in stage(made)


def test_node_without_its_plugin_is_given_back_at_once() -> None:
    """It loads what the label names when it comes, which our taint keeps it from."""
    labelled = plan(changing(plugin=False, back=True, labels=SWITCHED))
    (patch,) = (one for one in labelled.plan.actions if isinstance(one, PatchNode))
    assert patch.labels[CONFIG] == "default"
    opened = plan(changing(plugin=False, back=True))
    assert taints(opened) == ()
    assert taints(plan(changing(plugin=True, back=True))) is None


def test_plugin_comes_while_a_node_is_drained_to_be_given_back() -> None:
    """Seed 112: a budget held its last replica, and our taint held the plugin's pod."""
    view = replace(changing(plugin=False, back=True, labels=SWITCHED), pods=(build.replica("chat-0"),))
    assert taints(plan(view)) == ()
    opened = replace(changing(plugin=False, back=True, labels=SWITCHED, tainted=False), pods=view.pods)
    assert not patches(plan(opened))
    there = replace(opened, daemons=build.plugin_pods("gpu-1"))
    assert taints(plan(there)) == (Taint(key=names.CHANGING_TAINT),)


@pytest.mark.parametrize(("seconds", "is_opened"), [(30, False), (61, True)])
def test_node_that_shows_nothing_new_lets_feature_discovery_in(*, seconds: float, is_opened: bool) -> None:
    made = plan(changing(plugin=True, labels=SWITCHED), seconds)
    assert (taints(made) == ()) is is_opened
    assert ("feature discovery's pod" in stage(made)) is is_opened


def test_clock_that_was_set_back_counts_anew() -> None:
    (patch,) = (
        one for one in plan(changing(plugin=False, tainted=False), -1000).plan.actions if isinstance(one, PatchNode)
    )
    assert patch.annotations[names.CHANGE_STARTED_ANNOTATION] == build.later(-1000).isoformat()
