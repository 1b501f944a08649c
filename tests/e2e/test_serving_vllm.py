"""The real engine under load while things change: nobody's request is lost.

A recorded run, for every change takes minutes, because engines start on two cores that also serve: `make record changes`.
In `make test` the light engine goes through the same changes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.testbed.stage import ROOT

from .changes import CHANGES, Change, keep, outcome
from .light import applied, wait_until_ready
from .load import steady_load
from .serving import NAME, NAMESPACE, assert_nothing_lost, ground

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.vllm, pytest.mark.record, pytest.mark.timeout(1500)]

ROLL_SECONDS = 900


@pytest.fixture(scope="module")
def served(stage: Stage) -> Iterator[Stage]:
    """Two engines on the node's one GPU, on advice from a published profile."""
    with ground(stage, NAMESPACE), applied(stage, NAMESPACE, manifest()):
        wait_until_ready(stage, NAMESPACE, NAME, timeout_s=500)
        yield stage


def manifest() -> dict[str, Any]:
    """The deployment of `test_first_answer`, on advice that is published."""
    made: dict[str, Any] = yaml.safe_load((ROOT / "tests/e2e/opt-tiny.yaml").read_text())
    made["metadata"]["name"] = NAME
    spec = made["spec"]
    spec["profiling"] = {"profileRef": {"name": "imported"}}
    spec["slo"] = {"itl": {"maxMs": 8}}
    spec["sharing"] = {"enginesPerGpu": 2, "mode": "TimeSlicing"}
    # The published profile has no ledger, so the advice has no KV bytes, and the CPU engine would take half the machine.
    spec["engine"]["env"] = [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"}]
    return made


@pytest.mark.parametrize("change", CHANGES, ids=[change.name for change in CHANGES])
def test_the_real_engine_under_load(served: Stage, change: Change) -> None:
    began = time.monotonic()
    with steady_load(served, NAMESPACE, NAME, clients=3, tokens=48) as load:
        time.sleep(10)  # a stretch of the curve without a change, to compare with
        changed = time.monotonic() - began
        change.make(served, ROLL_SECONDS)
        settled = time.monotonic() - began
        time.sleep(10)
    account = load.account
    moments = {"changed": round(changed, 1), "settled": round(settled, 1)}
    keep(change.name, outcome(account) | {"moments": moments, "chunksBySecond": account.chunks_by_second})
    assert_nothing_lost(account, outage=change.outage)
