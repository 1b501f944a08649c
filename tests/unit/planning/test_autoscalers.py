"""A node in a change is emptied, and autoscalers of nodes take empty ones away: it is kept, and afterwards as it was before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.api import names
from slm_operator.planning.fleet.plan import plan_fleet

from tests import builders as build

from .playing import play, play_out, tainted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slm_operator.planning.views import FleetView

CLUSTER_AUTOSCALER, KARPENTER = names.KEEP_NODE_ANNOTATIONS
BOTH = {CLUSTER_AUTOSCALER: "true", KARPENTER: "true"}
FOUND: dict[str, dict[str, str]] = {
    "none": {},
    "one that keeps it": {KARPENTER: "true"},
    "one that does not keep it": {CLUSTER_AUTOSCALER: "false"},
    "both": BOTH,
}


def kept(node: Any) -> Mapping[str, str]:
    """What its annotations say to autoscalers."""
    return {name: value for name, value in node.meta.annotations.items() if name in names.KEEP_NODE_ANNOTATIONS}


def steps(view: FleetView, *, start_s: int = 0) -> Iterator[FleetView]:
    """The fleet after each pass."""
    for seconds in range(start_s, start_s + 600, 10):
        for action in plan_fleet(view, build.SETTINGS, build.later(seconds)).plan.actions:
            view = play(view, action)
        yield view


@pytest.mark.parametrize("before", FOUND.values(), ids=FOUND)
def test_a_node_is_kept_while_it_changes_and_no_longer(before: dict[str, str]) -> None:
    view = build.fleet_view(build.demand(), nodes=(build.node(annotations=before),))
    seen = [(tainted(one.nodes[0]), kept(one.nodes[0])) for one in steps(view)]
    assert {frozenset(what.items()) for closed, what in seen if closed} == {frozenset((BOTH | before).items())}
    serves, _, _ = play_out(view)
    assert kept(serves.nodes[0]) == before
    assert names.KEPT_ANNOTATION not in serves.nodes[0].meta.annotations


@pytest.mark.parametrize("before", FOUND.values(), ids=FOUND)
def test_a_node_given_back_has_what_its_owner_set(before: dict[str, str]) -> None:
    serves, _, _ = play_out(build.fleet_view(build.demand(), nodes=(build.node(annotations=before),)))
    unwanted = replace(serves, demands=())
    assert any(kept(one.nodes[0]) == BOTH | before for one in steps(unwanted, start_s=100_000))
    back, _, _ = play_out(unwanted, start_s=100_000)
    assert dict(back.nodes[0].meta.annotations) == before


@pytest.mark.parametrize("text", ["", "x", "a/b karpenter.sh/do-not-disrupt", "slm-operator.io/paused", "[" * 5000])
def test_an_edited_memory_takes_nothing_else_away(text: str) -> None:
    serves, _, _ = play_out(build.fleet_view(build.demand(), nodes=(build.node(),)))
    meta = serves.nodes[0].meta
    edited = replace(meta, annotations={**meta.annotations, names.KEPT_ANNOTATION: text, "a.slm-operator.io/b": "c"})
    view = replace(serves, demands=(), nodes=(replace(serves.nodes[0], meta=edited),))
    back, _, _ = play_out(view, start_s=100_000)
    assert dict(back.nodes[0].meta.annotations) == {"a.slm-operator.io/b": "c"}
