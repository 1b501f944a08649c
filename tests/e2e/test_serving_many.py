"""Fifty replicas on one node, rolled and scaled under load: what holds for two holds for many.

Takes twelve minutes, so it runs when it is asked to:

    SLM_REPLICAS=50 SLM_RECORD=benchmarks/results/many.json pytest -s -m kind tests/e2e/test_serving_many.py
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.scale_figures import environment

from .light import wait_until_ready
from .load import steady_load
from .serving import (
    NAME,
    NAMESPACE,
    TOKEN_MS,
    assert_nothing_lost,
    patch,
    pods,
    said,
    scale,
    serving,
    uids,
    wait_until_rolled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.testbed.stage import Stage

REPLICAS = int(os.environ.get("SLM_REPLICAS", "0"))
PER_GPU = 4
COMMAND = (
    f"SLM_REPLICAS={REPLICAS} SLM_RECORD=benchmarks/results/many.json pytest -m kind tests/e2e/test_serving_many.py"
)
pytestmark = [
    pytest.mark.kind,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not REPLICAS, reason="twelve minutes: say SLM_REPLICAS=50"),
]


@pytest.fixture(scope="module")
def served(stage: Stage) -> Iterator[Stage]:
    """So many replicas on as many GPUs as they need, and one more slice: a roll has room for a successor."""
    gpus = REPLICAS // PER_GPU + 1
    # NB: the plugin starts anew with other hardware; on a node that is being given back it would find itself shut out.
    stage.wait_for_allocatable("nvidia.com/gpu", 1)
    stage.install_gpu(gpus)
    small = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "1Gi"}}
    spec = {
        "replicas": REPLICAS,
        "sharing": {"replicasPerGpu": PER_GPU, "mode": "TimeSlicing"},
        "podTemplate": {"spec": {"containers": [{"name": "engine", "resources": small}]}},
    }
    with serving(stage, **spec):
        yield stage
    stage.wait_for_allocatable("nvidia.com/gpu", gpus)
    stage.install_gpu()


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Any]]:
    """What became of the requests in each change; kept where SLM_RECORD says."""
    found: dict[str, Any] = {}
    about = environment() | {"command": COMMAND, "replicas": REPLICAS}
    yield found
    if record := os.environ.get("SLM_RECORD"):
        Path(record).write_text(json.dumps({"about": about, "changes": found}, indent=1) + "\n")


def under_load(stage: Stage, name: str, outcomes: dict[str, Any], change: Callable[[], None]) -> None:
    began = time.monotonic()
    with steady_load(stage, NAMESPACE, NAME) as load:
        change()
        seconds = time.monotonic() - began
    account = load.account
    lost = {kind: getattr(account, kind) for kind in ("ok", "refused", "failed", "truncated")}
    outcomes[name] = {"seconds": round(seconds)} | lost
    assert_nothing_lost(account)


def test_new_arguments(served: Stage, outcomes: dict[str, Any]) -> None:
    before = uids(served)
    assert len(before) == REPLICAS

    def change() -> None:
        patch(served, engine={"env": [TOKEN_MS], "args": ["--seed", "7"]})
        wait_until_rolled(served, "--seed 7", timeout_s=2400)

    under_load(served, "new arguments", outcomes, change)
    assert not before & uids(served)
    assert all("--seed 7" in said(pod) for pod in pods(served))


def test_scaled_down_and_up(served: Stage, outcomes: dict[str, Any]) -> None:
    kept = uids(served)

    def change() -> None:
        scale(served, REPLICAS // 2, timeout_s=300)
        scale(served, REPLICAS, timeout_s=300)
        wait_until_ready(served, NAMESPACE, NAME)

    under_load(served, "half the replicas, and all again", outcomes, change)
    assert len(kept & uids(served)) == REPLICAS // 2
