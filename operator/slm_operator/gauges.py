"""What is there now, as gauges that are read from the caches and from the SLO monitor at each scrape.

Labels are names of deployments, of their conditions and of their replicas: so many series as there are objects, and none
for one that is gone. Must never keep a figure, nor say one that is not known: a series that is missing is an answer.
"""

from __future__ import annotations

from collections import Counter as Tally
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from slm_operator.api import names
from slm_operator.api.conditions import moment
from slm_operator.manifests.metadata import label_value
from slm_operator.partitioning.node_slices import NODE_SLICES
from slm_operator.watch.watch_list import GPU, OURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from slm_core.candidates import Rates

    from slm_operator.reconcile.queue import KeyedQueue
    from slm_operator.slo.window import Figures
    from slm_operator.watch.records import Key
    from slm_operator.watch.watch_list import Caches


class Gauges(Collector):
    """All of them."""

    def __init__(
        self, caches: Caches, queue: KeyedQueue, measured: Mapping[Key, Figures], leading: Callable[[], bool]
    ) -> None:
        self._caches = caches
        self._queue = queue
        self._measured = measured
        self._leading = leading
        self._build = GaugeMetricFamily("slm_operator_build_info", "1: the version that runs.", labels=["version"])
        self._build.add_metric([version("slm-operator")], 1)

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing is asked before the first scrape: the caches are empty then."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One scrape."""
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
        yield from self._load()
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
        joules = _by_deployment("predicted_joules_per_token", "Energy of a token, input or output, as measured.")
        cost = GaugeMetricFamily(
            "slm_operator_predicted_cost_per_million_tokens",
            "Cost of a million tokens, input and output, by the GPU's price in config.prices.",
            labels=["namespace", "name", "currency"],
        )
        for record in self._caches.deployments:
            advice = record.status.get("advice") or {}
            figures = advice.get("figures") or {}
            if (money := advice.get("costPerMillionTokens")) is not None:
                cost.add_metric([*record.meta.key, str(advice.get("currency") or "")], float(money))
            for family, value, unit in (
                (joules, advice.get("joulesPerToken"), 1),
                (throughput, figures.get("tokensPerSecondPerGpu"), 1),
                (itl, figures.get("itlMs"), 1000),
                (freed, advice.get("freedBytes"), 1),
            ):
                if value is not None:
                    family.add_metric(list(record.meta.key), float(value) / unit)
        yield from (throughput, itl, freed, joules, cost)

    def _live(self) -> Iterator[GaugeMetricFamily]:
        """Of one GPU: what was measured in the SLO monitor's last window, and what was expected under that load."""
        tokens, itl, ttft = "Input and output tokens per second", "Mean inter-token latency", "Mean time to first token"
        last, there = (
            "in the SLO monitor's last window.",
            "expected of what was measured, under the load of that window.",
        )
        in_flight = _by_deployment("in_flight_requests", f"Requests in flight on one GPU, averaged {last}")
        headroom = _by_deployment(
            "headroom_requests", "How many more requests fit on one GPU before the SLO breaks or one has to wait."
        )
        said: tuple[tuple[str, str, Callable[[Rates], float | None]], ...] = (
            ("throughput_tokens_per_second", tokens, lambda rates: rates.throughput_tokens_per_second),
            ("itl_seconds", itl, lambda rates: rates.itl_ms / 1000),
            ("ttft_seconds", ttft, lambda rates: None if rates.ttft_ms is None else rates.ttft_ms / 1000),
        )
        for name, what, read in said:
            measured = _by_deployment(f"measured_{name}", f"{what} on one GPU {last}")
            expected = _by_deployment(f"expected_{name}", f"{what} on one GPU {there}")
            for key, figures in sorted(self._measured.items()):
                for family, rates in ((measured, figures), (expected, figures.expected)):
                    if rates is not None and (value := read(rates)) is not None:
                        family.add_metric(list(key), value)
            yield from (measured, expected)
        for key, figures in sorted(self._measured.items()):
            in_flight.add_metric(list(key), figures.in_flight)
            if figures.headroom is not None:
                headroom.add_metric(list(key), figures.headroom)
        yield from (in_flight, headroom)

    def _load(self) -> Iterator[GaugeMetricFamily]:
        """What load is weighed with (charts/slm-operator/rules/demand.yaml).

        NB: of each replica its own batch, for while advice changes those of the former run beside those of the new.
        """
        advised = _by_deployment("advised_batch_size", "Most sequences that an engine runs at once, as advised.")
        batch = GaugeMetricFamily(
            "slm_operator_replica_batch_size",
            "Most sequences that each engine of a replica's pod runs at once.",
            labels=["namespace", "name", "pod"],
        )
        replicas = GaugeMetricFamily(
            "slm_operator_replicas",
            "Engines that are ready, or on their way: not ready, and nothing is said against it.",
            labels=["namespace", "name", "state"],
        )
        for record in self._caches.deployments:
            key = record.meta.key
            configuration = (record.status.get("advice") or {}).get("configuration") or {}
            if (size := configuration.get("batchSize")) is not None:
                advised.add_metric(list(key), size)
            found = self._caches.pods.by(OURS, (key.namespace, label_value(key.name)))
            pods = [pod for pod in found if pod.phase not in {"Succeeded", "Failed"}]
            for pod in pods:
                if pod.batch_size is not None:
                    batch.add_metric([*key, pod.meta.key.name], pod.batch_size)
            on_their_way = (pod for pod in pods if not (pod.ready or pod.stuck or pod.meta.deleting))
            for state, those in (("ready", (pod for pod in pods if pod.ready)), ("starting", on_their_way)):
                replicas.add_metric([*key, state], sum(pod.engines for pod in those))
        yield from (advised, batch, replicas)

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
