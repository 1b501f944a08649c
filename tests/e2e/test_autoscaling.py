"""An HPA on recorded demand, by way of Prometheus and prometheus-adapter, as docs/how-to/autoscaling.md has it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.testbed.cluster import apply_crds
from tests.testbed.gotools import sources
from tests.testbed.keda import MODULE as KEDA
from tests.testbed.metrics_pipeline import custom_metrics, scraping

from .light import applied, wait_until_ready
from .load import first_answer
from .scaling import NAME, NAMESPACE, assert_scaled_with_load, guide, of_kind, scalable, wait_for_replicas
from .serving import ground

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.prometheus import Prometheus
    from tests.testbed.stage import Stage

# The first of its session: the node's image, the cluster and the product's images may have to be made in its time.
pytestmark = [pytest.mark.kind, pytest.mark.timeout(1800)]

METRIC = "slm_demand_replicas"


@pytest.fixture(scope="module")
def prometheus(stage: Stage) -> Iterator[Prometheus]:
    with scraping(stage) as server:
        yield server


@pytest.fixture(scope="module")
def served(stage: Stage, prometheus: Prometheus) -> Iterator[Stage]:
    """A deployment without spec.replicas on a GPU of three slices, and its metric in the custom metrics API."""
    assert prometheus
    rules = next(document for document in guide() if "rules" in document)
    with ground(stage, NAMESPACE), applied(stage, NAMESPACE, scalable()):
        wait_until_ready(stage, NAMESPACE, NAME)
        with custom_metrics(stage, yaml.safe_dump(rules), METRIC):
            yield stage
        stage.cluster.kubectl("delete", "hpa", "--all", "--namespace", NAMESPACE)


def wait_for_autoscaler(stage: Stage, condition: str, reason: str) -> None:
    path = f"--for=jsonpath={{.status.conditions[?(@.type=='{condition}')].reason}}={reason}"
    stage.cluster.kubectl("wait", f"hpa/{NAME}", "--namespace", NAMESPACE, path, "--timeout=240s")


def test_autoscaling_to_three_replicas_and_back_loses_nothing(served: Stage) -> None:
    kubectl = served.cluster.kubectl
    (autoscaler,) = of_kind("HorizontalPodAutoscaler")
    # The guide's five minutes are for models that take minutes to start.
    autoscaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = 15
    kubectl("apply", "--namespace", NAMESPACE, "--filename", "-", stdin=json.dumps(autoscaler))
    wait_for_autoscaler(
        served, "ScalingActive", "ValidMetricFound"
    )  # nobody has scaled: the pack is the operator's number
    wait_for_replicas(served, 1)
    assert_scaled_with_load(served)


def test_autoscaler_rests_at_zero_and_first_answer_waits(served: Stage) -> None:
    kubectl = served.cluster.kubectl
    kubectl("scale", f"slmd/{NAME}", "--namespace", NAMESPACE, "--replicas=0")
    kubectl("wait", "--for=delete", "pods", "--all", "--namespace", NAMESPACE, "--timeout=240s")
    wait_for_autoscaler(served, "ScalingActive", "ScalingDisabled")
    kubectl("scale", f"slmd/{NAME}", "--namespace", NAMESPACE, "--replicas=1")
    waited_s = first_answer(served, NAMESPACE, NAME, timeout_s=400)
    print(f"the first answer {waited_s:.1f} s after it was asked for, from zero replicas")
    wait_for_replicas(served, 1)
    wait_for_autoscaler(served, "ScalingActive", "ValidMetricFound")


def test_keda_takes_guide_objects_and_prometheus_their_query(served: Stage, prometheus: Prometheus) -> None:
    """KEDA itself runs in test_keda.py: here its own definition, and the query that it would ask."""
    kubectl = served.cluster.kubectl
    definition = sources("keda", KEDA) / "config/crd/bases/keda.sh_scaledobjects.yaml"
    apply_crds(served.cluster, definition)
    strict = ("--dry-run=server", "--validate=strict", "--namespace", NAMESPACE)
    try:
        for scaled in of_kind("ScaledObject"):
            assert "created" in kubectl("create", *strict, "--filename", "-", stdin=json.dumps(scaled))
            query, now = scaled["spec"]["triggers"][0]["metadata"]["query"], time.time()
            (requests,) = prometheus.range(query, now - 60, now, 5)
            assert requests.samples
    finally:
        kubectl("delete", "--filename", str(definition))
