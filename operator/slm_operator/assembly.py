r"""All parts of the operator joined, and its life: start, act while leading, stop.

    connect --> Kopf lists and watches --> caches synced --+
           \--> Lease acquired ----------------------------+--> reconcile --> stop: release the Lease

Composition only: whoever wants to know how the parts fit reads this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.api.crd import KINDS
from slm_operator.kube.client import Client
from slm_operator.kube.engine_metrics import pod_page
from slm_operator.kube.errors import NotFound
from slm_operator.kube.events import EventRecorder
from slm_operator.kube.lease import Election
from slm_operator.kube.rate import TokenBucket
from slm_operator.kube.resources import Resource, ResourceTable
from slm_operator.kube.scrapers import Scrapers
from slm_operator.metrics import Certificate, Guard
from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.planning.profile.plan import plan_profile
from slm_operator.reconcile.execute import Executor
from slm_operator.reconcile.gather import Gatherer
from slm_operator.reconcile.indexes import ProfileKeys, caches_for_planning
from slm_operator.reconcile.loop import Planners, Reconciler
from slm_operator.reconcile.pending_writes import Ledger
from slm_operator.reconcile.profile_logs import ProfileLogs
from slm_operator.reconcile.queue import KeyedQueue
from slm_operator.slo.scraper import SloMonitor
from slm_operator.watch.watch_list import watched_kinds
from slm_operator.watch.world import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slm_operator.kube.connection import Connection
    from slm_operator.metrics import Metrics
    from slm_operator.settings import Settings
    from slm_operator.watch.cache import Cache
    from slm_operator.watch.watch_list import Caches

log = logging.getLogger(__name__)

LEASE_NAME = "slm-operator"
STUCK_SECONDS = 300.0
"""A pass that takes longer will not end: the process must be restarted."""

WATCHED_SECONDS = 60.0
"""After the first list: by then each list has begun, however long it is."""


class UnwatchedError(Exception):
    """Kinds that are to be watched and are not."""


PLANNERS = Planners(plan_deployment=plan_deployment, plan_profile=plan_profile, plan_fleet=plan_fleet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What an operator takes from the machine that it runs on, and a simulation gives it instead."""

    clock: Callable[[], float] = time.monotonic
    """Seconds that only ever grow."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    """What time it is, as far as this machine knows."""
    random: Callable[[], float] = random.random
    """Between 0 and 1."""


MACHINE = Outside()


def own_resources() -> ResourceTable:
    """The client's table of kinds, ours included."""
    return ResourceTable(Resource(names.API_VERSION, kind.kind, kind.plural) for kind in KINDS)


