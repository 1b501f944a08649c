"""The operator's own metrics, for Prometheus: what it counts of itself, and the page that is scraped.

Labels are kinds, results and verbs. What is there now, of every deployment, is in `gauges`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from slm_operator.gauges import Gauges

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slm_operator.reconcile.queue import KeyedQueue
    from slm_operator.slo.window import Figures
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
        self.registry.register(Gauges(caches, queue, measured, leading))

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
