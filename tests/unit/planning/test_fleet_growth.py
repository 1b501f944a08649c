"""What a fleet's plan costs in calls of functions: ten times the fleet costs about ten times as much, whatever its state."""

import sys
from collections import Counter
from dataclasses import replace
from types import FrameType

import pytest
from slm_operator.api import names
from slm_operator.manifests.plugin_config import SliceClass
from slm_operator.planning.fleet import plan_fleet
from slm_operator.planning.views import FleetView
from slm_runtime.document import SharingMode

from tests.unit.planning import worlds as w

SLICES, GPUS = 4, 4
CUT = SliceClass(mode=SharingMode.TIME_SLICING, replicas_per_gpu=SLICES)
MARKS = {names.CLASS_LABEL: CUT.label, names.SERVES_LABEL: "any"}
CONFIG = {w.SETTINGS.device_plugin.config_label: f"{names.CONFIG_KEY_PREFIX}{CUT.label}-0"}


def world(scale: int, *, running: bool) -> FleetView:
    """Per scale: 16 neighbours on a node that was cut for them, four whole GPUs on a second node, and a third, idle one."""
    demands, nodes, pods = [], [], []
    for number in range(scale):
        cut, whole, idle = (f"{kind}-{number:03}" for kind in ("cut", "whole", "idle"))
        nodes += [
            w.node(cut, gpus=GPUS, cut=CUT, labels=MARKS | CONFIG),
            w.node(whole, gpus=GPUS),
            w.node(idle, gpus=GPUS),
        ]
        for place in range(SLICES * GPUS):
            name = f"s{number:03}-{place:02}"
            demands.append(w.demand(name, CUT, 1, any_neighbours=True))
            pods.append(w.replica(f"{name}-0", cut, name))
        for place in range(GPUS):
            name = f"w{number:03}-{place}"
            demands.append(w.demand(name, w.WHOLE, 1))
            pods.append(replace(w.replica(f"{name}-0", whole, name), gpu_requests={names.NVIDIA_GPU: 1}))
    return w.fleet(*demands, nodes=tuple(nodes), pods=tuple(pods) if running else ())


def calls(view: FleetView) -> int:
    """Calls of Python functions in one plan."""
    counted: Counter[str] = Counter()

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        counted[event] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        plan_fleet(view, w.SETTINGS, w.NOW)
    finally:
        sys.setprofile(before)
    return counted["call"]


@pytest.mark.parametrize("running", [True, False], ids=["at rest", "cut, and nothing runs yet"])
def test_ten_times_the_fleet_costs_about_ten_times_the_calls(*, running: bool) -> None:
    assert calls(world(20, running=running)) < 12 * calls(world(2, running=running))


def test_the_world_at_rest_is_at_rest() -> None:
    plan = plan_fleet(world(2, running=True), w.SETTINGS, w.NOW)
    assert not plan.plan.actions
    assert {one.reason for one in plan.assignments.values()} == {"Ready"}
