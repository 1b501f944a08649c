"""A cluster ten times as large is ten times the work to plan, whether it is empty, serving or full."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from slm_operator.api import names
from slm_operator.planning.fleet import plan_fleet
from slm_operator.planning.views import Demand, FleetView

from tests.operations import calls_of

from . import worlds as w

SMALL, LARGE = 50, 500
"""Deployments; there are twice as many nodes."""
SLACK = 1.5


def demands(deployments: int) -> tuple[Demand, ...]:
    cuts = (w.MPS_2, w.MPS_4, w.WHOLE)
    return tuple(
        w.demand(f"d{i:03}", cut=cuts[i % 3], replicas=2, node_selector={"zone": str(i % 4)})
        for i in range(deployments)
    )


def cluster(deployments: int) -> FleetView:
    nodes = tuple(w.node(f"gpu-{i:04}", labels={"zone": str(i % 4)}) for i in range(2 * deployments))
    return w.fleet(*demands(deployments), nodes=nodes)


def serving(deployments: int) -> FleetView:
    """The same with every deployment served that shares."""
    view = cluster(deployments)
    nodes = list(view.nodes)
    for i, demand in enumerate(view.demands):
        cut = demand.slice_class
        if cut != w.WHOLE:
            marks = {names.CLASS_LABEL: cut.label, names.SERVES_LABEL: f"team.{demand.deployment.name}"}
            key = {w.SETTINGS.device_plugin.config_label: f"slm-{cut.label}-0"}
            nodes[i] = w.node(f"gpu-{i:04}", cut=cut, labels=marks | key | {"zone": str(i % 4)})
    pods = tuple(
        w.replica(f"{demand.deployment.name}-{n}", f"gpu-{i:04}", demand.deployment.name)
        for i, demand in enumerate(view.demands)
        for n in range(2)
        if demand.slice_class != w.WHOLE
    )
    return replace(view, nodes=tuple(nodes), pods=pods)


def full(deployments: int) -> FleetView:
    """The same with somebody else's pod on every GPU: nobody gets anything, and everybody is told why."""
    view = cluster(deployments)
    return replace(view, pods=tuple(w.foreign(f"job-{i}", f"gpu-{i:04}") for i in range(2 * deployments)))


def passes(view: FleetView) -> int:
    """Calls of one pass."""
    return calls_of(lambda: plan_fleet(view, w.SETTINGS, w.NOW))


@pytest.mark.parametrize("cluster_of", [cluster, serving, full], ids=lambda made: made.__name__)
def test_work_grows_with_the_cluster(cluster_of: Callable[[int], FleetView]) -> None:
    assert passes(cluster_of(LARGE)) < passes(cluster_of(SMALL)) * LARGE / SMALL * SLACK
