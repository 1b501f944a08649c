"""Demand as the chart's rule records it, of replicas as they are from moment to moment, and what an autoscaler makes of it.

    answered = demand(tmp_path, [scraped([Pod(whole(32), 24)]), scraped([Pod(whole(96), 24)])])
    answered[0]["chat"] == 0.75

What the operator shows comes from the product's own `Metrics`, replicas' batches from the pods of the product's own
manifests, and promtool evaluates the rule. It must never know the rule itself.
"""

from __future__ import annotations

import math
import re
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from tests.testbed.prometheus import program

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slm_operator.manifests.engine import Serving
    from slm_operator.watch.records import PodRecord

RULES_FILE = Path(__file__).parents[2] / "charts/slm-operator/rules/demand.yaml"
TARGET, TOLERANCE = 0.75, 0.1
"""The guide's, and the autoscaler's by default (kube-controller-manager --horizontal-pod-autoscaler-tolerance)."""
STEP_S = 15
"""Between two moments: the rule's interval, and the guide's of scrapes."""
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
    requests: float | None = 0
    ready: bool = True
    of: str = "chat"
    going: bool = False
    number: int | None = None
    """Its own through several moments. None: its place among those of its moment."""

    @property
    def engines(self) -> int:
        return self.serving.engines_per_gpu if self.serving.pack_on is not None else 1

    def record(self, name: str) -> PodRecord:
        """As the watch reads the pod that the product's manifest makes."""
        record = _record(self.serving, name, self.of, self.ready)
        return replace(record, meta=replace(record.meta, deleting=self.going))


@cache
def _record(serving: Serving, name: str, of: str, ready: bool) -> PodRecord:  # noqa: FBT001
    made_for, fleet = build.deployment(of), build.replica_fleet(serving)
    if serving.pack_on is not None:
        served = fleet.served.model_copy(update={"pack": ServedPack(means=MEANS, pod="x")})
        fleet = build.replica_fleet(serving, pack=served.pack)
    template = replicas(made_for, build.spec_of(made_for), serving, fleet)["spec"]["template"]
    raw = build.raw_replica(name, of=of)
    raw["metadata"]["labels"] |= template["metadata"]["labels"]
    raw["spec"] = template["spec"] | {"nodeName": "gpu-1"}
    return build.read_pod(raw, ready=ready)


Scraped = dict[str, float]
"""What Prometheus has of one moment, by series."""


def scraped(pods: Sequence[Pod], *, advised: int | None = 32, operators: int = 1) -> Scraped:
    """As the chart's monitors label it."""
    return of_engines(pods) | of_operators(pods, advised=advised, operators=operators)


def of_engines(pods: Sequence[Pod]) -> Scraped:
    found: Scraped = {}
    for name, pod in _named(pods):
        for engine in range(pod.engines if pod.requests is not None else 0):
            labels = f'namespace="team",pod="{name}",engine="{engine}"'
            found[f"vllm:num_requests_running{{{labels}}}"] = min(pod.requests or 0, pod.serving.batch_size)
            found[f"vllm:num_requests_waiting{{{labels}}}"] = max(0, (pod.requests or 0) - pod.serving.batch_size)
    return found


def of_operators(pods: Sequence[Pod], *, advised: int | None = 32, operators: int = 1) -> Scraped:
    caches = caches_for_planning(ProfileKeys(build.SETTINGS.defaults), build.SETTINGS)
    advice = {} if advised is None else {"advice": {"configuration": {"batchSize": advised}}}
    for name in {"chat", *(pod.of for pod in pods)}:
        caches.deployments.put(build.deployment(name, status=advice))
    for name, pod in _named(pods):
        caches.pods.put(pod.record(name))
    metrics = Metrics()
    metrics.expose_gauges(caches, KeyedQueue(lambda: 0.0, lambda: 0.5), {})
    found: Scraped = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples if family.name.startswith("slm_operator_") else ():
            for operator in range(operators):
                labels = {"instance": f"operator-{operator}", "pod": f"slm-operator-{operator}"} | sample.labels
                inside = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
                found[f"{sample.name}{{{inside}}}"] = sample.value
    return found


def _named(pods: Sequence[Pod]) -> Iterable[tuple[str, Pod]]:
    return ((f"{pod.of}-{at if pod.number is None else pod.number}", pod) for at, pod in enumerate(pods))


def demand(tmp_path: Path, moments: Sequence[Scraped], *, gone: str = "stale") -> list[dict[str, float]]:
    """What the chart's rule records at each moment, by deployment.

    `gone`: what Prometheus has of an engine that is no longer there: a mark of its end, or (`_`) nothing, so that its last
    value stands for five minutes. What a page of the operator's has no longer is marked always: the page was read.
    """
    (tmp_path / "rules.yaml").write_text(RULES_FILE.read_text())
    never = [{"labels": "never", "value": 0}]
    asked = [
        {"expr": "slm_demand_replicas", "eval_time": f"{STEP_S * at}s", "exp_samples": never}
        for at in range(len(moments))
    ]
    test = {"interval": f"{STEP_S}s", "input_series": _series(moments, gone), "promql_expr_test": asked}
    file = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{STEP_S}s", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(file))
    command = [str(program("promtool")), "test", "rules", "test.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    _, *answers = (done.stdout + done.stderr).split("got:")
    assert len(answers) == len(moments), done.stdout + done.stderr
    return [_read(said) for said in answers]


def _series(moments: Sequence[Scraped], gone: str) -> list[dict[str, Any]]:
    rows: dict[str, list[str]] = {}
    for at, moment in enumerate(moments):
        for name, value in moment.items():
            rows.setdefault(name, ["_"] * at).append(str(value))
        for name in rows.keys() - moment.keys():
            rows[name].append(gone if name.startswith("vllm:") else "stale")
    return [{"series": name, "values": " ".join(values)} for name, values in rows.items()]


def _read(said: str) -> dict[str, float]:
    samples = re.findall(r' name="([^"]+)", namespace="team"\} ([-+.0-9E]+)', said)
    read = {name: float(value) for name, value in samples}
    assert len(read) == said.partition("expr:")[0].count("{"), said
    return read


def wanted(demand_replicas: float, now: int) -> int:
    """What an autoscaler makes of a target of type AverageValue, for External and Object alike (replica_calculator.go).

    `now`: status.replicas.
    """
    if now and abs(1 - demand_replicas / (TARGET * now)) <= TOLERANCE:
        return now
    return max(1, math.ceil(round(demand_replicas / TARGET, 9)))
