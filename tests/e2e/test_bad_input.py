"""What users get wrong, on the real node: each ends in a condition that names the cause and the remedy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.standin.deployment import objects
from tests.testbed.cluster import KubectlError
from tests.testbed.stage import LIGHT_IMAGE, STANDIN_IMAGE

from .light import applied, import_profile, light, wait_for_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.timeout(1200)]
NAMESPACE = "bad-input"
SLICES = {"partitioning": "NodeSlices"}


@pytest.fixture(scope="module")
def ground(stage: Stage) -> Iterator[Stage]:
    stage.cluster.kubectl("create", "namespace", NAMESPACE)
    stage.provide_model(NAMESPACE)
    stage.opt_in()
    yield stage
    stage.cluster.kubectl("label", "node", stage.cluster.node, "slm-operator.io/managed-")
    stage.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_a_model_that_does_not_exist(ground: Stage) -> None:
    with applied(ground, NAMESPACE, light("no-model", model={"uri": "pvc://models/nothing-here"})) as name:
        message = wait_for_reason(ground, NAMESPACE, name, "ModelUnusable")
    assert "/models/models/nothing-here" in message


def test_an_image_that_cannot_be_pulled(ground: Stage) -> None:
    with applied(ground, NAMESPACE, light("no-image", engine={"image": "slm-operator/nowhere:never"})) as name:
        message = wait_for_reason(ground, NAMESPACE, name, "ErrImagePull")
    assert "spec.engine.image" in message


def test_a_gpu_that_somebody_else_holds(ground: Stage) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "training"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "training",
                    "image": LIGHT_IMAGE,
                    "command": ["sleep", "infinity"],
                    "resources": {"limits": {"nvidia.com/gpu": "1"}},
                }
            ],
        },
    }
    kubectl = ground.cluster.kubectl
    kubectl("apply", "--namespace", "default", "--filename", "-", stdin=json.dumps(pod))
    try:
        kubectl("wait", "pod/training", "--namespace", "default", "--for=condition=Ready", "--timeout=240s")
        with applied(ground, NAMESPACE, light("waits", workload={"outputTokens": 17})) as name:
            message = wait_for_reason(ground, NAMESPACE, name, "WaitingForGPU")
            assert "has its GPU held by a pod of another namespace" in message
            assert ground.get("pod", "training", "default")["status"]["phase"] == "Running"
    finally:
        kubectl("delete", "pod", "training", "--namespace", "default")


def test_a_node_without_config_manager(ground: Stage) -> None:
    remove_plugin(ground)
    ground.apply(*objects(image=STANDIN_IMAGE, config_manager=False))
    try:
        ground.wait_for_plugin()
        with applied(
            ground,
            NAMESPACE,
            light("unswitchable", workload={"outputTokens": 18}, sharing=SLICES),
        ) as name:
            message = wait_for_reason(ground, NAMESPACE, name, "NoCapacity", timeout_s=360)
        assert "config-manager" in message
        assert "config.name=" in message
    finally:
        remove_plugin(ground)
        ground.install_gpu()


def remove_plugin(stage: Stage) -> None:
    """With its pods: the end of one plugin's connection would take the next one's devices away at the kubelet."""
    plugin = ("daemonset/nvidia-device-plugin", "--namespace", "nvidia-device-plugin")
    stage.cluster.kubectl("delete", *plugin, "--cascade=foreground")


def test_no_node_opted_in(ground: Stage) -> None:
    import_profile(ground, NAMESPACE)
    ground.cluster.kubectl("label", "node", ground.cluster.node, "slm-operator.io/managed-")
    try:
        with applied(
            ground, NAMESPACE, light("nowhere", profiling={"profileRef": {"name": "imported"}}, sharing=SLICES)
        ) as name:
            message = wait_for_reason(ground, NAMESPACE, name, "NoNode")
        assert "slm-operator.io/managed=true" in message
    finally:
        ground.opt_in()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"slo": {"itl": {"maxMs": 0}}}, "spec.slo.itl.maxMs"),
        ({"engine": {"args": ["--max-num-seqs=8"]}}, "args must not hold --max-num-seqs"),
        ({"engine": {"args": ["--max_num_seqs", "8"]}}, "args must not hold --max-num-seqs"),
        ({"slo": {"itl": {"maxMs": 5, "maxFactor": 2}}}, "not both"),
        ({"model": {"uri": "ftp://models/opt"}}, "a model is hf://org/name, pvc://claim/path"),
    ],
    ids=["SLO of zero", "owned flag", "owned flag with underscores", "two ITL limits", "unknown scheme"],
)
def test_refused_at_admission(ground: Stage, spec: dict[str, object], words: str) -> None:
    with pytest.raises(KubectlError, match=words.replace(".", r"\.")):
        ground.cluster.kubectl(
            "apply", "--namespace", NAMESPACE, "--filename", "-", stdin=json.dumps(light("refused", **spec))
        )
