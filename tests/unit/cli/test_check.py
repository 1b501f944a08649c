"""`kubectl slm check` against an API server: what it asks, prints and exits with. The checks are in test_preflight.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.assembly import LEASE_NAME
from slm_operator.cli import cluster
from slm_operator.cli.main import main
from slm_operator.cli.preflight import gather
from slm_operator.cli.preflight.nodes import NODE_CHECKS
from slm_operator.cli.preflight.rights import rights
from slm_operator.cli.preflight.table import CHECKS
from unit.cli.api_server import GROUP, failure
from unit.cli.cluster_objects import LEASE, gpu_node, lease
from unit.cli.golden import ROOT

from tests import builders as build

if TYPE_CHECKING:
    from unit.cli.api_server import ApiServer

NOWHERE = failure(404, "the server could not find the requested resource")
SETTINGS = "/api/v1/namespaces/slm-system/configmaps/slm-operator"


def forbidden(verb: str, resource: str) -> tuple[int, dict[str, Any]]:
    return failure(403, f'{resource} is forbidden: User "u" cannot {verb} resource "{resource}"')


BLIND: dict[str, Any] = {
    "/apis/apps/v1/deployments": forbidden("list", "deployments"),
    "/apis/apps/v1/daemonsets": forbidden("list", "daemonsets"),
    "/api/v1/nodes": forbidden("list", "nodes"),
    f"{GROUP}/slmdeployments": forbidden("list", "slmdeployments"),
    "/api/v1/namespaces/nvidia-device-plugin/configmaps/nvidia-device-plugin-configs": forbidden("get", "configmaps"),
    "/openapi/v3/apis/slm-operator.io/v1alpha1": forbidden("get", "path"),
    "/version": forbidden("get", "path"),
}

NETWORKS = "/apis/networking.k8s.io/v1/networkpolicies"
LIBRARY = {"data": {"config.yaml": "profiles: {libraryNamespaces: [lib]}\n"}}
CASES: list[tuple[str, dict[str, Any], int, str]] = [
    ("everything", {}, 0, "1 of 1 GPU nodes, with 8 GPUs"),
    ("no chart", {GROUP: NOWHERE}, 1, "install the chart"),
    ("no operator", {"/apis/apps/v1/deployments": {"items": []}}, 1, "no Deployment of the operator"),
    ("nobody acts", {LEASE: lease(age_seconds=6000)}, 1, "slm-operator-0 holds the Lease and renewed it last"),
    ("no Lease", {LEASE: NOWHERE}, 1, "no operator has ever acted"),
    ("settings of another version", {SETTINGS: {"data": {"config.yaml": "later: 1"}}}, 0, "cannot be read by this command"),
    ("settings with no time", {SETTINGS: {"data": {"config.yaml": "a: 2026-99-99"}}}, 0, "cannot be read by this command (not YAML)"),
    ("settings that are no YAML", {SETTINGS: {"data": {"config.yaml": "a: ["}}}, 0, "cannot be read by this command (not YAML)"),
    ("no settings", {SETTINGS: NOWHERE}, 0, "the operator's settings, does not exist"),
    ("settings unseen", {SETTINGS: forbidden("get", "configmaps")}, 0, "no right to get configmaps there"),
    ("no GPU", {"/api/v1/nodes": {"items": [build.raw_node("cpu")]}}, 1, "no node offers an NVIDIA GPU"),
    ("no plugin", {"/apis/apps/v1/daemonsets": {"items": []}}, 1, "no DaemonSet of NVIDIA's device plugin"),
    ("pods of the plugin unseen", {"/api/v1/namespaces/nvidia-device-plugin/pods": forbidden("list", "pods")}, 0, "8 GPUs are allocatable"),
    ("a library", {SETTINGS: LIBRARY, "/api/v1/namespaces/lib": {"metadata": {"name": "lib"}}}, 0, "profiles of lib are used"),
    ("a library that is not there", {SETTINGS: LIBRARY, "/api/v1/namespaces/lib": NOWHERE}, 0, "names lib, which does not exist"),
    ("a library unseen", {SETTINGS: LIBRARY, "/api/v1/namespaces/lib": forbidden("get", "namespaces")}, 0, "no right to get namespace lib"),
    ("doors", {}, 0, "policy.enabled (what the operator's token may write); policy.engines.images (what engines may be)"),
    ("doors unseen", {NETWORKS: forbidden("list", "networkpolicies")}, 0, "which doors are open is not known"),
    ("nothing may be seen", BLIND, 0, "no right to list nodes"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "RENEWAL_SECONDS", 0.0)


@pytest.mark.parametrize(("changed", "code", "sentence"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_check_prints_its_findings_and_exits(
    server: ApiServer, changed: dict[str, Any], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers |= changed
    assert main(["check"]) == code
    assert sentence in " ".join(capsys.readouterr().out.split())


def test_a_ready_cluster_has_nothing_to_fix(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "slm-operator.io/check/v1"
    assert (answer["ok"], answer["problems"], answer["warnings"]) == (True, 0, 0)
    assert {finding["level"] for finding in answer["findings"]} == {"ok"}
    # no library is named, nothing was set, nothing failed, nothing is tainted, no pack is served
    silent = {"Library", "Node's key", "Former change", "NVIDIA's taints", "Autoscalers", "Supervisors"}
    every = [name for name, _ in (*CHECKS, *NODE_CHECKS)]
    assert [finding["check"] for finding in answer["findings"]] == [name for name in every if name not in silent]


def test_nodes_with_the_same_answer_are_one_finding(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [gpu_node(f"gpu-{i}") for i in range(1, 6)]
    nodes[4]["spec"] = {"unschedulable": True}
    pods = [build.raw_daemon("device-plugin", one["metadata"]["name"]) for one in nodes]
    server.answers |= {
        "/api/v1/nodes": {"items": nodes},
        "/api/v1/namespaces/nvidia-device-plugin/pods": {"items": pods},
    }
    assert main(["check"]) == 0
    reported = capsys.readouterr().out
    assert "gpu-1, gpu-2, gpu-3 and 1 more: ready" in reported
    assert "gpu-5: cordoned: nothing is placed there" in reported


def test_lease_renewed_during_check_is_held_whatever_clocks_say(
    server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    reads = iter(range(1000))

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == LEASE:
            return 200, lease(age_seconds=-6000) | {"metadata": {"resourceVersion": str(next(reads))}}
        return type(server).answer(server, method, path, body)

    server.answer = answer  # type: ignore[method-assign]
    assert main(["check"]) == 0
    assert "slm-operator-0 acts" in capsys.readouterr().out


def test_missing_rights_are_named_with_what_needs_them(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.denied = {("create", "slmdeployments"), ("list", "nodes")}
    assert main(["check"]) == 1
    reported = " ".join(capsys.readouterr().out.split())
    assert "you may not create an SLMDeployment in namespace team" in reported
    assert "you may not list nodes (for check, support)" in reported


def test_no_finding_names_nobody_s_right(server: ApiServer) -> None:
    """A user without any right gets an answer too."""
    server.answers |= BLIND
    server.denied = {("create", "slmdeployments"), ("list", "nodes"), ("list", "daemonsets")}
    assert main(["check", "-o", "json"]) == 1


def test_the_name_of_the_lease() -> None:
    assert cluster.LEASE_NAME == LEASE_NAME


def test_the_rights_that_are_asked_about_are_documented() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()
    asked = {right.words for right in rights("team", "slm-system", "nvidia-device-plugin")}
    by_view = {"list slmdeployments", "list replicasets"}  # the built-in role has these
    assert [words for words in sorted(asked - by_view) if f"`{words}`" not in page] == []
