"""The scheduler's rule, before the scheduler: which taints keep replicas and NVIDIA's pods away."""

from typing import Any

import pytest
from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.planning.fleet.tolerations import Toleration, tolerates, tolerations_of
from slm_operator.watch.records import Taint

from tests import builders as build

TOLERATIONS: tuple[tuple[str, dict[str, Any], bool], ...] = (
    ("everything", {"operator": "Exists"}, True),
    ("the key", {"key": "a", "operator": "Exists"}, True),
    ("another key", {"key": "b", "operator": "Exists"}, False),
    ("the value", {"key": "a", "value": "x"}, True),
    ("the value, said so", {"key": "a", "operator": "Equal", "value": "x"}, True),
    ("another value", {"key": "a", "value": "y"}, False),
    ("the key alone, which is an empty value", {"key": "a"}, False),
    ("equal without a key", {"value": "x"}, False),
    ("the effect", {"key": "a", "operator": "Exists", "effect": "NoSchedule"}, True),
    ("another effect", {"key": "a", "operator": "Exists", "effect": "NoExecute"}, False),
    ("an operator that nobody knows", {"key": "a", "operator": "Gt", "value": "x"}, False),
    ("no sense at all", {"key": ["a"], "operator": 7}, False),
)


@pytest.mark.parametrize(("toleration", "held"), [c[1:] for c in TOLERATIONS], ids=[c[0] for c in TOLERATIONS])
def test_replicas_get_toleration(toleration: dict[str, Any], *, held: bool) -> None:
    assert tolerates(tolerations_of([toleration]), Taint(key="a", value="x")) is held


def test_a_node_is_taken_by_the_same_rule() -> None:
    node = build.node(taints=(Taint(key="pool", value="slm"),))
    for value, fits in (("slm", True), ("other", False)):
        asked = build.demand(tolerations=(Toleration(key="pool", value=value),))
        refused = (
            plan_fleet(build.fleet_view(asked, nodes=(node,)), build.SETTINGS, build.NOW)
            .assignments[asked.deployment]
            .pending_because
        )
        assert ("has taint pool=slm:NoSchedule" in (refused or "")) is not fits


def test_tolerations_of_the_users_template_count_too() -> None:
    both = {"accelerator": {"tolerations": [{"key": "a"}]}, "podTemplate": {"spec": {"tolerations": [{"key": "b"}]}}}
    record = build.deployment(spec=both)
    profile = build.profile(record, build.imported())
    asked = demand_of(record, profile, advice_of(record, profile))
    assert asked is not None
    assert [one.key for one in asked.tolerations] == ["a", "b"]
