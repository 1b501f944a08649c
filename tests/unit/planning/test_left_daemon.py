"""An MPS daemon that has not ended: it keeps its limits and the GPUs' compute mode, so nothing may come before it has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from slm_core.measurements import SharingMode
from slm_operator.api import names
from slm_operator.partitioning.base import UNSHARED, SliceClass
from slm_operator.partitioning.plugin_config import config_key, plugin_config
from slm_operator.planning.actions import Evict, PatchConfig, PatchNode
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.watch.records import Taint

from tests import builders as build

from .playing import play, play_out

if TYPE_CHECKING:
    from slm_operator.planning.actions import Action
    from slm_operator.planning.views import FleetPlan, FleetView
    from slm_operator.watch.records import DaemonPodRecord

CONFIG = build.SETTINGS.device_plugin.config_label
MPS = "mps-control-daemon"
SLICED_2 = SliceClass(mode=SharingMode.TIME_SLICING, engines_per_gpu=2)
TO_MPS_4 = build.demand(slice_class=build.MPS_4, replicas=4)
LIMIT = build.SETTINGS.nodes.convergence_seconds


def mps_2(*, before: FleetView | None = None, **daemon: object) -> FleetView:
    """A node under mps-2 whose daemon runs, in a fleet that wants mps-4 now."""
    view = before or build.fleet_view(TO_MPS_4, nodes=(build.partitioned_node(),))
    return replace(view, daemons=(*build.plugin_pods("gpu-1"), build.daemon(MPS, "gpu-1", **daemon)))


def plan(view: FleetView, seconds: float = 0) -> FleetPlan:
    return plan_fleet(view, build.SETTINGS, build.later(seconds))


def switches(actions: tuple[Action, ...]) -> list[str | None]:
    return [one.labels[CONFIG] for one in actions if isinstance(one, PatchNode) and CONFIG in one.labels]


def switched_to(view: FleetView, wanted: SliceClass) -> tuple[FleetView, float]:
    """Play until the label names that class; the world as nobody but us has changed it, and the seconds that passed."""
    for seconds in range(0, 600, 10):
        made = plan(view, seconds)
        for action in made.plan.actions:
            view = play(view, action)
        if config_key(wanted) in switches(made.plan.actions):
            return view, seconds
    raise AssertionError(f"{wanted} is never requested")


def test_from_mps_to_mps_a_node_goes_by_way_of_no_sharing() -> None:
    view, reported, made = play_out(mps_2())
    labels = [word for text in reported for word in text.split() if word.startswith("device-plugin.config=")]
    assert labels == [f"device-plugin.config={config_key(one)}" for one in (UNSHARED, build.MPS_4)]
    assert made.assignments[TO_MPS_4.deployment].slots == 4
    assert view.nodes[0].meta.annotations[names.FORMER_CONFIG_ANNOTATION] == "default"


def test_both_configurations_are_projected_before_it_is_closed() -> None:
    (added,) = (one for one in plan(mps_2()).plan.actions if isinstance(one, PatchConfig))
    assert set(added.add) == {config_key(UNSHARED), config_key(build.MPS_4)}


def test_next_limits_are_not_requested_before_the_daemon_ended() -> None:
    view, since = switched_to(mps_2(), UNSHARED)
    waits = mps_2(before=view)
    made = plan(waits, since + 10)
    assert not made.plan.actions
    assert "the MPS control daemon has not ended" in (made.assignments[TO_MPS_4.deployment].stage or "")
    gone = replace(waits, daemons=build.plugin_pods("gpu-1"))
    assert switches(plan(gone, since + 10).plan.actions) == [config_key(build.MPS_4)]


def test_daemon_that_is_on_its_way_is_not_overtaken() -> None:
    """NB: it is not there to be seen, and would begin with the limits of the class that nobody wants any more."""
    view, _ = switched_to(build.fleet_view(build.demand(), nodes=(build.node(),)), build.MPS_2)
    view = replace(view, daemons=build.plugin_pods("gpu-1"), demands=(TO_MPS_4,))
    _, reported, _ = play_out(view, start_s=600)
    labels = [word for text in reported for word in text.split() if word.startswith("device-plugin.config=")]
    assert labels == [f"device-plugin.config={config_key(one)}" for one in (UNSHARED, build.MPS_4)]


def test_daemon_that_never_ends_has_its_node_given_back() -> None:
    view, since = switched_to(mps_2(), UNSHARED)
    made = plan(mps_2(before=view), since + LIMIT + 1)
    assert made.assignments[TO_MPS_4.deployment].reason == "Rollback"
    assert "the MPS control daemon did not end" in (made.assignments[TO_MPS_4.deployment].stage or "")


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "not ready"])
def test_time_slices_are_not_opened_under_a_daemon_that_ends(*, ready: bool) -> None:
    """NB: its GPUs are in exclusive mode until then: of two engines on a GPU the second would fail."""
    wants = build.demand(slice_class=SLICED_2)
    closed = build.partitioned_node(slice_class=SLICED_2)
    began = {
        names.CHANGE_STARTED_ANNOTATION: build.NOW.isoformat(),
        names.CHANGING_TO_ANNOTATION: '{"class": "time-slicing-2", "serves": "team.chat"}',
        names.FORMER_CONFIG_ANNOTATION: "default",
    }
    labels = {
        name: text for name, text in closed.meta.labels.items() if name not in {names.CLASS_LABEL, names.SERVES_LABEL}
    }
    closed = replace(
        closed, meta=replace(closed.meta, labels=labels, annotations=began), taints=(Taint(key=names.CHANGING_TAINT),)
    )
    config = build.config_map(**{config_key(SLICED_2): plugin_config(SLICED_2)})
    view = build.fleet_view(wants, nodes=(closed,), config_map=config)
    assert not plan(mps_2(before=view, ready=ready), 10).plan.actions
    assert plan(replace(view, daemons=build.plugin_pods("gpu-1")), 10).plan.actions


def test_node_given_back_is_opened_when_its_daemon_ended() -> None:
    view = build.fleet_view(nodes=(build.partitioned_node(),))
    view = mps_2(before=view)
    for seconds in range(0, 60, 10):
        for action in plan(view, seconds).plan.actions:
            view = mps_2(before=play(view, action))
    assert view.nodes[0].meta.labels[CONFIG] == "default"
    assert view.nodes[0].taints
    ended = replace(view, daemons=build.plugin_pods("gpu-1"))
    (opened,) = (one for one in plan(ended, 60).plan.actions if isinstance(one, PatchNode))
    assert opened.taints == ()


def restarted(*, ready: bool) -> DaemonPodRecord:
    return build.daemon(MPS, "gpu-1", ready=ready, started="2026-01-01T00:01:00Z")


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "not ready"])
def test_replicas_from_before_their_daemon_are_replaced(*, ready: bool) -> None:
    """A daemon that came up without MPS is up all the same (N2): what it does not know runs on without limits."""
    early = replace(build.replica("early"), started="2026-01-01T00:00:00Z")
    view = build.fleet_view(build.demand(), nodes=(build.partitioned_node(),), pods=(early,))
    made = plan(replace(view, daemons=(*build.plugin_pods("gpu-1"), restarted(ready=ready))))
    assert [one.pod.name for one in made.plan.actions if isinstance(one, Evict)] == ["early"]
