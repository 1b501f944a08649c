"""A large cluster is planned in the blink of an eye, and planned again for nothing."""

from dataclasses import replace

from slm_operator.api import names
from slm_operator.planning.fleet import plan_fleet
from slm_operator.planning.views import Demand, FleetView

from tests.yardstick import seconds_on_the_reference_machine

from . import worlds as w

NODES, DEPLOYMENTS, MOST_SECONDS = 1_000, 500, 1.0


def seconds(view: FleetView) -> float:
    """Processor time of one pass."""
    return seconds_on_the_reference_machine(lambda: plan_fleet(view, w.SETTINGS, w.NOW), turns=2)


def demands() -> tuple[Demand, ...]:
    cuts = (w.MPS_2, w.MPS_4, w.WHOLE)
    return tuple(
        w.demand(f"d{i:03}", cut=cuts[i % 3], replicas=2, node_selector={"zone": str(i % 4)})
        for i in range(DEPLOYMENTS)
    )


def cluster() -> FleetView:
    nodes = tuple(w.node(f"gpu-{i:04}", labels={"zone": str(i % 4)}) for i in range(NODES))
    return w.fleet(*demands(), nodes=nodes)


def serving() -> FleetView:
    """The same with every deployment served that shares."""
    view = cluster()
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


def full() -> FleetView:
    """The same with somebody else's pod on every GPU: nobody gets anything, and everybody is told why."""
    view = cluster()
    return replace(view, pods=tuple(w.foreign(f"job-{i}", f"gpu-{i:04}") for i in range(NODES)))


def test_five_hundred_deployments_on_a_thousand_nodes() -> None:
    for view in (cluster(), serving(), full()):
        assert seconds(view) < MOST_SECONDS
