"""The operator's own metrics, for Prometheus: what it counts of itself, and the page that is scraped.

Labels are kinds, results and verbs. What is there now, of every deployment, is in `gauges`.
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from slm_operator.gauges import Gauges

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from slm_operator.reconcile.queue import KeyedQueue
    from slm_operator.slo.window import Figures
    from slm_operator.watch.records import Key
    from slm_operator.watch.watch_list import Caches


@dataclass(slots=True)
class Certificate:
    """Of /metrics: tls.crt and tls.key in a folder, as a Secret of type kubernetes.io/tls is mounted. Raises OSError at first."""

    folder: Path
    context: ssl.SSLContext = field(init=False)
    _written: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load()

    def renew(self) -> None:
        """Take a certificate that was renewed; one that cannot be read leaves the former."""
        with contextlib.suppress(OSError):  # ssl.SSLError is one
            self._load()

    def _load(self) -> None:
        written = (self.folder / "tls.crt").stat().st_mtime
        if written != self._written:
            self.context.load_cert_chain(self.folder / "tls.crt", self.folder / "tls.key")
            self._written = written


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Who may scrape, and by which certificate they know whom they ask."""

    certificate: Certificate
    status_for: Callable[[str, str], Awaitable[int]]
    """The HTTP status for a header Authorization, and the address from which it comes."""


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

    async def serve(self, host: str, port: int, guard: Guard | None = None) -> web.AppRunner:
        """Serve /metrics in this event loop: a scrape then never sees a cache half changed. `guard`: by TLS, to whom it lets in."""

        async def scrape(request: web.Request) -> web.Response:
            if guard is not None:
                guard.certificate.renew()
                status = await guard.status_for(request.headers.get("Authorization", ""), request.remote or "")
                if status != web.HTTPOk.status_code:
                    return web.Response(status=status, headers={"WWW-Authenticate": "Bearer"})
            return web.Response(
                body=generate_latest(self.registry), headers={"Content-Type": "text/plain; version=0.0.4"}
            )

        app = web.Application()
        app.add_routes([web.get("/metrics", scrape)])
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1.0, access_log=None)
        await runner.setup()
        context = guard.certificate.context if guard is not None else None
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        return runner
