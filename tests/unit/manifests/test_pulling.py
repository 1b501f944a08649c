"""Pods in the namespaces of others that start from the operator's image name the operator's pull secrets."""

from __future__ import annotations

from typing import Any

import pytest
from slm_operator.manifests.pulling import pulled_with

OURS, TEAMS = {"name": "ours"}, {"name": "teams"}


@pytest.mark.parametrize(
    ("given", "pulled"),
    [
        ({}, {"imagePullSecrets": [OURS]}),
        ({"imagePullSecrets": [TEAMS]}, {"imagePullSecrets": [TEAMS, OURS]}),
        ({"imagePullSecrets": [TEAMS, OURS]}, {"imagePullSecrets": [TEAMS, OURS]}),
    ],
    ids=["none", "another", "the same"],
)
def test_operators_secrets_follow_those_of_the_template(given: dict[str, Any], pulled: dict[str, Any]) -> None:
    assert pulled_with({"spec": given, "metadata": {}}, ["ours"]) == {"spec": pulled, "metadata": {}}


def test_without_secrets_nothing_changes() -> None:
    template: dict[str, Any] = {"spec": {}}
    assert pulled_with(template, ()) is template
