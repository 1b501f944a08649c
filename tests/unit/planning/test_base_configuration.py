"""What a node's plugin is told besides how GPUs are shared is its owner's: our keys are made from it, and made anew when it changes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml
from slm_core.measurements import SharingMode
from slm_operator.api import names
from slm_operator.partitioning.base import UNSHARED, SliceClass
from slm_operator.partitioning.plugin_config import config_key, plugin_config
from slm_operator.planning.actions import Evict, PatchConfig, PatchNode
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.watch.records import Cause, Taint

from tests import builders as build

from .playing import play_out

if TYPE_CHECKING:
    from slm_operator.planning.views import FleetPlan, FleetView
    from slm_operator.watch.records import PodRecord

CONFIG = build.SETTINGS.device_plugin.config_label
OLD, NEW = (f"version: v1\nflags: {{nvidiaDriverRoot: /driver/{root}}}\n" for root in ("old", "new"))
SLICED_2 = SliceClass(mode=SharingMode.TIME_SLICING, engines_per_gpu=2)


def plan(view: FleetView, seconds: float = 0) -> FleetPlan:
    return plan_fleet(view, build.SETTINGS, build.later(seconds))


def switches(reported: list[str]) -> list[str]:
    words = (word for text in reported for word in text.split())
    return [word.partition("=")[2] for word in words if word.startswith("device-plugin.config=")]


def said(view: FleetView, seconds: float = 0) -> str:
    answer = plan(view, seconds).assignments[build.demand().deployment]
    return f"{answer.reason}: {answer.stage or answer.pending_because}"


@pytest.mark.parametrize(
    ("label", "keys", "base"),
    [
        (None, {"default": OLD}, OLD),
        ("pool", {"default": OLD, "pool": NEW}, NEW),
        (None, {"default": ""}, "version: v1\n"),
    ],
    ids=["of the default", "of its label", "of an empty text"],
)
def test_key_is_made_from_what_the_node_has(label: str | None, keys: dict[str, str], base: str) -> None:
    labels = {CONFIG: label} if label is not None else {}
    view = build.fleet_view(build.demand(), nodes=(build.node(labels=labels),), config_map=build.config_map(**keys))
    settled, reported, _ = play_out(view)
    assert switches(reported) == [config_key(build.MPS_2, base)]
    assert settled.config_map is not None
    assert settled.config_map.data[config_key(build.MPS_2, base)] == plugin_config(build.MPS_2, base)
    back, reported, _ = play_out(replace(settled, demands=(), pods=()), start_s=700)
    assert switches(reported) == [str(label)]
    assert back.nodes[0].meta.labels.get(CONFIG) == label


def test_nodes_with_unlike_configurations_get_keys_of_their_own() -> None:
    nodes = (build.node("gpu-1"), build.node("gpu-2", labels={CONFIG: "pool"}))
    keys = build.config_map(default=OLD, pool=NEW)
    _, reported, _ = play_out(build.fleet_view(build.demand(replicas=4), nodes=nodes, config_map=keys))
    assert set(switches(reported)) == {config_key(build.MPS_2, base) for base in (OLD, NEW)}


def test_the_key_without_sharing_is_made_from_it_too() -> None:
    node = build.partitioned_node(requested=config_key(build.MPS_2, OLD))
    keys = {"default": OLD, config_key(build.MPS_2, OLD): plugin_config(build.MPS_2, OLD)}
    view = build.fleet_view(build.demand(slice_class=build.MPS_4), nodes=(node,), config_map=build.config_map(**keys))
    _, reported, _ = play_out(view)
    assert switches(reported) == [config_key(one, OLD) for one in (UNSHARED, build.MPS_4)]


REFUSED = {
    "no YAML": ("{", "cannot be read"),
    "shared by its owner": (
        "version: v1\nsharing: {mps: {resources: [{name: nvidia.com/mig-1g.5gb, replicas: 2}]}}",
        "has GPUs shared already",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nothing_is_begun_where_no_key_can_be_made(case: str) -> None:
    text, because = REFUSED[case]
    view = build.fleet_view(build.demand(), nodes=(build.node(),), config_map=build.config_map(default=text))
    made = plan(view)
    assert made.plan.actions == ()
    assert because in said(view)
    assert "default of ConfigMap" in said(view)


def test_label_that_names_no_key_has_no_change_begun() -> None:
    view = build.fleet_view(build.demand(), nodes=(build.node(labels={CONFIG: "gone"}),))
    assert plan(view).plan.actions == ()
    assert "the configuration gone of ConfigMap" in said(view)
    assert "is not there" in said(view)


def edited(
    slice_class: SliceClass = build.MPS_2, *, pods: tuple[PodRecord, ...] = (), base: str = NEW, former: str = OLD
) -> FleetView:
    """A node that we partitioned, and whose owner has edited its configuration since."""
    node = build.partitioned_node(slice_class=slice_class, requested=config_key(slice_class, former))
    keys = {"default": base, config_key(slice_class, former): plugin_config(slice_class, former)}
    daemons = build.plugin_pods("gpu-1")
    if slice_class.mode is SharingMode.MPS:
        daemons = (*daemons, build.daemon("mps-control-daemon", "gpu-1", started="2025-01-01T00:00:00Z"))
    demand = build.demand(slice_class=slice_class)
    return build.fleet_view(demand, nodes=(node,), pods=pods, config_map=build.config_map(**keys), daemons=daemons)


def test_edited_base_moves_nobody_who_serves() -> None:
    serving = replace(build.replica("one"), ready=True)
    assert plan(edited(pods=(serving,))).plan.actions == ()
    starting = replace(build.replica("one"), waiting=Cause("ContainerCreating"))
    assert plan(edited(pods=(starting,))).plan.actions == ()
    foreign = build.foreign("theirs", gpu_requests={names.NVIDIA_SHARED_GPU: 1})
    assert plan(edited(pods=(foreign,))).plan.actions == ()


@pytest.mark.parametrize("slice_class", [build.MPS_2, SLICED_2], ids=str)
def test_idle_node_is_made_anew_when_its_base_is_edited(slice_class: SliceClass) -> None:
    """By way of no sharing: it shows the class already, and nothing would tell when it has loaded the new configuration."""
    settled, reported, _ = play_out(edited(slice_class))
    assert switches(reported) == [config_key(one, NEW) for one in (UNSHARED, slice_class)]
    assert yaml.safe_load(plugin_config(slice_class, NEW))["flags"]["nvidiaDriverRoot"] == "/driver/new"
    assert plan(settled, 900).plan.actions == ()


def test_replicas_that_cannot_run_leave_for_the_edited_base() -> None:
    """What its owner has just mended may be why they cannot."""
    stuck = replace(build.replica("one"), waiting=Cause("CrashLoopBackOff"))
    _, reported, _ = play_out(edited(pods=(stuck,)))
    assert "evict team/one" in reported
    assert switches(reported) == [config_key(one, NEW) for one in (UNSHARED, build.MPS_2)]


def test_unreadable_edit_leaves_the_node_as_it_is() -> None:
    view = edited(base="{")
    assert plan(view).plan.actions == ()
    assert plan(view).assignments[build.demand().deployment].slots == 2
    back, reported, _ = play_out(replace(view, demands=(), pods=()))
    assert switches(reported) == ["default"]
    assert not back.nodes[0].taints


def test_change_that_has_begun_goes_back_when_its_base_is_spoilt() -> None:
    began = {
        names.CHANGE_STARTED_ANNOTATION: build.NOW.isoformat(),
        names.CHANGING_TO_ANNOTATION: '{"class": "mps-2", "serves": "team.chat"}',
        names.FORMER_CONFIG_ANNOTATION: "default",
    }
    node = build.node(labels={CONFIG: "default"}, annotations=began, taints=(Taint(key=names.CHANGING_TAINT),))
    made = plan(build.fleet_view(build.demand(), nodes=(node,), config_map=build.config_map(default="{")), 20)
    assert not any(isinstance(one, PatchConfig | Evict) for one in made.plan.actions)
    (patch,) = (one for one in made.plan.actions if isinstance(one, PatchNode))
    assert "cannot be read" in (patch.annotations[names.CHANGE_FAILED_ANNOTATION] or "")
