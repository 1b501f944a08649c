"""The operator is killed again and again along the whole path: it ends the same."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest
from slm_operator.api.names import CHANGING_TAINT

from .conftest import node_at_rest
from .light import applied, light, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.timeout(1200)]
NAMESPACE = "killed"
KILLS_WHILE_MEASURING = 2
KILLS_AFTER = 3
SEED = 11


@pytest.fixture
def ground(stage: Stage) -> Iterator[Stage]:
    stage.cluster.kubectl("create", "namespace", NAMESPACE)
    stage.provide_model(NAMESPACE)
    before = node_at_rest(stage)
    stage.opt_in()
    yield stage
    stage.wait_for_allocatable("nvidia.com/gpu", 1)
    stage.cluster.kubectl("label", "node", stage.cluster.node, "slm-operator.io/managed-")
    stage.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    assert node_at_rest(stage) == before


def kill_operator(stage: Stage) -> None:
    selector = ("--namespace", "slm-system", "--selector", "app.kubernetes.io/name=slm-operator")
    stage.cluster.kubectl("delete", "pods", *selector, "--grace-period=0", "--force", "--wait=false")


def kill_at_random(stage: Stage, moments: random.Random, times: int) -> None:
    for _ in range(times):
        time.sleep(moments.uniform(1, 8))  # random moments are the point: there is no event to await
        kill_operator(stage)


def wait_for_taint(stage: Stage) -> None:
    closed = f'--for=jsonpath={{.spec.taints[?(@.key=="{CHANGING_TAINT}")].effect}}=NoSchedule'
    stage.cluster.kubectl("wait", "node", stage.cluster.node, closed, "--timeout=300s", timeout_s=330)


def test_a_killed_operator_changes_nothing_in_the_end(ground: Stage) -> None:
    moments = random.Random(SEED)
    with applied(ground, NAMESPACE, light("survivor")) as name:
        kill_at_random(ground, moments, KILLS_WHILE_MEASURING)
        wait_for_taint(ground)
        kill_operator(ground)  # it must be able to come back to the node that it has closed
        kill_at_random(ground, moments, KILLS_AFTER)
        wait_until_ready(ground, NAMESPACE, name, timeout_s=400)
        both = ("--for=jsonpath={.status.readyReplicas}=2", "--timeout=240s")
        ground.cluster.kubectl("wait", f"slmd/{name}", "--namespace", NAMESPACE, *both)
        status = ground.get("slmd", name, NAMESPACE)["status"]
        assert status["advice"]["configuration"]["enginesPerGpu"] == 2
        jobs = ground.cluster.kubectl(
            "get", "events", "--namespace", NAMESPACE, "--field-selector", "reason=SuccessfulCreate", "--output", "name"
        )
        assert jobs, "no Job was ever created"
        profiles = ground.cluster.kubectl("get", "slmp", "--namespace", NAMESPACE, "--output", "name").split()
        assert len(profiles) == 1
