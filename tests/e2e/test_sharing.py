"""One node's GPU through its classes on a real kubelet: whole, two slices, two and four by MPS, and given back as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.standin.deployment import CONFIGS
from tests.standin.deployment import NAMESPACE as PLUGIN_NAMESPACE

from .conftest import node_at_rest
from .light import applied, import_profile, light, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.timeout(1200)]

NAMESPACE = "sharing"
NAME = "shared"
CLASSES = {"TimeSlicing": "time-slicing", "MPS": "mps"}


@pytest.fixture
def ground(stage: Stage) -> Iterator[Stage]:
    """A managed node and a published profile; afterwards the node must be as it was before it was opted in."""
    kubectl = stage.cluster.kubectl
    kubectl("create", "namespace", NAMESPACE)
    stage.provide_model(NAMESPACE)
    before = node_at_rest(stage)
    stage.opt_in()
    import_profile(stage, NAMESPACE)
    yield stage
    stage.wait_for_allocatable("nvidia.com/gpu", 1)
    kubectl("label", "node", stage.cluster.node, "slm-operator.io/managed-")
    kubectl("delete", "namespace", NAMESPACE)
    assert node_at_rest(stage) == before


def asked(engines_per_gpu: int, mode: str) -> dict[str, Any]:
    sharing = {"enginesPerGpu": engines_per_gpu, "mode": mode}
    return light(
        NAME,
        profiling={"profileRef": {"name": "imported"}},
        slo={"itl": {"maxMs": 12}},
        sharing=sharing,
        replicas=engines_per_gpu,
    )


def ask(stage: Stage, engines_per_gpu: int, mode: str) -> None:
    """Another class for the deployment that is there; it is ready in as many slices of one GPU afterwards."""
    change = json.dumps(asked(engines_per_gpu, mode))
    stage.cluster.kubectl("apply", "--namespace", NAMESPACE, "--filename", "-", stdin=change)
    wanted = f"--for=jsonpath={{.metadata.labels.slm-operator\\.io/slice-class}}={CLASSES[mode]}-{engines_per_gpu}"
    stage.cluster.kubectl("wait", "node", stage.cluster.node, wanted, "--timeout=300s", timeout_s=330)
    stage.wait_for_allocatable("nvidia.com/gpu.shared", engines_per_gpu)
    wait_until_ready(stage, NAMESPACE, NAME)
    held = {tuple(one["device_ids"]) for one in stage.allocations() if one["namespace"] == NAMESPACE}
    assert len(held) == engines_per_gpu, held


def test_whole_two_slices_two_and_four_by_mps_and_given_back(ground: Stage) -> None:
    with applied(ground, NAMESPACE, asked(1, "Exclusive")):
        wait_until_ready(ground, NAMESPACE, NAME)
        ground.wait_for_allocatable("nvidia.com/gpu", 1)
        ask(ground, 2, "TimeSlicing")
        ask(ground, 2, "MPS")
        assert_mps_reaches_the_plugins_file_and_the_pods(ground, 2)
        assert "set_default_active_thread_percentage 50" in mps_says(ground, "limits")
        former = mps_daemon(ground)
        ask(ground, 4, "MPS")
        assert_mps_reaches_the_plugins_file_and_the_pods(ground, 4)
        assert mps_daemon(ground) != former, "the daemon of two engines never ended, and keeps their limits"
        assert "set_default_active_thread_percentage 25" in mps_says(ground, "limits")
    ground.wait_for_allocatable("nvidia.com/gpu", 1)
    assert set(mps_says(ground, "compute-mode").values()) == {"DEFAULT"}


def mps_says(stage: Stage, name: str) -> Any:
    """What the node's MPS shows: the limits in force, the GPUs' compute modes."""
    return json.loads(stage.cluster.exec("cat", f"/run/nvidia/mps/{name}.json"))


def mps_daemon(stage: Stage) -> str:
    """The uid of the one MPS daemon's pod."""
    found = json.loads(stage.cluster.kubectl("get", "pods", "--namespace", PLUGIN_NAMESPACE, "--output", "json"))
    (uid,) = (
        one["metadata"]["uid"]
        for one in found["items"]
        if any(container["name"] == "mps-control-daemon-ctr" for container in one["spec"]["containers"])
    )
    return str(uid)


def assert_mps_reaches_the_plugins_file_and_the_pods(stage: Stage, engines_per_gpu: int) -> None:
    data = stage.get("configmap", CONFIGS, PLUGIN_NAMESPACE)["data"]
    key = stage.get("node", stage.cluster.node)["metadata"]["labels"]["nvidia.com/device-plugin.config"]
    assert key.startswith(f"slm-mps-{engines_per_gpu}-")
    assert "mps:" in data[key]
    shown = stage.cluster.kubectl("exec", "--namespace", NAMESPACE, f"deployment/{NAME}", "--", "env")
    env = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    assert env["CUDA_MPS_PIPE_DIRECTORY"]
    assert stage.get("node", stage.cluster.node)["metadata"]["labels"]["nvidia.com/mps.capable"] == "true"
