"""Rights against use: on the chart's plain manifests and a log recorded from a real API server (data/audit.jsonl)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rights import SELDOM, Grant, Use, denied, grants, unused, uses

ROOT = Path(__file__).parents[2]
RECORDED = (Path(__file__).parent / "data" / "audit.jsonl").read_text().splitlines()
CONFIG = "nvidia-device-plugin-configs"


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "config/default/operator.yaml").read_text()))


@pytest.fixture(scope="module")
def granted(objects: list[dict[str, Any]]) -> set[Grant]:
    return grants(objects, "slm-operator")


def test_an_apply_that_made_an_object_needed_create() -> None:
    used = uses(RECORDED)
    assert Use("create", "slm-operator.io", "slmprofiles", "team", "p") in used
    assert Use("patch", "slm-operator.io", "slmprofiles", "team", "p") in used


def test_requests_of_others_and_of_discovery_are_left_out() -> None:
    assert len(RECORDED) > len(uses(RECORDED))
    assert not any(use.resource == "namespaces" for use in uses(RECORDED))


def test_denied_requests_are_found() -> None:
    assert [(use.verb, use.resource, use.name) for use in denied(uses(RECORDED))] == [
        ("get", "configmaps", CONFIG),
        ("get", "secrets", "s"),
        ("get", "leases", "other"),
        ("list", "secrets", ""),
    ]


def test_request_denied_only_before_it_is_allowed_is_no_denial() -> None:
    early = Use("list", "", "nodes", "", "", denied=True)
    never = Use("list", "", "secrets", "", "", denied=True)
    assert denied({early, replace(early, denied=False), never}) == [never]


def test_grants_cover_each_allowed_request_and_no_denied_one(granted: set[Grant]) -> None:
    for use in uses(RECORDED):
        assert any(grant.covers(use) for grant in granted) is not use.denied, use


def test_unused_grants_are_found(granted: set[Grant]) -> None:
    left = unused(granted, uses(RECORDED))
    assert Grant("list", "", "nodes", "") not in left
    assert Grant("watch", "", "nodes", "") in left
    assert not {(grant.verb, grant.group, grant.resource) for grant in left} & SELDOM.keys()


def test_exceptions_are_grants(granted: set[Grant]) -> None:
    assert SELDOM.keys() <= {(grant.verb, grant.group, grant.resource) for grant in granted}


def test_nothing_dangerous_is_granted(granted: set[Grant]) -> None:
    assert {grant.resource for grant in granted} & {
        "secrets",
        "*",
        "pods/exec",
        "pods/attach",
        "serviceaccounts/token",
    } == set()
    assert not any("*" in (grant.verb, grant.group) for grant in granted)
    assert {grant.names for grant in granted if grant.resource == "configmaps"} == {(CONFIG,)}


@pytest.mark.slow
def test_namespaced_mode_grants_no_nodes_and_no_cluster_role() -> None:
    from tests.chart.helm import rendered  # noqa: PLC0415 - only these tests need helm

    granted = grants(rendered("config.namespaces={team-a}"), "slm-operator")
    assert {grant.namespace for grant in granted} == {"team-a", ""}  # "" is the release's own: the Lease
    assert {grant.resource for grant in granted if not grant.namespace} == {"leases"}
    assert {grant.resource for grant in granted} & {"nodes", "configmaps", "pods/eviction"} == set()


@pytest.mark.slow
@pytest.mark.parametrize("served", [(), ("config.namespaces={team-a}",)], ids=["everywhere", "in namespaces"])
def test_profiles_are_deleted_only_where_retention_is_set(served: tuple[str, ...]) -> None:
    from tests.chart.helm import rendered  # noqa: PLC0415 - only these tests need helm

    def deletions(*values: str) -> set[str]:
        granted = grants(rendered(*served, *values), "slm-operator")
        return {one.namespace for one in granted if (one.verb, one.resource) == ("delete", "slmprofiles")}

    assert deletions() == set()
    assert deletions("config.profiles.retentionDays=30") == {"team-a" if served else ""}
