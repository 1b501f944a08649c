"""Five minutes of what an operator and an engine of a small world expose, by their own code, as a Prometheus keeps it.

Exists so that a renamed metric or label is missed by the dashboards that ask for it. The figures mean nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from light_engine.arguments import Settings
from light_engine.exposition import exposition
from light_engine.scheduler import Scheduler
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from slm_operator.advisor.expectation import Expectation, Reach
from slm_operator.api import names
from slm_operator.metrics import Metrics
from slm_operator.reconcile.indexes import ProfileKeys, caches_for_planning
from slm_operator.reconcile.queue import KeyedQueue
from slm_operator.slo.window import Figures

from tests import builders as build
from tests.testbed.prometheus import Series

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGAN, INTERVAL_S, SCRAPES = 1_767_225_600, 15, 20
OPERATOR = {"job": "slm-system/slm-operator", "namespace": "slm-system", "pod": "slm-operator-0"}
ENGINE = {"job": "monitoring/slm-operator-engines", "namespace": "team", "pod": "chat-0"}


def exposed() -> list[Series]:
    """Every series, with the labels that the chart's monitors give it."""
    samples: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for number, (of_operator, of_engine) in enumerate(_pages()):
        at = float(BEGAN + number * INTERVAL_S)
        for page, target in ((of_operator, OPERATOR), (of_engine, ENGINE)):
            for family in text_string_to_metric_families(page):
                for sample in family.samples:
                    labels = target | sample.labels | {"__name__": sample.name}  # as with honorLabels
                    samples.setdefault(tuple(labels.items()), []).append((at, float(sample.value)))
    return [Series(dict(labels), tuple(points)) for labels, points in samples.items()]


def _pages() -> Iterator[tuple[str, str]]:
    metrics, scheduler = _operator(), Scheduler(Settings(), max_num_seqs=4, max_num_batched_tokens=64, num_blocks=64)
    for _ in range(SCRAPES):
        metrics.passed("SLMDeployment", "ok", 0.02)
        metrics.requested("patch", "deployments")
        metrics.waited(0.01)
        for histogram in scheduler.histograms.values():
            histogram.observe(0.02, times=100)
        scheduler.counters.update(prompt_tokens=300, generation_tokens=100)
        yield generate_latest(metrics.registry).decode(), exposition(scheduler, "chat", {})


def _operator() -> Metrics:
    caches = caches_for_planning(ProfileKeys(build.SETTINGS.defaults), build.SETTINGS)
    advice = {"figures": {"tokensPerSecondPerGpu": 5000.0, "itlMs": 8.0}, "freedBytes": 1 << 30}
    record = build.deployment(status={"advice": advice})
    caches.deployments.put(record)
    caches.profiles.put(build.profile(record))
    caches.nodes.put(build.node(slice_class=build.MPS_4, labels={names.CLASS_LABEL: "mps-4"}))
    caches.pods.put(build.replica("a"))
    metrics = Metrics()
    there = {"throughput_tokens_per_second": 4900.0, "output_tokens_per_second": 2000.0, "itl_ms": 9.0, "ttft_ms": 90.0}
    expected = Expectation(**there, in_flight=12.0, reach=Reach.MEASURED)
    figures = Figures(**there, in_flight=12.0, expected=expected, headroom=20)
    metrics.expose_gauges(caches, KeyedQueue(lambda: 0.0, lambda: 0.5), {record.meta.key: figures})
    return metrics
