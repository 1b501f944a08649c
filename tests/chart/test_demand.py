"""Demand is a number of replicas, whatever is advised and however GPUs are divided: the chart's rule, judged by promtool.

What the operator shows comes from the product's own `Metrics`, replicas' batches from the pods of the product's own manifests.
"""

from __future__ import annotations

import math
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from slm_core.measurements import SharingMode
from slm_operator.manifests.replicas import replicas
from slm_operator.manifests.served import PackMeans, ServedPack
from slm_operator.metrics import Metrics
from slm_operator.reconcile.indexes import ProfileKeys, caches_for_planning
from slm_operator.reconcile.queue import KeyedQueue

from tests import builders as build
from tests.chart.helm import of_kind, rendered
from tests.testbed.prometheus import program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slm_operator.manifests.engine import Serving
    from slm_operator.watch.records import PodRecord

RULES_FILE = Path(__file__).parents[2] / "charts/slm-operator/rules/demand.yaml"
TARGET, TOLERANCE = 0.75, 0.1
"""The guide's, and the autoscaler's by default (kube-controller-manager --horizontal-pod-autoscaler-tolerance)."""
MEANS = PackMeans(supervisor_image="runtime", router_image="haproxy")


def whole(batch: int) -> Serving:
    return build.serving(SharingMode.EXCLUSIVE, 1, batch_size=batch)


def slices(batch: int) -> Serving:
    return build.serving(SharingMode.MPS, 4, batch_size=batch)


def packs(batch: int) -> Serving:
    return build.pack_serving(SharingMode.MPS, 4, batch_size=batch)


PARTITIONINGS = (whole, slices, packs)


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of replicas, and the requests that each of its engines has. None: they are not scraped."""

    serving: Serving
    requests: int | None = 0
    ready: bool = True
    of: str = "chat"
    going: bool = False

    @property
    def engines(self) -> int:
        return self.serving.engines_per_gpu if self.serving.pack_on is not None else 1

    def record(self, name: str) -> PodRecord:
        """As the watch reads the pod that the product's manifest makes."""
        made_for, fleet = build.deployment(self.of), build.replica_fleet(self.serving)
        if self.serving.pack_on is not None:
            served = fleet.served.model_copy(update={"pack": ServedPack(means=MEANS, pod="x")})
            fleet = build.replica_fleet(self.serving, pack=served.pack)
        template = replicas(made_for, build.spec_of(made_for), self.serving, fleet)["spec"]["template"]
        raw = build.raw_replica(name, of=self.of)
        raw["metadata"]["labels"] |= template["metadata"]["labels"]
        raw["spec"] = template["spec"] | {"nodeName": "gpu-1"}
        record = build.read_pod(raw, ready=self.ready)
        return replace(record, meta=replace(record.meta, deleting=self.going))


def series(pods: Sequence[Pod], *, advised: int | None = 32, operators: int = 1) -> list[dict[str, str]]:
    """What is scraped of them, as the chart's monitors label it."""
    caches = caches_for_planning(ProfileKeys(build.SETTINGS.defaults), build.SETTINGS)
    advice = {} if advised is None else {"advice": {"configuration": {"batchSize": advised}}}
    for name in {"chat", *(pod.of for pod in pods)}:
        caches.deployments.put(build.deployment(name, status=advice))
    found: dict[str, float] = {}
    for number, pod in enumerate(pods):
        record = pod.record(f"{pod.of}-{number}")
        caches.pods.put(record)
        for engine in range(pod.engines if pod.requests is not None else 0):
            labels = f'namespace="team",pod="{record.meta.key.name}",engine="{engine}"'
            found[f"vllm:num_requests_running{{{labels}}}"] = min(pod.requests or 0, pod.serving.batch_size)
            found[f"vllm:num_requests_waiting{{{labels}}}"] = max(0, (pod.requests or 0) - pod.serving.batch_size)
    metrics = Metrics()
    metrics.expose_gauges(caches, KeyedQueue(lambda: 0.0, lambda: 0.5), {})
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples if family.name.startswith("slm_operator_") else ():
            for operator in range(operators):
                labels = {"instance": f"operator-{operator}", "pod": f"slm-operator-{operator}"} | sample.labels
                inside = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
                found[f"{sample.name}{{{inside}}}"] = sample.value
    return [{"series": one, "values": f"{value}x4"} for one, value in found.items()]


