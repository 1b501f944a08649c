"""One node's GPU through its classes on a real kubelet: whole, two slices, four, by MPS, and given back as it was."""

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


def asked(replicas_per_gpu: int, mode: str) -> dict[str, Any]:
    sharing = {"replicasPerGpu": replicas_per_gpu, "mode": mode}
    return light(NAME, profiling={"profile": "imported"}, slo={"itlMs": 12}, sharing=sharing, replicas=replicas_per_gpu)


def test_whole_two_four_and_given_back(ground: Stage) -> None:
    with applied(ground, NAMESPACE, asked(1, "None")):
        wait_until_ready(ground, NAMESPACE, NAME)
        ground.wait_for_allocatable("nvidia.com/gpu", 1)
        for slices in (2, 4):
            change = json.dumps(asked(slices, "TimeSlicing"))
            ground.cluster.kubectl("apply", "--namespace", NAMESPACE, "--filename", "-", stdin=change)
            ground.wait_for_allocatable("nvidia.com/gpu.shared", slices)
            wait_until_ready(ground, NAMESPACE, NAME)
            held = {tuple(one["device_ids"]) for one in ground.allocations() if one["namespace"] == NAMESPACE}
            assert len(held) == slices, held


def test_mps_reaches_the_plugins_file_and_the_pods(ground: Stage) -> None:
    with applied(ground, NAMESPACE, asked(2, "MPS")):
        ground.wait_for_allocatable("nvidia.com/gpu.shared", 2)
        wait_until_ready(ground, NAMESPACE, NAME)
        data = ground.get("configmap", CONFIGS, PLUGIN_NAMESPACE)["data"]
        (key,) = (key for key in data if key.startswith("slm-mps-2-"))
        assert "mps:" in data[key]
        shown = ground.cluster.kubectl("exec", "--namespace", NAMESPACE, f"deployment/{NAME}", "--", "env")
        env = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        assert env["CUDA_MPS_PIPE_DIRECTORY"]
        assert ground.get("node", ground.cluster.node)["metadata"]["labels"]["nvidia.com/mps.capable"] == "true"