@dataclass(slots=True, kw_only=True)
class Operator:
    """One operator process. `failure` says why it had to end; None: it was asked to."""

    connection: Connection
    world: World
    reconciler: Reconciler
    watch: SloMonitor
    election: Election | None
    stop_flag: asyncio.Event = field(default_factory=asyncio.Event)
    failure: BaseException | None = None
    _tasks: tuple[asyncio.Task[None], ...] = ()

    async def check_served(self) -> None:
        """Raises NotFound when the CRDs are not installed: Kopf would wait for them in silence."""
        served = await self.reconciler.executor.client.served(names.API_VERSION)
        missing = {kind.plural for kind in KINDS} - served
        if missing:
            raise NotFound(
                f"{names.API_VERSION} does not serve {', '.join(sorted(missing))}: install the CRDs "
                "(`kubectl apply --server-side -f crds/`; the chart brings them) and start again"
            )

    async def start(self) -> None:
        """Begin to act, once this process leads."""
        acting = asyncio.create_task(self._act(), name="reconcile")
        acting.add_done_callback(self.ended)
        self._tasks = (acting, asyncio.create_task(self._look_at_all(), name="all are watched"))

    async def stop(self) -> None:
        """Stop acting and give the Lease up."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        if self.election is not None:
            await self.election.release()
        self.stop_flag.set()  # NB: Kopf waits 5 s for its own waiter on this flag unless it is set

    def stuck_because(self) -> str | None:
        """Why this process will not recover by itself; None: it is well."""
        now = self.reconciler.clock()
        for work, since in self.reconciler.busy_since.items():
            if now - since > STUCK_SECONDS:
                return f"the pass of {work} has not ended for {now - since:.0f} s"
        return None

    async def _act(self) -> None:
        if self.election is not None:
            await self.election.acquire()
        async with asyncio.TaskGroup() as tasks:
            if self.election is not None:
                tasks.create_task(self.election.hold(), name="lease")
            tasks.create_task(self.reconciler.run(self.world.synced), name="reconciler")
            tasks.create_task(self.watch.run(), name="watch")

    async def _look_at_all(self) -> None:
        """End this process where some kinds are not looked at.

        NB: Kopf asks once, at its start, which kinds there are. An API server that has only just started names some of
        them, and Kopf watches those alone, in silence, for as long as the process lives.
        """
        await self.world.begun.wait()
        await asyncio.sleep(WATCHED_SECONDS)
        if kinds := self.world.unwatched:
            self.failure = self.failure or UnwatchedError(
                f"nothing has listed {', '.join(kinds)} for {WATCHED_SECONDS:.0f} s, although the API server answers: it may have "
                "been starting, or refuses them. The next process looks anew; if it ends too, compare the chart's roles"
            )
            self.stop_flag.set()

    def ended(self, task: asyncio.Task[Any]) -> None:
        """Acting or watching ended, although nobody asked for it."""
        if not task.cancelled():
            self.failure = self.failure or task.exception()
            self.stop_flag.set()


def assemble(  # noqa: PLR0913 - what there is one of in a process
    connection: Connection,
    settings: Settings,
    metrics: Metrics,
    *,
    namespace: str,
    leader_election: bool,
    outside: Outside = MACHINE,
) -> Operator:
    """Join the parts. `namespace` is where the Lease lies."""
    identity = os.environ.get("POD_NAME") or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    keys = ProfileKeys(settings.defaults)
    caches = caches_for_planning(keys, settings)
    ledger = Ledger(_shown_in(caches), outside.clock)
    queue = KeyedQueue(outside.clock, outside.random, metrics.waited)
    lease = (namespace, identity) if leader_election else None
    client, election = _clients(connection, settings, metrics, lease, outside)
    recorder = EventRecorder(
        client=client, controller=names.FIELD_MANAGER, instance=identity, clock=outside.clock, now=outside.now
    )
    gatherer = Gatherer(
        caches=caches,
        keys=keys,
        settings=settings,
        advice_of=partial(advice_of, prices=settings.prices),
        demand_of=demand_of,
    )
    watch = SloMonitor(
        gatherer=gatherer,
        queue=queue,
        interval_seconds=settings.watch.interval_seconds,
        clock=outside.clock,
        fetch=pod_page,
    )
    metrics.expose_gauges(caches, queue, watch.figures, lambda: election is None or election.leading)
    reconciler = Reconciler(
        gatherer=gatherer,
        executor=Executor(client=client, recorder=recorder, caches=caches, ledger=ledger),
        logs=ProfileLogs(client),
        ledger=ledger,
        queue=queue,
        planners=PLANNERS,
        settings=settings,
        clock=outside.clock,
        now=outside.now,
        measured=metrics,
    )
    world = World(watched_kinds(caches, settings), reconciler.changed, settings.namespaces)
    return Operator(connection=connection, world=world, reconciler=reconciler, watch=watch, election=election)


def guarded(connection: Connection, metrics: Metrics, folder: Path | None) -> Guard | None:
    """Who may scrape; None: everybody. Raises OSError for a certificate that cannot be read."""
    if folder is None:
        return None
    client = Client(connection, own_resources(), names.FIELD_MANAGER, count=metrics.requested)
    scrapers = Scrapers(client=client, clock=MACHINE.clock)
    return Guard(certificate=Certificate(folder), status_for=scrapers.status_for)


def _clients(
    connection: Connection, settings: Settings, metrics: Metrics, lease: tuple[str, str] | None, outside: Outside
) -> tuple[Client, Election | None]:
    """The client for work, which asks the election before each write, and the election with a client of its own."""
    election = None
    if lease is not None:
        election = Election(
            # NB: renewals bypass the rate limit: a queue of writes must never cost the Lease.
            client=Client(connection, own_resources(), names.FIELD_MANAGER, count=metrics.requested),
            namespace=lease[0],
            name=LEASE_NAME,
            identity=lease[1],
            clock=outside.clock,
            now=outside.now,
        )
    client = Client(
        connection,
        own_resources(),
        names.FIELD_MANAGER,
        limit=TokenBucket(settings.api.requests_per_second, settings.api.burst, outside.clock),
        may_write=lambda: election is None or election.leading,
        count=metrics.requested,
    )
    return client, election


def _shown_in(caches: Caches) -> dict[str, Cache[Any]]:
    """In which cache an own write to an object of each kind shows."""
    return {
        names.DEPLOYMENT_KIND: caches.deployments,
        names.PROFILE_KIND: caches.profiles,
        "Node": caches.nodes,
        "Pod": caches.pods,
        "ConfigMap": caches.config_maps,
        "Deployment": caches.workloads,
        "Job": caches.jobs,
        "Service": caches.owned["Service"],
        "PodDisruptionBudget": caches.owned["PodDisruptionBudget"],
    }
