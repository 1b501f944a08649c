"""The operator is killed again and again along the whole path: it ends the same."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from .conftest import node_marks
from .light import applied, light, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]
NAMESPACE = "killed"
KILLS = 5
SEED = 11


@pytest.fixture
def ground(stage: Stage) -> Iterator[Stage]:
    stage.cluster.kubectl("create", "namespace", NAMESPACE)
    stage.provide_model(NAMESPACE)
    before = node_marks(stage)
    stage.opt_in()
    yield stage
    stage.wait_for_allocatable("nvidia.com/gpu", 1, timeout_s=180)
    stage.cluster.kubectl("label", "node", stage.cluster.node, "slm-operator.io/managed-")
    stage.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    assert node_marks(stage) == before


def kill_operator(stage: Stage) -> None:
    selector = ("--namespace", "slm-system", "--selector", "app.kubernetes.io/name=slm-operator")
    stage.cluster.kubectl("delete", "pods", *selector, "--grace-period=0", "--force", "--wait=false")


def test_a_killed_operator_changes_nothing_in_the_end(ground: Stage) -> None:
    moments = random.Random(SEED)
    with applied(ground, NAMESPACE, light("survivor")) as name:
        for _ in range(KILLS):
            time.sleep(moments.uniform(1, 12))  # random moments are the point: there is no event to await
            kill_operator(ground)
        wait_until_ready(ground, NAMESPACE, name, timeout_s=400)
        both = ("--for=jsonpath={.status.readyReplicas}=2", "--timeout=60s")
        ground.cluster.kubectl("wait", f"slmd/{name}", "--namespace", NAMESPACE, *both)
        status = ground.get("slmd", name, NAMESPACE)["status"]
        assert status["advice"]["replicasPerGpu"] == 2
        jobs = ground.cluster.kubectl(
            "get", "events", "--namespace", NAMESPACE, "--field-selector", "reason=SuccessfulCreate", "--output", "name"
        )
        assert jobs, "no Job was ever created"
        profiles = ground.cluster.kubectl("get", "slmp", "--namespace", NAMESPACE, "--output", "name").split()
        assert len(profiles) == 1
