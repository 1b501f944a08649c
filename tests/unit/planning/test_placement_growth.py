"""What placing costs, counted in questions to the checks: it grows with nodes and demands, not with their product."""

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.planning.fleet import fitness
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.watch.records import NodeRecord, PodRecord

from tests.builders import MPS_4, NOW, SETTINGS, WHOLE, demand, fleet_view, node, replica

if TYPE_CHECKING:
    from slm_operator.planning.views import Demand


def holding_a_gpu(pod: PodRecord) -> PodRecord:
    return replace(pod, gpu_requests={"nvidia.com/gpu": 1})


def asked(count: int, *, running: bool, monkeypatch: pytest.MonkeyPatch) -> int:
    """Answers looked up to plan so many whole GPUs and so many packs on as many nodes."""
    looked: Counter[str] = Counter()
    ask = fitness.Answers._ask

    def counted(self: Any, *rest: Any) -> Any:
        looked["answers"] += 1
        return ask(self, *rest)

    monkeypatch.setattr(fitness.Answers, "_ask", counted)
    demands: list[Demand] = []
    nodes: list[NodeRecord] = []
    pods = []
    for number in range(count):
        demands += [demand(f"w{number:03}", WHOLE, 1), demand(f"s{number:03}", MPS_4, 1, shared_tenancy=True)]
        nodes.append(node(f"n{number:03}"))
        if running:
            pods.append(holding_a_gpu(replica(f"w{number:03}-0", f"n{number:03}", f"w{number:03}")))
    plan_fleet(fleet_view(*demands, nodes=tuple(nodes), pods=tuple(pods)), SETTINGS, NOW)
    return looked.total()


@pytest.mark.parametrize("running", [False, True], ids=["nothing runs yet", "all run"])
def test_ten_times_the_fleet_asks_about_ten_times_as_much(*, running: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    few = asked(10, running=running, monkeypatch=monkeypatch)
    monkeypatch.undo()
    many = asked(100, running=running, monkeypatch=monkeypatch)
    assert 0 < many <= 12 * few
