"""The operator beside Karpenter: whom a waiting pod brings a node for, and that no node goes which the operator emptied.

Recorded (`make record karpenter`): Karpenter is built for it, and waits as long as it does everywhere.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.codec import to_json
from slm_operator.api import names

from tests import builders as build
from tests.conftest import own_namespace
from tests.control_plane.gpu_fleet import GPU, MODEL, SHARED, install, is_ready, plugins, shown_labels, slm_profile
from tests.control_plane.karpenter import apply, karpenter, node_pool, nodes_of
from tests.control_plane.operator_process import operator, wait_until
from tests.testbed.control_plane import control_plane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.control_plane import ControlPlane

pytestmark = [pytest.mark.control_plane, pytest.mark.record, pytest.mark.timeout(600)]
SETTINGS = "nodes: {projectionSeconds: 0, convergenceSeconds: 600}\nwatch: {intervalSeconds: 0}\n"
KARPENTER = "karpenter.sh/do-not-disrupt"
EMPTY_SECONDS = 15
"""How long a node of these pools is empty before Karpenter takes it away."""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of its own, whose nodes come and go."""
    folder = tmp_path_factory.mktemp("karpenter")
    settings = folder / "settings.yaml"
    settings.write_text(SETTINGS)
    with control_plane() as plane:
        install(plane)
        with karpenter(plane, folder), operator(plane, f"--config={settings}") as running:
            running.said("leading")
            yield plane


@pytest.fixture
def namespace(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    yield from own_namespace(plane, request)


def deploy(plane: ControlPlane, namespace: str, pool: str, document: Any, **sharing: Any) -> None:
    """Two engines a GPU, on nodes of the pool."""
    profile = slm_profile("measured")
    apply(plane, profile | {"spec": profile["spec"] | {"measurements": to_json(document)}}, "-n", namespace)
    spec = {
        "model": MODEL,
        "profiling": {"policy": "Never", "profileRef": {"name": "measured"}},
        "accelerator": {"nodeSelector": {"pool": pool}},
        "sharing": {"mode": "TimeSlicing", "enginesPerGpu": 2} | sharing,
        "replicas": 2,
    }
    apply(plane, build.manifest("SLMDeployment", "chat", spec), "-n", namespace)


def deployment(plane: ControlPlane, namespace: str) -> Any:
    return json.loads(plane.kubectl("get", "slmd/chat", "-n", namespace, "-o", "json"))


def placeholder(plane: ControlPlane, namespace: str, pool: str) -> None:
    """A pod that asks for a whole GPU of the pool."""
    container = {"name": "pause", "image": "none", "resources": {"limits": {GPU: "1"}}}
    spec = {"containers": [container], "nodeSelector": {"pool": pool}}
    apply(
        plane, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "placeholder"}, "spec": spec}, "-n", namespace
    )


def test_a_pack_in_a_pod_brings_a_node(plane: ControlPlane, namespace: str) -> None:
    node_pool(plane, "bare", {"pool": "bare"}, consolidate_after="Never")
    deploy(plane, namespace, "bare", build.published("opt-1.3b"), partitioning="PackPod")
    wait_until(lambda: is_ready(deployment(plane, namespace)), timeout_s=120)
    (node,) = nodes_of(plane, "bare")
    pods = json.loads(plane.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
    assert [pod["spec"]["nodeName"] for pod in pods] == [node["metadata"]["name"]]
    assert names.OPT_IN_LABEL not in node["metadata"]["labels"]


def test_a_node_is_not_taken_away_while_it_changes(plane: ControlPlane, namespace: str) -> None:
    opted_in = {"pool": "cut", names.OPT_IN_LABEL: "true"} | shown_labels("version: v1", 1)
    node_pool(plane, "cut", opted_in, consolidate_after=f"{EMPTY_SECONDS}s")
    deploy(plane, namespace, "cut", build.imported(), partitioning="NodeSlices", tenancy="Shared")
    wait_until(lambda: "FailedScheduling" in plane.kubectl("get", "events", "-n", namespace))
    assert nodes_of(plane, "cut") == [], "no pool has slices before there is a node: it needs a placeholder"

    placeholder(plane, namespace, "cut")
    (node,) = wait_until(lambda: nodes_of(plane, "cut"), timeout_s=120)
    name = node["metadata"]["name"]
    plane.kubectl("wait", "pod/placeholder", "-n", namespace, "--for=condition=Ready", "--timeout=120s")
    plane.kubectl("delete", "pod/placeholder", "-n", namespace, "--force", "--grace-period=0")
    wait_until(lambda: kept(plane, name), timeout_s=120)
    wait_until(lambda: is_held_back(plane, name), timeout_s=300)  # Karpenter would take it, and says why it does not
    assert kept(plane, name), "no plugin plays: the change goes on"

    with plugins(plane):
        wait_until(lambda: is_ready(deployment(plane, namespace)), timeout_s=180)
    assert not kept(plane, name)
    node = json.loads(plane.kubectl("get", f"node/{name}", "-o", "json"))
    assert node["status"]["allocatable"][SHARED] == "2"


def test_an_empty_node_that_nobody_changes_is_taken_away(plane: ControlPlane, namespace: str) -> None:
    node_pool(plane, "empty", {"pool": "empty"}, consolidate_after=f"{EMPTY_SECONDS}s")
    placeholder(plane, namespace, "empty")
    wait_until(lambda: nodes_of(plane, "empty"), timeout_s=120)
    plane.kubectl("wait", "pod/placeholder", "-n", namespace, "--for=condition=Ready", "--timeout=120s")
    plane.kubectl("delete", "pod/placeholder", "-n", namespace, "--force", "--grace-period=0")
    wait_until(lambda: nodes_of(plane, "empty") == [], timeout_s=300)


def kept(plane: ControlPlane, node: str) -> bool:
    """Whether the operator keeps the node from Karpenter."""
    found = json.loads(plane.kubectl("get", f"node/{node}", "-o", "json"))["metadata"].get("annotations") or {}
    return found.get(KARPENTER) == "true" and KARPENTER in found.get(names.KEPT_ANNOTATION, "")


def is_held_back(plane: ControlPlane, node: str) -> bool:
    """Whether Karpenter has said that it does not take the node, because of the annotation."""
    about = f"--field-selector=involvedObject.kind=Node,involvedObject.name={node},reason=DisruptionBlocked"
    return KARPENTER in plane.kubectl("get", "events", "-A", about, "-o", "jsonpath={.items[*].message}")
