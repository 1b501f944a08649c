"""`spec.routing` against the real CRDs of the Gateway API and of its inference extension."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.helm import rendered
from tests.chart.rights import grants, uses
from tests.control_plane.gpu_fleet import add_gpu_nodes, install, slm_deployment, slm_profile
from tests.control_plane.operator_process import OperatorProcess, now, operator, requests_since, wait_until
from tests.testbed.cluster import audit_lines
from tests.testbed.control_plane import ControlPlane
from tests.testbed.gotools import sources

pytestmark = pytest.mark.control_plane
GROUPS = {"inference.networking.k8s.io", "gateway.networking.k8s.io"}
KINDS = ("httproutes.gateway.networking.k8s.io", "inferencepools.inference.networking.k8s.io")
ROUTING: dict[str, Any] = {
    "gatewayRef": {"name": "inference", "namespace": "infra"},
    "endpointPickerRef": {"name": "chat-epp"},
    "hostnames": ["chat.example.com"],
}
MOST_TRIES = 12
"""In the time that the test takes: the pauses between tries double, from a quarter of a second on."""


@pytest.fixture
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    install(control_plane)
    nodes = add_gpu_nodes(control_plane, 1, gpus=1, prefix="gateway")
    yield control_plane
    control_plane.kubectl("delete", "crd", *KINDS, "--ignore-not-found")
    control_plane.kubectl("delete", "node", *nodes, "--wait=false")


def crds() -> list[dict[str, Any]]:
    """HTTPRoute and InferencePool, as an implementation (Istio) installs them in its own tests."""
    folder = sources("gateway-crds", "istio.io/istio") / "tests" / "integration" / "pilot" / "testdata"
    files = [folder / name for name in ("gateway-api-crd.yaml", "gateway-api-inference-extension-crd.yaml")]
    found = [one for file in files for one in yaml.load_all(file.read_text(), yaml.CSafeLoader)]
    return [one for one in found if one and one["metadata"]["name"] in KINDS]


def test_routing_waits_for_its_crds_and_is_removed_after(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    listed = tmp_path / "config.yaml"
    listed.write_text("routing: {gateways: [{gateway: infra/inference, hostSuffix: .example.com}]}\n")

    def apply(manifest: dict[str, Any]) -> None:
        plane.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=json.dumps(manifest))

    def patch(routing: dict[str, Any] | None) -> None:
        change = json.dumps({"spec": {"routing": routing}})
        plane.kubectl("patch", "slmd/chat", "-n", namespace, "--type=merge", "--patch", change)

    def get(what: str) -> Any:
        return json.loads(plane.kubectl("get", what, "-n", namespace, "-o", "json"))

    def reported(kind: str) -> dict[str, str]:
        conditions = get("slmd/chat").get("status", {}).get("conditions", ())
        return next((one for one in conditions if one["type"] == kind), {})

    since = now()
    chat = slm_deployment("chat", "measured")
    chat["spec"]["routing"] = ROUTING
    apply(slm_profile("measured"))
    apply(chat)
    with operator(plane, f"--config={listed}") as running:
        wait_until(lambda: reported("Available").get("status") == "True")
        wait_until(lambda: reported("Ready")["reason"] == reported("Routed")["reason"] == "GatewayApiMissing")
        assert "install the CRDs" in reported("Routed")["message"]
        assert tries(plane, since) < MOST_TRIES

        plane.kubectl(
            "apply", "--server-side", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": crds()})
        )
        wait_until(lambda: reported("Ready").get("status") == "True")
        assert get("slmd/chat")["status"]["routing"] == {"inferencePool": "chat", "httpRoute": "chat"}
        pool, route = get("inferencepools/chat")["spec"], get("httproutes/chat")["spec"]
        assert pool["selector"]["matchLabels"] == {"slm-operator.io/deployment": "chat"}
        assert pool["endpointPickerRef"] == {
            "group": "", "kind": "Service", "name": "chat-epp", "port": {"number": 9002}, "failureMode": "FailClose"
        }  # fmt: skip
        assert pool["targetPorts"] == [{"number": 8000}]
        (backend,) = route["rules"][0]["backendRefs"]
        assert (backend["group"], backend["kind"], backend["name"]) == (
            KINDS[1].partition(".")[2],
            "InferencePool",
            "chat",
        )
        assert route["parentRefs"][0]["namespace"] == "infra"

        patch({"hostnames": ["talk.elsewhere.com"]})
        wait_until(lambda: reported("Routed").get("reason") == "GatewayNotAllowed")
        wait_until(lambda: not plane.kubectl("get", ",".join(KINDS), "-n", namespace, "-o", "name"))
        patch({"hostnames": ["talk.example.com"]})
        wait_until(lambda: reported("Routed").get("status") == "True")
        wait_until(lambda: get("httproutes/chat")["spec"]["hostnames"] == ["talk.example.com"])
        patch(None)
        wait_until(lambda: not plane.kubectl("get", ",".join(KINDS), "-n", namespace, "-o", "name"))
        wait_until(lambda: "routing" not in get("slmd/chat")["status"] and not reported("Routed"))
        assert_rights_are_what_was_used(plane, since)
        assert no_bug(running)
    plane.kubectl("delete", "slmd,slmp", "--all", "-n", namespace, "--wait=false")


def tries(plane: ControlPlane, since: str) -> int:
    return sum(request.startswith("patch inferencepools") for request in requests_since(plane, since))


def no_bug(running: OperatorProcess) -> bool:
    return not any(line["message"] == "pass failed" for line in running.lines)


def assert_rights_are_what_was_used(plane: ControlPlane, since: str) -> None:
    """What the chart grants for it, and what was asked for: the same, both ways."""
    entries = [json.loads(line) for line in audit_lines(plane.audit_log)]
    own = [
        one for one in entries if one.get("userAgent") == "slm-operator" and one["requestReceivedTimestamp"] >= since
    ]
    used = {
        (use.verb, use.group, use.resource) for use in uses(map(json.dumps, own), user="admin") if use.group in GROUPS
    }
    granted = grants(rendered("rbac.gatewayApi=true"), "slm-operator")
    assert {(one.verb, one.group, one.resource) for one in granted if one.group in GROUPS} == used
