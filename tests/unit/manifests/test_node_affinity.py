"""What a pod must find on its node, beside what its user asks for: both hold, and what is misshapen stays so."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from slm_operator.manifests.node_affinity import required
from slm_operator.partitioning.whole_gpus import ONLY_WHOLE

from tests.node_selector import admits

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
OURS = [[{"key": "whole", "operator": "In", "values": ["yes"]}], [{"key": "whole", "operator": "DoesNotExist"}]]


def asking(*terms: Any, **more: Any) -> dict[str, Any]:
    return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}} | more}}


def zone(*values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": "zone", "operator": "In", "values": list(values)}]}


NODES = [{"whole": "yes", "zone": "a"}, {"zone": "a"}, {"zone": "b"}, {"zone": "c"}, {"whole": "no", "zone": "a"}]
CASES = {
    "nothing": ({}, [True, True, True, True, False]),
    "another affinity": ({"affinity": {"podAffinity": {}}}, [True, True, True, True, False]),
    "null": ({"affinity": None}, [True, True, True, True, False]),
    "a zone": (asking(zone("a")), [True, True, False, False, False]),
    "either of two": (asking(zone("a"), zone("b")), [True, True, True, False, False]),
    "nowhere": (asking({}), [False] * 5),
    "nowhere, or a zone": (asking({"matchExpressions": []}, zone("b")), [False, False, True, False, False]),
}


@pytest.mark.parametrize(("pod", "admitted"), CASES.values(), ids=CASES)
def test_a_node_must_suit_the_user_and_the_operator(pod: dict[str, Any], admitted: list[bool]) -> None:
    before = deepcopy(pod)
    made = required(pod, OURS)
    assert [admits(made, labels) for labels in NODES] == admitted
    assert pod == before


def test_wishes_and_fields_of_the_user_stay() -> None:
    wish = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": zone("a")}]}
    fields = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-1"]}]}
    made = required(asking(fields, **wish), OURS)["affinity"]["nodeAffinity"]
    assert (
        made["preferredDuringSchedulingIgnoredDuringExecution"]
        == wish["preferredDuringSchedulingIgnoredDuringExecution"]
    )
    terms = made[REQUIRED]["nodeSelectorTerms"]
    assert [one["matchFields"] for one in terms] == [fields["matchFields"]] * 2
    assert [one["matchExpressions"] for one in terms] == OURS


@pytest.mark.parametrize(
    "affinity", ["x", {"nodeAffinity": "x"}, {"nodeAffinity": {REQUIRED: "x"}}], ids=["all", "of nodes", "required"]
)
def test_an_affinity_that_is_none_is_left_to_the_api_server(affinity: Any) -> None:
    assert required({"affinity": affinity}, OURS) == {"affinity": affinity}


@pytest.mark.parametrize("terms", ["x", [None], ["x"], [{"matchExpressions": "x"}], None])
def test_misshapen_terms_are_not_mended(terms: Any) -> None:
    made = required({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}}}, OURS)
    kept = made["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    assert kept == (terms if isinstance(terms, list) else [])


def test_no_part_of_a_manifest_is_shared_by_two() -> None:
    first, second = (required({}, ONLY_WHOLE) for _ in range(2))
    first["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"][0]["matchExpressions"][0]["key"] = "changed"
    assert second == required({}, ONLY_WHOLE)
