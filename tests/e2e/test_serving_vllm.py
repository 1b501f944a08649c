"""The real engine under load while things change: nobody's request is lost.

Every change takes minutes, because engines start on two cores that also serve. `make test` shows the one that holds
most of the others, new arguments; all of them, half an hour, run when they are asked for:

    SLM_CHANGES=all SLM_RECORD=benchmarks/results/changes.json pytest -s -m kind tests/e2e/test_serving_vllm.py
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from benchmarks.scale_figures import environment
from tests.testbed.stage import ENGINE_IMAGE, ROOT

from .light import applied, import_profile, wait_until_ready
from .load import steady_load
from .serving import (
    NAME,
    NAMESPACE,
    assert_nothing_lost,
    evict,
    ground,
    on_node,
    patch,
    pods,
    scale,
    wait_until_rolled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.vllm, pytest.mark.timeout(1500)]

ROLL_SECONDS = 900
NEXT_IMAGE = "slm-operator/engine-cpu:next"
EAGER = "--enforce-eager"


@pytest.fixture(scope="module")
def served(stage: Stage) -> Iterator[Stage]:
    """Two engines on the node's one GPU, on advice from a published profile."""
    with ground(stage, NAMESPACE), applied(stage, NAMESPACE, manifest()):
        wait_until_ready(stage, NAMESPACE, NAME, timeout_s=500)
        yield stage


def manifest() -> dict[str, Any]:
    """The demo's deployment."""
    made: dict[str, Any] = yaml.safe_load((ROOT / "examples/demo/slmdeployment.yaml").read_text())
    made["metadata"]["name"] = NAME
    spec = made["spec"]
    spec["profiling"] = {"profile": "imported"}
    spec["slo"] = {"itlMs": 8}
    spec["sharing"] = {"replicasPerGpu": 2, "mode": "TimeSlicing"}
    # The published profile has no ledger, so the advice has no KV bytes, and the CPU engine would take half the machine.
    spec["engine"]["env"] = [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"}]
    return made


def new_arguments(stage: Stage) -> None:
    patch(stage, engine={"args": [EAGER, "--seed", "7"]})
    wait_until_rolled(stage, "--seed 7", ROLL_SECONDS)


def new_advice(stage: Stage) -> None:
    patch(stage, slo={"itlMs": 12})
    wait_until_rolled(stage, "--max-num-seqs 64", ROLL_SECONDS)


def new_image(stage: Stage) -> None:
    tags = (f"docker.io/{image}" for image in (ENGINE_IMAGE, NEXT_IMAGE))
    on_node(stage, "ctr", "--namespace", "k8s.io", "images", "tag", "--force", *tags)
    patch(stage, engine={"image": NEXT_IMAGE})
    wait_until_rolled(stage, NEXT_IMAGE, ROLL_SECONDS)


def new_model(stage: Stage) -> None:
    """Other files under another name, with a profile of their own: what a new revision on a claim is."""
    stage.provide_models_as(NAMESPACE, "models-next")
    import_profile(stage, NAMESPACE, "next", "pvc://models-next/opt-tiny")
    patch(stage, model={"uri": "pvc://models-next/opt-tiny"}, profiling={"profile": "next"})
    wait_until_rolled(stage, "models-next", ROLL_SECONDS)


def one_evicted(stage: Stage) -> None:
    """What `kubectl drain` asks for: the only node cannot go whole."""
    evict(stage, pods(stage)[0], ROLL_SECONDS)


def scaled_down_and_up(stage: Stage) -> None:
    scale(stage, 1)
    scale(stage, 2)
    wait_until_ready(stage, NAMESPACE, NAME, ROLL_SECONDS)


def another_class(stage: Stage) -> None:
    """Three slices in place of two: on the only node a planned outage."""
    patch(stage, sharing={"replicasPerGpu": 3})
    stage.wait_for_allocatable("nvidia.com/gpu.shared", 3, timeout_s=400)
    wait_until_ready(stage, NAMESPACE, NAME, ROLL_SECONDS)


class Change(NamedTuple):
    """A change under load. `outage`: for a while nobody is there to connect to."""

    name: str
    make: Callable[[Stage], None]
    outage: bool = False


CHANGES = (
    Change("new arguments", new_arguments),
    Change("new advice", new_advice),
    Change("new engine image", new_image),
    Change("new model", new_model),
    Change("a replica evicted", one_evicted),
    Change("scaled to one and back to two", scaled_down_and_up),
    Change("another class on the only node", another_class, outage=True),
)
CHOSEN = CHANGES if os.environ.get("SLM_CHANGES") == "all" else CHANGES[:1]


def keep(change: Change, outcome: dict[str, Any]) -> None:
    """Into the record, where SLM_RECORD says, beside what it has of other changes: at once, so that none is lost."""
    if record := os.environ.get("SLM_RECORD"):
        path = Path(record)
        kept = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(kept | {change.name: outcome | {"about": environment()}}, indent=1) + "\n")


@pytest.mark.parametrize("change", CHOSEN, ids=[change.name for change in CHOSEN])
def test_the_real_engine_under_load(served: Stage, change: Change) -> None:
    began = time.monotonic()
    with steady_load(served, NAMESPACE, NAME, clients=3, tokens=48) as load:
        time.sleep(10)  # a stretch of the curve without a change, to compare with
        changed = time.monotonic() - began
        change.make(served)
        settled = time.monotonic() - began
        time.sleep(10)
    account = load.account
    counts = {kind: getattr(account, kind) for kind in ("ok", "refused", "failed", "truncated")}
    moments = {"changed": round(changed, 1), "settled": round(settled, 1)}
    keep(change, counts | {"moments": moments, "chunksBySecond": account.chunks_by_second})
    assert_nothing_lost(account, outage=change.outage)
