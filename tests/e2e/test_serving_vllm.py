"""The real engine is replaced under load: nobody's request is lost."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.testbed.stage import ROOT

from .light import applied, wait_until_ready
from .load import steady_load
from .serving import ground

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.vllm, pytest.mark.timeout(1200)]
NAMESPACE = "serving-vllm"
NAME = "opt-tiny"


@pytest.fixture
def served(stage: Stage) -> Iterator[Stage]:
    """The demo's deployment on advice from a published profile."""
    with ground(stage, NAMESPACE), applied(stage, NAMESPACE, manifest()):
        wait_until_ready(stage, NAMESPACE, NAME, timeout_s=500)
        yield stage


def manifest() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((ROOT / "examples/demo/slmdeployment.yaml").read_text())
    spec = made["spec"]
    spec["profiling"] = {"profile": "imported"}
    spec["slo"] = {"itlMs": 8}
    spec["sharing"] = {"replicasPerGpu": 2, "mode": "TimeSlicing"}
    # The published profile has no ledger, so the advice has no KV bytes, and the CPU engine would take half the machine.
    spec["engine"]["env"] = [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"}]
    return made


def test_new_arguments_for_the_real_engine_under_load(served: Stage) -> None:
    change = json.dumps({"spec": {"engine": {"args": ["--enforce-eager", "--seed", "7"]}}})
    moments, began = {}, time.monotonic()
    with steady_load(served, NAMESPACE, NAME, clients=3, tokens=48) as load:
        time.sleep(10)  # a stretch of the curve without a change, to compare with
        moments["spec changed"] = time.monotonic() - began
        served.cluster.kubectl("patch", "slmd", NAME, "--namespace", NAMESPACE, "--type=merge", "--patch", change)
        rolled = ("rollout", "status", f"deployment/{NAME}", "--namespace", NAMESPACE, "--timeout=500s")
        generation = served.get("slmd", NAME, NAMESPACE)["metadata"]["generation"]
        observed = f"--for=jsonpath={{.status.observedGeneration}}={generation}"
        served.cluster.kubectl("wait", f"slmd/{NAME}", "--namespace", NAMESPACE, observed, "--timeout=240s")
        served.cluster.kubectl(*rolled, timeout_s=530)
        moments["both engines new"] = time.monotonic() - began
        time.sleep(10)
    account = load.account
    print(f"{account.ok} ok, {account.refused} refused, {account.failed} failed, {account.truncated} truncated")
    if record := os.environ.get("SLM_RECORD"):
        curve = {"requests": account.ok, "moments": moments, "chunksBySecond": account.chunks_by_second}
        Path(record).write_text(json.dumps(curve, indent=1) + "\n")
    assert account.ok > 0
    assert (account.refused, account.failed, account.truncated) == (0, 0, 0), account.examples
