"""What a fleet's plan costs in calls of functions: ten times the fleet costs about ten times as much, whatever its state."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from slm_core.measurements import SharingMode
from slm_operator.api import names
from slm_operator.partitioning.base import SliceClass
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.planning.views import Demand, FleetView

from tests import builders as build
from tests.operations import calls_of

SLICES, GPUS = 4, 4
SHARED = SliceClass(mode=SharingMode.TIME_SLICING, engines_per_gpu=SLICES)
MARKS = {names.CLASS_LABEL: SHARED.label, names.SERVES_LABEL: "any"}
CONFIG = {build.SETTINGS.device_plugin.config_label: f"{names.CONFIG_KEY_PREFIX}{SHARED.label}-0"}


def world(scale: int, *, running: bool) -> FleetView:
    """Per scale: 16 co-tenants on a node that was partitioned for them, four whole GPUs on a second node, and a third, idle one."""
    demands, nodes, pods = [], [], []
    for number in range(scale):
        shared, whole, idle = (f"{kind}-{number:03}" for kind in ("shared", "whole", "idle"))
        nodes += [
            build.node(shared, gpus=GPUS, slice_class=SHARED, labels=MARKS | CONFIG),
            build.node(whole, gpus=GPUS),
            build.node(idle, gpus=GPUS),
        ]
        for place in range(SLICES * GPUS):
            name = f"s{number:03}-{place:02}"
            demands.append(build.demand(name, SHARED, 1, shared_tenancy=True))
            pods.append(build.replica(f"{name}-0", shared, name))
        for place in range(GPUS):
            name = f"w{number:03}-{place}"
            demands.append(build.demand(name, build.WHOLE, 1))
            pods.append(build.replica(f"{name}-0", whole, name, gpu_requests={names.NVIDIA_GPU: 1}))
    return build.fleet_view(*demands, nodes=tuple(nodes), pods=tuple(pods) if running else ())


def _demands(deployments: int) -> tuple[Demand, ...]:
    classes = (build.MPS_2, build.MPS_4, build.WHOLE)
    return tuple(
        build.demand(f"d{i:03}", slice_class=classes[i % 3], replicas=2, node_selector={"zone": str(i % 4)})
        for i in range(deployments)
    )


def mixed(deployments: int) -> FleetView:
    """Deployments of three classes in four zones, twice as many nodes, and nothing runs yet."""
    nodes = tuple(build.node(f"gpu-{i:04}", labels={"zone": str(i % 4)}) for i in range(2 * deployments))
    return build.fleet_view(*_demands(deployments), nodes=nodes)


def serving(deployments: int) -> FleetView:
    """The same with every deployment served that shares."""
    view = mixed(deployments)
    nodes = list(view.nodes)
    for i, demand in enumerate(view.demands):
        slice_class = demand.slice_class
        if slice_class != build.WHOLE:
            marks = {names.CLASS_LABEL: slice_class.label, names.SERVES_LABEL: f"team.{demand.deployment.name}"}
            key = {build.SETTINGS.device_plugin.config_label: f"slm-{slice_class.label}-0"}
            nodes[i] = build.node(f"gpu-{i:04}", slice_class=slice_class, labels=marks | key | {"zone": str(i % 4)})
    pods = tuple(
        build.replica(f"{demand.deployment.name}-{n}", f"gpu-{i:04}", demand.deployment.name)
        for i, demand in enumerate(view.demands)
        for n in range(2)
        if demand.slice_class != build.WHOLE
    )
    return replace(view, nodes=tuple(nodes), pods=pods)


def full(deployments: int) -> FleetView:
    """The same with somebody else's pod on every GPU: nobody gets anything, and everybody sees why."""
    view = mixed(deployments)
    return replace(view, pods=tuple(build.foreign(f"job-{i}", f"gpu-{i:04}") for i in range(2 * deployments)))


WORLDS: dict[str, tuple[Callable[[int], FleetView], int]] = {
    "co-tenants at rest": (partial(world, running=True), 2),
    "co-tenants, and nothing runs yet": (partial(world, running=False), 2),
    "three classes, and nothing runs yet": (mixed, 20),
    "three classes served": (serving, 20),
    "somebody else on every GPU": (full, 20),
}
"""Each with the size that is held against ten times its own."""


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_ten_times_the_fleet_costs_about_ten_times_the_calls(name: str) -> None:
    made, size = WORLDS[name]

    def calls(times: int) -> int:
        view = made(times * size)
        return calls_of(lambda: plan_fleet(view, build.SETTINGS, build.NOW))

    assert calls(10) < 12 * calls(1)


def test_settled_fleet_has_no_actions() -> None:
    plan = plan_fleet(world(2, running=True), build.SETTINGS, build.NOW)
    assert not plan.plan.actions
    assert {one.reason for one in plan.assignments.values()} == {"Ready"}