def demand(tmp_path: Path, scraped: list[dict[str, str]]) -> dict[str, float]:
    """What the chart's rule records, by deployment."""
    (tmp_path / "rules.yaml").write_text(RULES_FILE.read_text())
    asked = {"expr": "slm_demand_replicas", "eval_time": "1m", "exp_samples": [{"labels": "never", "value": 0}]}
    test = {"interval": "30s", "input_series": scraped, "promql_expr_test": [asked]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [test]}))
    command = [str(program("promtool")), "test", "rules", "test.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).partition("got:")[2]
    samples = re.findall(r' name="([^"]+)", namespace="team"\} ([-+.0-9E]+)', said)
    read = {name: float(value) for name, value in samples}
    assert len(read) == said.count("{"), said
    return read


def wanted(demand_replicas: float, now: int) -> int:
    """What an autoscaler makes of a target of type AverageValue, for External and Object alike (replica_calculator.go)."""
    if abs(1 - demand_replicas / (TARGET * now)) <= TOLERANCE:
        return now
    return max(1, math.ceil(round(demand_replicas / TARGET, 9)))


def engines(partitioning: Callable[[int], Serving], count: int, requests: int, batch: int = 32) -> list[Pod]:
    """Pods with so many engines in all, each with so many requests."""
    one = Pod(partitioning(batch), requests)
    return [one] * (count // one.engines)


@pytest.mark.parametrize("partitioning", PARTITIONINGS)
def test_demand_is_in_engines_however_gpus_are_divided(tmp_path: Path, partitioning: Callable[[int], Serving]) -> None:
    at_target = demand(tmp_path, series(engines(partitioning, 4, requests=24)))["chat"]
    assert (at_target, wanted(at_target, 4)) == (3.0, 4)
    beyond = demand(tmp_path, series(engines(partitioning, 4, requests=36)))["chat"]
    assert (beyond, wanted(beyond, 4)) == (4.5, 6)


@pytest.mark.parametrize("partitioning", PARTITIONINGS)
def test_batches_as_full_as_before_keep_the_replicas(tmp_path: Path, partitioning: Callable[[int], Serving]) -> None:
    former, new = engines(partitioning, 4, 24, batch=32), engines(partitioning, 4, 72, batch=96)
    for done in range(len(new) + 1):
        pods = [*new[:done], *former[done:]]
        assert wanted(demand(tmp_path, series(pods, advised=96))["chat"], 4) == 4


def test_replicas_follow_the_batches_that_run_through_a_rollout(tmp_path: Path) -> None:
    """Seventy-two requests, evenly over three engines, of which more and more have a batch of 96 instead of 32."""
    seen = []
    for done in range(4):
        pods = [*[Pod(whole(96), 24)] * done, *[Pod(whole(32), 24)] * (3 - done)]
        seen.append(demand(tmp_path, series(pods, advised=96))["chat"])
    assert seen == [2.25, 1.75, 1.25, 0.75]
    assert [wanted(one, 3) for one in seen] == [3, 3, 2, 1]


def test_load_that_waits_asks_for_more(tmp_path: Path) -> None:
    assert wanted(demand(tmp_path, series([Pod(whole(32), 64)]))["chat"], 1) == 3


def test_nothing_that_runs_is_a_demand_of_zero(tmp_path: Path) -> None:
    starting = Pod(packs(32), requests=None, ready=False)
    assert demand(tmp_path, series([])) == {"chat": 0}
    assert demand(tmp_path, series([starting])) == {"chat": 0}


def test_an_autoscaler_gets_no_answer_where_none_is_known(tmp_path: Path) -> None:
    unscraped = series([Pod(whole(32), requests=None)])
    operator_is_away = [one for one in series([Pod(whole(32), 24)]) if one["series"].startswith("vllm:")]
    for scraped in (unscraped, operator_is_away, series([], advised=None)):
        assert demand(tmp_path, scraped) == {}


def test_two_operators_say_what_one_says(tmp_path: Path) -> None:
    assert demand(tmp_path, series([Pod(whole(32), 24)], operators=2)) == {"chat": 0.75}


def test_names_that_begin_alike_are_kept_apart(tmp_path: Path) -> None:
    pods = [Pod(whole(32), 16), Pod(whole(64), 16, of="chat-2")]
    assert demand(tmp_path, series(pods)) == {"chat": 0.5, "chat-2": 0.25}


def test_what_a_draining_replica_still_has_counts(tmp_path: Path) -> None:
    going = Pod(whole(32), 8, ready=False, going=True)
    assert demand(tmp_path, series([Pod(whole(32), 16), going])) == {"chat": 0.75}


def test_chart_brings_the_rule_as_it_was_judged() -> None:
    (rule,) = of_kind(rendered("metrics.demand.enabled=true", "metrics.demand.labels.release=kps"), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(RULES_FILE.read_text())
    assert rule["metadata"]["labels"]["release"] == "kps"
    assert not of_kind(rendered(), "PrometheusRule")
