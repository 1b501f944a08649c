"""The operator's own metrics, for Prometheus.

Labels are kinds, results and verbs, and for figures of a deployment its name: cardinality is bounded by the objects
that exist, because those figures are read from the caches at each scrape.
"""

from __future__ import annotations

from collections import Counter as Tally
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector

from slm_operator.api import names
from slm_operator.api.conditions import moment
from slm_operator.partitioning.node_slices import NODE_SLICES
from slm_operator.watch.watch_list import GPU

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from slm_operator.reconcile.queue import KeyedQueue
    from slm_operator.slo.monitor import Figures
    from slm_operator.watch.records import Key
    from slm_operator.watch.watch_list import Caches

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class Metrics:
    """Counters and histograms, and how to serve them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._seconds = Histogram(
            "slm_operator_reconcile_duration_seconds",
            "Duration of one reconcile pass, including its API requests.",
            ["kind"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._passes = Counter(
            "slm_operator_reconcile", "Reconcile passes by kind and result.", ["kind", "result"], registry=self.registry
        )
        self._requests = Counter(
            "slm_operator_api_requests", "API server requests, excluding watches.", ["verb", "resource"],
            registry=self.registry,
        )  # fmt: skip
        self._latency = Histogram(
            "slm_operator_queue_latency_seconds",
            "Time that a key waited in the queue.",
            buckets=SECONDS,
            registry=self.registry,
        )

    def passed(self, kind: str, result: str, seconds: float) -> None:
        """One pass ended."""
        self._seconds.labels(kind).observe(seconds)
        self._passes.labels(kind, result).inc()

    def requested(self, verb: str, plural: str) -> None:
        """One request is being sent."""
        self._requests.labels(verb, plural).inc()

    def waited(self, seconds: float) -> None:
        """A key was taken from the queue."""
        self._latency.observe(seconds)

    def expose_gauges(
        self,
        caches: Caches,
        queue: KeyedQueue,
        measured: Mapping[Key, Figures],
        leading: Callable[[], bool] = lambda: True,
    ) -> None:
        """Register gauges that are read from the caches and from the SLO monitor at each scrape.

        `leading`: whether this process may write now, of several that watch.
        """
        self.registry.register(_Gauges(caches, queue, measured, leading))

    async def serve(self, host: str, port: int) -> web.AppRunner:
        """Serve /metrics in this event loop: a scrape then never sees a cache half changed."""

        async def scrape(_: web.Request) -> web.Response:
            return web.Response(
                body=generate_latest(self.registry), headers={"Content-Type": "text/plain; version=0.0.4"}
            )

        app = web.Application()
        app.add_routes([web.get("/metrics", scrape)])
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1.0, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        return runner


class _Gauges:
    """Figures of what is there now."""

    def __init__(
        self, caches: Caches, queue: KeyedQueue, measured: Mapping[Key, Figures], leading: Callable[[], bool]
    ) -> None:
        self._caches = caches
        self._queue = queue
        self._measured = measured
        self._leading = leading
        self._build = GaugeMetricFamily("slm_operator_build_info", "1: the version that runs.", labels=["version"])
        self._build.add_metric([version("slm-operator")], 1)

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("slm_operator_queue_depth", "Keys in the queue.", value=len(self._queue))
        yield GaugeMetricFamily(
            "slm_operator_leader", "1 while this process acts; 0 on standby.", value=int(self._leading())
        )
        yield self._build
        yield from self._conditions()
        yield self._profiles()
        yield self._gpu_seconds()
        yield from self._advised()
        yield from self._live()
        yield self._slices()

    def _conditions(self) -> Iterator[GaugeMetricFamily]:
        """NB: of the caches, so a standby shows them too: a rule takes the largest of what several processes say."""
        of = ["kind", "namespace", "name", "type"]
        held = GaugeMetricFamily(
            "slm_operator_condition",
            "1: the status that a condition has now, and why.",
            labels=[*of, "status", "reason"],
        )
        since = GaugeMetricFamily(
            "slm_operator_condition_since_timestamp_seconds", "When a condition took its present status.", labels=of
        )
        for kind, records in (("SLMDeployment", self._caches.deployments), ("SLMProfile", self._caches.profiles)):
            for record in records:
                for one in record.status.get("conditions") or ():
                    labels = [kind, *record.meta.key, str(one.get("type"))]
                    held.add_metric([*labels, str(one.get("status")), str(one.get("reason"))], 1)
                    if (began := moment(one.get("lastTransitionTime"))) is not None:
                        since.add_metric(labels, began.timestamp())
        yield from (held, since)

    def _profiles(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("slm_operator_profiles", "SLMProfiles by phase.", labels=["phase"])
        phases = Tally(str(record.status.get("phase") or "Pending") for record in self._caches.profiles)
        for phase, count in sorted(phases.items()):
            family.add_metric([phase], count)
        return family

    def _gpu_seconds(self) -> GaugeMetricFamily:
        spent = sum(float(record.status.get("gpuSeconds") or 0) for record in self._caches.profiles)
        return GaugeMetricFamily(
            "slm_operator_profile_gpu_seconds",
            "GPU seconds spent on measuring the profiles in the cluster.",
            value=spent,
        )

    def _advised(self) -> Iterator[GaugeMetricFamily]:
        throughput = _by_deployment(
            "predicted_throughput_tokens_per_second", "Predicted input and output tokens per second on one GPU."
        )
        itl = _by_deployment("predicted_itl_seconds", "Predicted mean inter-token latency.")
        freed = _by_deployment("freed_memory_bytes", "GPU memory that the advice leaves free on each GPU, for others.")
        for record in self._caches.deployments:
            advice = record.status.get("advice") or {}
            figures = advice.get("figures") or {}
            for family, value, unit in (
                (throughput, figures.get("tokensPerSecondPerGpu"), 1),
                (itl, figures.get("itlMs"), 1000),
                (freed, advice.get("freedBytes"), 1),
            ):
                if value is not None:
                    family.add_metric(list(record.meta.key), float(value) / unit)
        yield from (throughput, itl, freed)

    def _live(self) -> Iterator[GaugeMetricFamily]:
        throughput = _by_deployment(
            "measured_throughput_tokens_per_second",
            "Input and output tokens per second on one GPU, as the SLO monitor last measured it.",
        )
        itl = _by_deployment("measured_itl_seconds", "Mean inter-token latency, as the SLO monitor last measured it.")
        for key, figures in sorted(self._measured.items()):
            throughput.add_metric(list(key), figures.throughput_tokens_per_second)
            itl.add_metric(list(key), figures.itl_ms / 1000)
        yield from (throughput, itl)

    def _slices(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "slm_operator_slices", "Slices of our nodes by class and state.", labels=["class", "state"]
        )
        held: Tally[str] = Tally()
        for pod in self._caches.pods.by(GPU, True):
            held[pod.node or ""] += pod.gpu_requests.get(NODE_SLICES.resource, 0) if pod.holds_gpu else 0
        slices: Tally[tuple[str, str]] = Tally()
        for node in self._caches.nodes:
            slice_class = node.meta.labels.get(names.CLASS_LABEL)
            if slice_class is not None:
                used = held[node.meta.key.name]
                slices[slice_class, "used"] += used
                slices[slice_class, "free"] += max(0, node.allocatable.get(NODE_SLICES.resource, 0) - used)
        for labels, count in sorted(slices.items()):
            family.add_metric(list(labels), count)
        return family


def _by_deployment(name: str, documentation: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"slm_operator_{name}", documentation, labels=["namespace", "name"])
