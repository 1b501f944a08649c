"""An HPA through a change of advice, from batches of 32 to batches of 96: metric, rule and target are the guide's.

A recorded run on the light engine, `make record autoscaling`. In `make test` the chart's rule is judged through the same
change, second by second (tests/chart/test_rollouts.py), and an HPA by load (test_autoscaling.py).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.testbed.gotools import binary
from tests.testbed.metrics_pipeline import custom_metrics, scraping

from .changes import keep, outcome
from .load import steady_load
from .scaling import guide, of_kind
from .serving import NAME, NAMESPACE, assert_nothing_lost, patch, serving, until, wait_until_rolled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.prometheus import Prometheus
    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.record, pytest.mark.timeout(1500)]

METRIC = "slm_demand_replicas"
FORMER, NEW = 32, 96
ITL_MS = {FORMER: 8, NEW: 14}
"""Under which the published profile advises these batches."""
ENGINES = 3
CLIENTS = 2 * FORMER
"""Two full batches: at 750m a demand of three replicas, and of one where each has a batch of 96."""
MORE = 2 * NEW - CLIENTS
"""With these, two full batches again."""
WINDOW_S = 120
"""The guide's five minutes are for models that take minutes to start."""
STEP = {"name": "LIGHT_ENGINE_STEP_MS", "value": "400"}
"""So slow that so many clients keep their requests in the engines on a busy machine, too."""


@pytest.fixture(scope="module")
def prometheus(stage: Stage) -> Iterator[Prometheus]:
    with scraping(stage) as server:
        yield server


@pytest.fixture(scope="module")
def served(stage: Stage, prometheus: Prometheus) -> Iterator[Stage]:
    """A full pack of three with batches of 32, and its demand in the custom metrics API."""
    assert prometheus
    rules = next(document for document in guide() if "rules" in document)
    spec = {"engine": {"env": [STEP]}, "slo": {"itl": {"maxMs": ITL_MS[FORMER]}}, "sharing": {"enginesPerGpu": ENGINES}}
    with serving(stage, **spec):
        with custom_metrics(stage, yaml.safe_dump(rules), METRIC):
            yield stage
        stage.cluster.kubectl("delete", "hpa", "--all", "--namespace", NAMESPACE)


@contextlib.contextmanager
def followed(stage: Stage, kind: str, path: str) -> Iterator[list[str]]:
    """Every value that a field of NAME took during the block, in order; the list is there after it."""
    seen: list[str] = []
    command = [binary("kubectl"), f"--kubeconfig={stage.cluster.kubeconfig}", "get", kind, NAME, "--watch"]
    command += ["--namespace", NAMESPACE, "--output=jsonpath=" + path + '{"\\n"}']
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, stdout=said) as watching:
        try:
            yield seen
        finally:
            still_watching = watching.poll() is None
            watching.terminate()
            watching.wait()
            said.seek(0)
            seen += said.read().splitlines()
        assert still_watching, f"the watch of {kind}/{NAME} ended before what it was to follow"


def lowest(prometheus: Prometheus, window_s: float) -> float:
    """The least demand of the last seconds; 0 while nothing is recorded."""
    now, query = time.time(), f'min_over_time({METRIC}{{name="{NAME}"}}[{window_s:.0f}s])'
    return min((value for one in prometheus.range(query, now, now, 1) for _, value in one.samples), default=0.0)


def recorded(prometheus: Prometheus, began: float, ended: float) -> dict[str, float]:
    """What was recorded of demand in that time: how often, of how often it was asked, and the bounds."""
    asked = prometheus.range(f'{METRIC}{{name="{NAME}"}}', began, ended, 2)
    values = [value for one in asked for _, value in one.samples]
    return {
        "asked": int((ended - began) // 2) + 1,
        "answered": len(values),
        "least": round(min(values), 2),
        "most": round(max(values), 2),
    }


def test_replicas_are_kept_through_a_change_of_advice(served: Stage, prometheus: Prometheus) -> None:
    """The same clients from before the change until after it; then batches that are as full as before; then the same again."""
    kubectl, where = served.cluster.kubectl, ("--namespace", NAMESPACE)
    (autoscaler,) = of_kind("HorizontalPodAutoscaler")
    autoscaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = WINDOW_S
    autoscaler["spec"]["maxReplicas"] = 2 * ENGINES  # so that one more could be seen
    with steady_load(served, NAMESPACE, NAME, clients=CLIENTS, tokens=16) as same:
        until(lambda: lowest(prometheus, 10) > 1.5, timeout_s=240)
        kubectl("apply", *where, "--filename", "-", stdin=json.dumps(autoscaler))
        kubectl(
            "wait", f"hpa/{NAME}", *where, f"--for=jsonpath={{.status.desiredReplicas}}={ENGINES}", "--timeout=240s"
        )
        with (
            followed(served, "slmd", "{.spec.replicas}") as asked_for,
            followed(
                served, "hpa", "{.status.desiredReplicas} {.status.conditions[?(@.type=='ScalingActive')].status}"
            ) as said,
        ):
            began = time.time()
            patch(served, slo={"itl": {"maxMs": ITL_MS[NEW]}})
            wait_until_rolled(served, f"--max-num-seqs {NEW}")
            changed = time.time()
            with steady_load(served, NAMESPACE, NAME, clients=MORE, tokens=16) as more:
                filled = time.time()
                until(lambda: lowest(prometheus, WINDOW_S + 30) > 1.5, timeout_s=600)
                kept = time.time()
        same_alone = time.time()
        path = "--for=jsonpath={.status.replicas}=1"
        kubectl("wait", f"slmd/{NAME}", *where, path, "--timeout=400s", timeout_s=430)
        fewer_s = time.time() - same_alone
    during, after = recorded(prometheus, began, changed), recorded(prometheus, filled + WINDOW_S / 4, kept)
    figures = {
        "batches": [FORMER, NEW],
        "clients": [CLIENTS, CLIENTS + MORE],
        "changeSeconds": round(changed - began),
        "keptSeconds": round(kept - began),
        "replicasAskedFor": sorted(set(asked_for)),
        "autoscalerSaid": sorted(set(said)),
        "demandDuringTheChange": during,
        "demandWithFullBatchesAgain": after,
        "stabilizationSeconds": WINDOW_S,
        "secondsToOneReplica": round(fewer_s),
    }
    print(json.dumps(figures), outcome(same.account), outcome(more.account))
    keep("a change of advice", figures | {"same": outcome(same.account), "more": outcome(more.account)})
    assert set(asked_for) == {f"{ENGINES}"}
    assert set(said) == {f"{ENGINES} True"}
    assert 0 < during["least"] <= during["most"] < 2.475  # what three replicas may have without a fourth
    for account in (same.account, more.account):
        assert_nothing_lost(account)
