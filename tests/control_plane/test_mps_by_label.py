"""NVIDIA's chart as it is released, in which MPS by the node's label does not hold: what status and `check` say, what Auto serves.

The API server, the DaemonSet controller and the operator are real; kwok plays the pods, a fake the plugin. An MPS daemon
never serves there, as in the GPU Operator's order.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import own_namespace
from tests.control_plane.commands import findings
from tests.control_plane.gpu_fleet import GPU, MODEL, SHARED, plugins, shown_labels, slm_profile
from tests.control_plane.operator_process import operator, wait_until
from tests.standin.deployment import GPU_NODE_LABEL, objects
from tests.standin.releases import CHART
from tests.testbed.cluster import apply_crds
from tests.testbed.control_plane import ControlPlane, control_plane

pytestmark = pytest.mark.control_plane
ROOT = Path(__file__).parents[2]
SETTINGS = "nodes: {projectionSeconds: 0}\nwatch: {intervalSeconds: 0}\n"
LOST = "config-manager 0.20.0 signals /usr/bin/mps-control-daemon, and the daemon runs as mps-control-daemon"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of its own, because NVIDIA's objects are the whole cluster's."""
    settings = tmp_path_factory.mktemp("mps") / "settings.yaml"
    settings.write_text(SETTINGS)
    with control_plane() as plane:
        apply_crds(plane, ROOT / "crds")
        for one in objects(image=CHART.image, release=CHART):
            apply(plane, one)
        labels = {"slm-operator.io/managed": "true"} | GPU_NODE_LABEL | shown_labels("version: v1", 1)
        plane.add_kwok_nodes(2, prefix="chart", labels=labels, resources={GPU: 1, SHARED: 0})
        with plugins(plane), operator(plane, f"--config={settings}") as running:
            running.said("leading")
            yield plane


@pytest.fixture
def namespace(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    yield from own_namespace(plane, request)


def apply(plane: ControlPlane, body: dict[str, Any], *more: str) -> None:
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", *more, stdin=json.dumps(body))


def deploy(plane: ControlPlane, namespace: str, mode: str) -> None:
    """Two engines a GPU, from measurements that have no such pack."""
    spec = {
        "model": MODEL,
        "profiling": {"policy": "Never", "profileRef": {"name": "measured"}},
        "sharing": {"mode": mode, "enginesPerGpu": 2, "partitioning": "NodeSlices"},
        "replicas": 2,
    }
    head = {"apiVersion": "slm-operator.io/v1alpha1", "kind": "SLMDeployment", "metadata": {"name": "chat"}}
    for one in (slm_profile("measured"), head | {"spec": spec}):
        apply(plane, one, "--namespace", namespace)


def status(plane: ControlPlane, namespace: str) -> dict[str, Any]:
    found = json.loads(plane.kubectl("get", "slmd/chat", "--namespace", namespace, "-o", "json"))
    return dict(found.get("status") or {})


def condition(plane: ControlPlane, namespace: str, kind: str) -> dict[str, str]:
    conditions = status(plane, namespace).get("conditions", ())
    return next((one for one in conditions if one["type"] == kind), {})


def nodes(plane: ControlPlane) -> list[dict[str, Any]]:
    return [one["metadata"] for one in json.loads(plane.kubectl("get", "nodes", "-o", "json"))["items"]]


def test_mps_that_was_asked_for_is_given_up_on_one_node(plane: ControlPlane, namespace: str) -> None:
    deploy(plane, namespace, "MPS")

    def given_up() -> bool:
        found = condition(plane, namespace, "Allocated")
        closed = any("slm-operator.io/former-device-plugin-config" in one["annotations"] for one in nodes(plane))
        return found.get("reason") == "MpsSignalLost" and not closed

    wait_until(given_up)
    message = condition(plane, namespace, "Ready")["message"]
    assert LOST in message
    assert "set PROCESS_TO_SIGNAL of its config-manager to mps-control-daemon" in message
    failed = [one["annotations"].get("slm-operator.io/change-failed") for one in nodes(plane)]
    assert [set(json.loads(text)) for text in failed if text is not None] == [{"mps-2"}]
    (reported,) = findings(plane.kubeconfig)["MPS daemon"]
    assert reported.startswith(
        "problem: nvidia-device-plugin/nvidia-device-plugin-mps-control-daemon does not hold MPS"
    )
    assert f"which {namespace}/chat requests: the MPS control daemon's {LOST}" in reported
    plane.kubectl("delete", "slmd", "--all", "--namespace", namespace)


def test_auto_serves_time_slices_and_says_why(plane: ControlPlane, namespace: str) -> None:
    deploy(plane, namespace, "Auto")
    wait_until(lambda: condition(plane, namespace, "Ready").get("status") == "True")
    advice = status(plane, namespace)["advice"]
    assert advice["configuration"]["sharingMode"] == "TimeSlicing"
    assert any(one.startswith("MPS is ruled out by") for one in advice["sentences"])
    assert "so Auto serves another mode" in findings(plane.kubeconfig)["MPS daemon"][0]
    plane.kubectl("delete", "slmd", "--all", "--namespace", namespace)


def test_check_is_content_with_a_corrected_signal(plane: ControlPlane) -> None:
    """By the command of docs/how-to/install.md."""
    daemon_set = "daemonset/nvidia-device-plugin-mps-control-daemon"
    corrected = ("--containers=mps-control-daemon-sidecar", "PROCESS_TO_SIGNAL=mps-control-daemon")
    plane.kubectl("set", "env", daemon_set, "--namespace", "nvidia-device-plugin", *corrected)
    assert "MPS daemon" not in findings(plane.kubeconfig)
