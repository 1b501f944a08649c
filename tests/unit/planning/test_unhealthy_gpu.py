"""GPUs that NVIDIA's plugin calls unhealthy: what they had is not offered, and that neither ends nor holds up a change of their node.

Under sharing the plugin takes out one slice for each fault of a GPU, so 3 of 4 are left; unshared the whole GPU, so 7 of 8.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from slm_core.measurements import SharingMode
from slm_operator.api import names
from slm_operator.partitioning.base import UNSHARED, SliceClass
from slm_operator.partitioning.plugin_config import config_key, plugin_config
from slm_operator.planning.actions import EmitEvent, PatchNode
from slm_operator.planning.deployment.rollout import slices_finding
from slm_operator.planning.fleet.node.annotations import healthy_gpus_in
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.watch.records import Taint

from tests import builders as build

if TYPE_CHECKING:
    from slm_operator.planning.views import Assignment, Demand, FleetPlan, FleetView
    from slm_operator.watch.records import NodeRecord

CONFIG = build.SETTINGS.device_plugin.config_label
LIMIT = build.SETTINGS.nodes.convergence_seconds
SLICED_2 = SliceClass(mode=SharingMode.TIME_SLICING, engines_per_gpu=2)
VIEW = build.deployment_view(build.deployment(), None)
WHOLE, SHARED = names.NVIDIA_GPU, names.NVIDIA_SHARED_GPU


def plan(view: FleetView, seconds: float = 0) -> FleetPlan:
    return plan_fleet(view, build.SETTINGS, build.later(seconds))


def answer(made: FleetPlan) -> Assignment:
    return made.assignments[build.demand().deployment]


def patches(made: FleetPlan) -> list[PatchNode]:
    return [one for one in made.plan.actions if isinstance(one, PatchNode)]


def seven_of_eight(name: str = "gpu-1") -> NodeRecord:
    """Eight GPUs, of which one has fallen out."""
    return build.node(name, gpus=8, allocatable={WHOLE: 7, SHARED: 0}, capacity={WHOLE: 8})


def ask(replicas: int, slice_class: SliceClass = SLICED_2) -> Demand:
    return build.demand(slice_class=slice_class, replicas=replicas)


def changed(gpus: int, slots: int, *, becomes: SliceClass | None = SLICED_2) -> FleetView:
    """A closed node whose label was switched at the beginning of time, and that shows what it was told; None: given back."""
    shown = becomes or UNSHARED
    to = f'{{"class": "{shown.label}", "serves": "team.chat"}}' if becomes is not None else '{"givenBack": true}'
    began = {names.CHANGE_STARTED_ANNOTATION: build.NOW.isoformat(), names.CHANGING_TO_ANNOTATION: to}
    key = config_key(shown) if becomes is not None else "default"
    offered = {WHOLE: 0, SHARED: slots} if becomes is not None else {WHOLE: slots, SHARED: 0}
    node = build.node(
        gpus=gpus,
        slice_class=shown,
        labels={CONFIG: key},
        annotations=began | {names.FORMER_CONFIG_ANNOTATION: "default"},
        taints=(Taint(key=names.CHANGING_TAINT),),
        allocatable=offered,
    )
    config = build.config_map(**{config_key(SLICED_2): plugin_config(SLICED_2)})
    demands = (ask(gpus * 2),) if becomes is not None else ()
    return build.fleet_view(*demands, nodes=(node,), config_map=config)


@pytest.mark.parametrize(("gpus", "slots"), [(8, 14), (2, 3), (2, 2)], ids=["a GPU gone", "one Xid", "two Xids"])
def test_change_ends_well_without_the_slices_that_lack(gpus: int, slots: int) -> None:
    """Finding 30: it waited for all of them, and was rolled back."""
    view, whole = changed(gpus, slots), gpus * 2
    early = plan(view, 30)
    assert not early.plan.actions
    assert early.plan.look_again_seconds is not None
    assert early.plan.look_again_seconds <= 31
    assert f"{whole - slots} of {whole} nvidia.com/gpu.shared on node gpu-1 are not healthy" in (
        answer(early).stage or ""
    )
    for seconds in (61, LIMIT + 10):
        made = plan(view, seconds)
        (patch,) = patches(made)
        assert patch.labels[names.CLASS_LABEL] == "time-slicing-2"
        assert patch.taints == ()
        (event,) = (one for one in made.plan.actions if isinstance(one, EmitEvent))
        assert (event.type, event.reason) == ("Warning", "UnhealthyGPU")
        assert f"{whole - slots} of {whole} nvidia.com/gpu.shared on node gpu-1 are not healthy" in event.message


@pytest.mark.parametrize("slots", [0, 5])
def test_none_or_more_than_there_are_is_no_success(slots: int) -> None:
    """More are those of the configuration before."""
    view = changed(2, slots)
    assert not plan(view, 61).plan.actions
    (patch,) = patches(plan(view, LIMIT + 1))
    assert f"{slots} of 4 nvidia.com/gpu.shared are allocatable" in (
        patch.annotations[names.CHANGE_FAILED_ANNOTATION] or ""
    )


def test_node_with_all_its_slices_does_not_wait() -> None:
    (patch,) = patches(plan(changed(2, 4), 1))
    assert patch.labels[names.CLASS_LABEL] == "time-slicing-2"


def test_giving_back_does_not_wait_for_an_unhealthy_gpu() -> None:
    """N5: each node that was given back stood idle for the whole of its time."""
    made = plan(changed(8, 7, becomes=None), 5)
    (patch,) = patches(made)
    assert patch.taints == ()
    assert not [one for one in made.plan.actions if isinstance(one, EmitEvent) and one.type == "Warning"]


def test_node_with_a_bad_slice_is_switched_back_at_once() -> None:
    view = replace(changed(2, 3), demands=(), pods=())
    began = view.nodes[0].meta.annotations | {names.CHANGING_TO_ANNOTATION: '{"givenBack": true}'}
    node = replace(view.nodes[0], meta=replace(view.nodes[0].meta, annotations=began))
    (patch,) = patches(plan(replace(view, nodes=(node,)), 6))
    assert patch.labels[CONFIG] == "default"


def test_only_healthy_gpus_are_counted_before_a_change() -> None:
    view = build.fleet_view(ask(16), nodes=(seven_of_eight(),))
    assert "16 replicas want time-slicing-2 GPUs and 14 can be placed" in (answer(plan(view)).pending_because or "")
    two = build.fleet_view(ask(16), nodes=(seven_of_eight(), build.node("gpu-2")))
    assert answer(plan(two)).changing == ("gpu-1", "gpu-2")


def test_the_count_holds_while_the_node_changes() -> None:
    """Else another node would be taken, given back and taken again."""
    view = build.fleet_view(ask(16), nodes=(seven_of_eight(),))
    keys = build.config_map(**{config_key(SLICED_2): plugin_config(SLICED_2)})
    (closing,) = patches(plan(replace(view, config_map=keys), 600))
    noted = closing.annotations[names.CHANGING_TO_ANNOTATION]
    assert healthy_gpus_in(noted) == 7
    loading = changed(8, 0).nodes[0]
    marked = loading.meta.annotations | {names.CHANGING_TO_ANNOTATION: noted or ""}
    loading = replace(loading, meta=replace(loading.meta, annotations=marked))
    said = answer(plan(replace(view, nodes=(loading,), config_map=keys), 10)).pending_because
    assert "14 can be placed" in (said or "")


def test_no_change_is_begun_where_no_gpu_is_offered() -> None:
    dead = build.node(gpus=2, allocatable={WHOLE: 0, SHARED: 0})
    made = plan(build.fleet_view(ask(2), nodes=(dead,)))
    assert not made.plan.actions
    assert "offers none of its GPUs (0 of 2 nvidia.com/gpu are allocatable)" in (answer(made).pending_because or "")


def serving(slots: int, running: int) -> FleetView:
    node = build.partitioned_node(slice_class=SLICED_2, gpus=2, allocatable={WHOLE: 0, SHARED: slots})
    idle = build.node("gpu-2", gpus=2)
    pods = tuple(replace(build.replica(f"chat-{n}"), ready=True) for n in range(running))
    keys = build.config_map(**{config_key(SLICED_2): plugin_config(SLICED_2)})
    return build.fleet_view(ask(4), nodes=(node, idle), pods=pods, config_map=keys)


def test_replica_on_a_slice_that_turned_bad_has_its_place() -> None:
    made = plan(serving(slots=3, running=4))
    assert not made.plan.actions
    said = slices_finding(VIEW, answer(made))
    assert (said.holds, said.reason) == (True, "UnhealthyGPU")
    assert said.message.startswith("4 slots on gpu-1; 1 of 4 nvidia.com/gpu.shared on node gpu-1 are not healthy")


def test_replica_without_a_healthy_slice_gets_another_node() -> None:
    assert answer(plan(serving(slots=3, running=3))).changing == ("gpu-2",)


def test_healthy_node_has_no_remark() -> None:
    said = slices_finding(VIEW, answer(plan(serving(slots=4, running=4))))
    assert (said.reason, said.message) == ("Ready", "4 slots on gpu-1")
