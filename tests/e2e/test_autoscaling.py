"""An HPA on a metric of the engines, by way of Prometheus and prometheus-adapter, as docs/guides/autoscaling.md has it."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.testbed.cluster import apply_crds
from tests.testbed.gotools import sources
from tests.testbed.metrics_pipeline import custom_metrics, scraping
from tests.testbed.stage import ROOT

from .light import applied, light, wait_until_ready
from .load import POD, steady_load
from .serving import ground

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.prometheus import Prometheus
    from tests.testbed.stage import Stage

    from .load import Account

# The first of its session: the node's image, the cluster and the product's images may have to be made in its time.
pytestmark = [pytest.mark.kind, pytest.mark.timeout(1800)]

NAMESPACE = "autoscaling"
NAME = "chat"
METRIC = "vllm_num_requests"
FEW, MANY = 2, 56
"""Clients. At 24 requests a replica the many ask for three replicas; one takes 64 before it answers 503."""
STEP_MS = {"name": "LIGHT_ENGINE_STEP_MS", "value": "200"}
"""So slow that clients on a busy machine keep their requests in the engines, too."""
KEDA = "github.com/kedacore/keda/v2@v2.21.0"
FIRST_ANSWER = """
import time, urllib.request as u
began = time.monotonic()
while True:
    try:
        u.urlopen(u.Request("http://{name}.{namespace}/v1/completions", b'{{"prompt": "x", "max_tokens": 1}}'), timeout=30)
        break
    except OSError:
        time.sleep(0.1)
print(time.monotonic() - began)
"""


def guide() -> list[Any]:
    """The YAML documents of the guide, in their order."""
    page = (ROOT / "docs/guides/autoscaling.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [document for block in blocks for document in yaml.safe_load_all(block)]


def of_kind(kind: str) -> dict[str, Any]:
    return next(document for document in guide() if document.get("kind") == kind)


@pytest.fixture(scope="module")
def prometheus(stage: Stage) -> Iterator[Prometheus]:
    with scraping(stage) as server:
        yield server


@pytest.fixture(scope="module")
def served(stage: Stage, prometheus: Prometheus) -> Iterator[Stage]:
    """A deployment without spec.replicas on a GPU cut in three, and its metric in the custom metrics API."""
    assert prometheus
    spec = {"engine": {"env": [STEP_MS]}, "profiling": {"profile": "imported"}, "slo": {"itlMs": 8}}
    rules = next(document for document in guide() if "rules" in document)
    asked = light(NAME, **spec, sharing={"replicasPerGpu": 3})
    with ground(stage, NAMESPACE), applied(stage, NAMESPACE, asked):
        wait_until_ready(stage, NAMESPACE, NAME)
        with custom_metrics(stage, yaml.safe_dump(rules), METRIC):
            yield stage
        stage.cluster.kubectl("delete", "hpa", "--all", "--namespace", NAMESPACE)


def wait_for_replicas(stage: Stage, replicas: int, timeout_s: int = 400) -> float:
    """Wait until so many replicas are there and ready, and none is going; seconds waited."""
    began = time.monotonic()
    for field in ("replicas", "readyReplicas"):
        path = f"--for=jsonpath={{.status.{field}}}={replicas}"
        stage.cluster.kubectl(
            "wait", f"slmd/{NAME}", "--namespace", NAMESPACE, path, f"--timeout={timeout_s}s", timeout_s=timeout_s + 30
        )
    return time.monotonic() - began


def wait_for_autoscaler(stage: Stage, condition: str, reason: str) -> None:
    path = f"--for=jsonpath={{.status.conditions[?(@.type=='{condition}')].reason}}={reason}"
    stage.cluster.kubectl("wait", f"hpa/{NAME}", "--namespace", NAMESPACE, path, "--timeout=240s")


def assert_nothing_lost(account: Account) -> None:
    print(f"{account.ok} ok, {account.refused} refused, {account.failed} failed, {account.truncated} truncated")
    assert account.ok > 0
    assert (account.refused, account.failed, account.truncated) == (0, 0, 0), account.examples


def test_one_to_three_replicas_and_back_with_nobodys_request_lost(served: Stage) -> None:
    kubectl = served.cluster.kubectl
    autoscaler = of_kind("HorizontalPodAutoscaler")
    # The guide's five minutes are for models that take minutes to start.
    autoscaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = 15
    kubectl("apply", "--namespace", NAMESPACE, "--filename", "-", stdin=json.dumps(autoscaler))
    wait_for_autoscaler(served, "AbleToScale", "FailedGetScale")  # as the guide warns: there is no number yet
    kubectl("scale", f"slmd/{NAME}", "--namespace", NAMESPACE, "--replicas=1")
    wait_for_replicas(served, 1)
    wait_for_autoscaler(served, "ScalingActive", "ValidMetricFound")
    with steady_load(served, NAMESPACE, NAME, clients=FEW, tokens=16) as few:
        began = time.monotonic()
        with steady_load(served, NAMESPACE, NAME, clients=MANY, tokens=16) as many:
            wait_for_replicas(served, 3)
            up_s = time.monotonic() - began
        down_s = wait_for_replicas(served, 1)
    print(f"{up_s:.0f} s from load to three replicas, {down_s:.0f} s from its end to one")
    assert_nothing_lost(many.account)
    assert_nothing_lost(few.account)


def test_at_zero_the_autoscaler_rests_and_the_first_answer_waits_for_a_start(served: Stage) -> None:
    kubectl = served.cluster.kubectl
    kubectl("scale", f"slmd/{NAME}", "--namespace", NAMESPACE, "--replicas=0")
    kubectl("wait", "--for=delete", "pods", "--all", "--namespace", NAMESPACE, "--timeout=240s")
    wait_for_autoscaler(served, "ScalingActive", "ScalingDisabled")
    kubectl("scale", f"slmd/{NAME}", "--namespace", NAMESPACE, "--replicas=1")
    script = FIRST_ANSWER.format(name=NAME, namespace=NAMESPACE)
    waited_s = float(kubectl("exec", "--namespace", POD, POD, "--", "python3", "-c", script, timeout_s=400))
    print(f"the first answer {waited_s:.1f} s after it was asked for, from zero replicas")
    wait_for_replicas(served, 1)
    wait_for_autoscaler(served, "ScalingActive", "ValidMetricFound")


def test_keda_takes_the_guides_object_and_prometheus_answers_its_query(served: Stage, prometheus: Prometheus) -> None:
    """KEDA itself does not run here: its own definition, and the query that it would ask."""
    kubectl = served.cluster.kubectl
    definition = sources("gateway-crds", KEDA) / "config/crd/bases/keda.sh_scaledobjects.yaml"
    apply_crds(served.cluster, definition)
    try:
        scaled = of_kind("ScaledObject")
        strict = ("--dry-run=server", "--validate=strict", "--namespace", NAMESPACE)
        assert "created" in kubectl("create", *strict, "--filename", "-", stdin=json.dumps(scaled))
    finally:
        kubectl("delete", "--filename", str(definition))
    (trigger,) = scaled["spec"]["triggers"]
    now = time.time()
    (requests,) = prometheus.range(trigger["metadata"]["query"].replace('"team"', f'"{NAMESPACE}"'), now - 60, now, 5)
    assert requests.samples
