"""What the fleet's view says of a cluster, beyond the records themselves."""

from slm_operator.planning.demand import demand_of
from slm_operator.reconcile.gather import Gatherer, ProfileKeys, caches_for_planning

from tests.unit.planning import worlds as w


def test_nodes_that_pods_are_on_and_that_exist_no_more() -> None:
    keys = ProfileKeys()
    caches = caches_for_planning(keys)
    caches.nodes.put(w.node())
    for pod in (w.replica("a"), w.replica("b", "gpu-9"), w.replica("c", None)):
        caches.pods.put(pod)
    view = Gatherer(caches=caches, keys=keys, settings=w.SETTINGS, demand_of=demand_of).fleet()
    assert view.lost_nodes == {"gpu-9"}
