"""Fifty replicas on one node, changed in every way under load: what holds for two holds for many.

A recorded run, for it takes most of an hour: `make record many`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from .changes import CHANGES, Change, keep, outcome
from .load import steady_load
from .serving import NAME, NAMESPACE, assert_nothing_lost, pods, ready, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

REPLICAS = 50
PER_GPU = 4
ROLL_SECONDS = 2400
KEPT = {"a replica evicted": REPLICAS - 1, "scaled to half and back": REPLICAS // 2}
"""Replicas that a change leaves alone; of the others every one is replaced."""
pytestmark = [
    pytest.mark.kind,
    pytest.mark.record,
    pytest.mark.timeout(3600),
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
        "sharing": {"enginesPerGpu": PER_GPU, "mode": "TimeSlicing"},
        "podTemplate": {"spec": {"containers": [{"name": "engine", "resources": small}]}},
    }
    with serving(stage, **spec):
        yield stage
    stage.wait_for_allocatable("nvidia.com/gpu", gpus)
    stage.install_gpu()


def answering(stage: Stage) -> set[str]:
    """The replicas that answer: one that is going is still listed."""
    return {pod["metadata"]["uid"] for pod in pods(stage) if ready(pod)}


@pytest.mark.parametrize("change", CHANGES, ids=[change.name for change in CHANGES])
def test_fifty_replicas_change_under_load(served: Stage, change: Change) -> None:
    before = answering(served)
    assert len(before) == REPLICAS
    began = time.monotonic()
    with steady_load(served, NAMESPACE, NAME) as load:
        change.make(served, ROLL_SECONDS)
        seconds = time.monotonic() - began
    keep(change.name, {"replicas": REPLICAS, "seconds": round(seconds)} | outcome(load.account))
    assert_nothing_lost(load.account, outage=change.outage)
    assert len(before & answering(served)) == KEPT.get(change.name, 0)
