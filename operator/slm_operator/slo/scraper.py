"""Reads each replica's metrics at a low rate and tells the planner when the judgement of a deployment changed.

One reading an interval and replica, a few at once, straight from the pod: the API server has no part in it. Assumes
that pods can be reached from here; where they cannot, that becomes what status says. Must never write, and never hold
a pass up. Nor may the slow pods of one namespace hold up what is read in others: each has its own share of the requests,
and its own time.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_core.engines.registry import engine_of

from slm_operator.advisor.expectation import curve_of
from slm_operator.kube.engine_metrics import NoMetrics
from slm_operator.manifests.engine import PORT
from slm_operator.planning.deployment.advising import Unadvisable, slo_of
from slm_operator.planning.deployment.packs import engines_per_pod
from slm_operator.reconcile.queue import WorkKey
from slm_operator.slo.baseline import Baseline
from slm_operator.slo.judge import expect
from slm_operator.slo.monitor import MonitorState, follow
from slm_operator.slo.window import Scrape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    from slm_core.engines.base import Engine

    from slm_operator.kube.engine_metrics import PodPage
    from slm_operator.reconcile.gather import Gatherer
    from slm_operator.reconcile.queue import KeyedQueue
    from slm_operator.slo.monitor import Verdict
    from slm_operator.slo.window import Figures
    from slm_operator.watch.records import DeploymentRecord, Key, PodRecord

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Most replicas that are asked at the same moment, and most deployments looked at between two turns of the loop."""
OF_A_NAMESPACE = 4
"""Most of those that are of one namespace."""
OF_A_DEPLOYMENT = 64
"""Most replicas of one deployment that are asked in a scrape."""
DEPLOYMENT_SECONDS, NAMESPACE_SECONDS = 15.0, 60.0
"""After so long in a scrape no further replica is asked: who was not reached is first in the next one."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one deployment may take of a scrape: places among all requests and its namespace's, and time."""

    gate: asyncio.Semaphore
    share: asyncio.Semaphore
    until: float


@dataclass(slots=True, kw_only=True)
class SloMonitor:
    """Monitors the SLO of all deployments. `figures` are the last measured ones, for the operator's own metrics."""

    gatherer: Gatherer
    queue: KeyedQueue
    interval_seconds: float
    clock: Callable[[], float]
    fetch: Callable[[str, Engine, Iterable[str]], Awaitable[PodPage]]
    """A pod's page at a URL, with the histograms of these SLO metrics. Raises NoMetrics."""
    figures: dict[Key, Figures] = field(default_factory=dict)
    _states: dict[Key, tuple[Hashable, MonitorState]] = field(default_factory=dict, init=False)
    _looked: dict[Key, float] = field(default_factory=dict, init=False)
    """When each deployment was looked at last."""
    _asked: dict[Key, dict[str, int]] = field(default_factory=dict, init=False)
    """How often each replica was asked, by pod uid, of deployments with more than are asked in a scrape."""

    async def run(self) -> None:
        """Monitor until cancelled. An interval of 0 switches it off."""
        while self.interval_seconds:
            await asyncio.sleep(self.interval_seconds)
            await self.once()

    async def once(self) -> None:
        """One scrape over every deployment.

        NB: a few at a time from the start: a thousand judged in one turn of the loop kept every pass waiting.
        """
        records = sorted(self.gatherer.caches.deployments, key=lambda one: self._looked.get(one.meta.key, -math.inf))
        namespaces: dict[str, list[DeploymentRecord]] = {}
        for record in records:
            namespaces.setdefault(record.meta.key.namespace, []).append(record)
        left, gate = iter(namespaces.values()), asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as lookers:
            for _ in range(min(AT_ONCE, len(namespaces))):
                lookers.create_task(self._look_at_each(left, gate))
        known = self._states.keys() | self.figures.keys() | self._looked.keys()
        for gone in known - {record.meta.key for record in records}:
            self._forget(gone)

    async def _look_at_each(self, left: Iterator[Sequence[DeploymentRecord]], gate: asyncio.Semaphore) -> None:
        for records in left:
            share, until = asyncio.Semaphore(OF_A_NAMESPACE), self.clock() + NAMESPACE_SECONDS
            for record in records:
                if self.clock() >= until:
                    break
                self._looked[record.meta.key] = self.clock()
                try:
                    await self._look_at(record, _Turn(gate, share, min(until, self.clock() + DEPLOYMENT_SECONDS)))
                except Exception:  # a bug about one deployment must not stop the monitoring of the others
                    log.exception("SLO monitor failed", extra={"object": str(record.meta.key), "because": "a bug"})
                await asyncio.sleep(0)

    async def _look_at(self, record: DeploymentRecord, turn: _Turn) -> None:
        key = record.meta.key
        workload, found = self.gatherer.replicas(record)
        rolling = workload is None or workload.updated < workload.replicas
        pods = [pod for pod in found if pod.ready and pod.address and not pod.meta.deleting]
        state = self._state_of(record)
        if rolling or not pods or state is None or record.spec is None:
            return
        chosen, engine = self._chosen(key, state, pods), engine_of(record.spec.engine.command)
        pages = await self._scrape(engine, chosen, turn, state.baseline.percentiles)
        self._count(key, pods, pages)
        scrape = Scrape(
            at_seconds=self.clock(),
            engines={uid: page.counters for uid, page in pages.items()},
            histograms={uid: page.histograms for uid, page in pages.items()},
            packs={uid: page.engines for uid, page in pages.items() if page.engines},
            pods={pod.meta.uid: f"{pod.meta.key.name} on node {pod.node}" for pod in pods},
        )
        after = follow(state, scrape)
        self._states[key] = (self._states[key][0], after)
        if after.figures is not None:
            self.figures[key] = after.figures
        if after.verdict != self.gatherer.verdicts.get(key):
            self._report(key, after.verdict)

    def _count(self, key: Key, pods: Sequence[PodRecord], pages: Mapping[str, PodPage]) -> None:
        """How many engines of each pack serve, as its page tells; who is gone or was not asked is as before, or not known."""
        before = self.gatherer.serving.get(key, {})
        reported = {uid: page.serving for uid, page in pages.items() if page.serving is not None}
        known = before | reported
        now = {pod.meta.uid: known[pod.meta.uid] for pod in pods if pod.meta.uid in known}
        if now != before:
            self.gatherer.serving[key] = now
            self.queue.add(WorkKey("deployment", key))

    def _report(self, key: Key, verdict: Verdict | None) -> None:
        if verdict is not None:
            self.gatherer.verdicts[key] = verdict
            self.queue.add(WorkKey("deployment", key))

    def _state_of(self, record: DeploymentRecord) -> MonitorState | None:
        """The state for the present baseline; a change of spec or profile begins a new one."""
        profile = self.gatherer.profile_of(record)
        if record.spec is None:
            return None
        known = self._states.get(record.meta.key)
        if profile is None or profile.measurements is None:  # what was advised before is served, and judged, meanwhile
            return known[1] if known is not None else None
        per_pod = engines_per_pod(self.gatherer.replicas(record)[0])
        version = (record.meta.uid, record.meta.generation, profile.meta.uid, profile.measurements.measured_at, per_pod)
        if known is not None and known[0] == version:
            return known[1]
        advice = self.gatherer.advice(record)
        if advice is None or isinstance(advice, Unadvisable):
            return None
        expected = expect(profile.measurements, slo_of(record.spec.slo), advice)
        baseline = Baseline(
            expected=expected,
            predicted=advice.predicted,
            profile=profile.meta.key.name,
            pods_per_gpu=-(-advice.configuration.engines_per_gpu // per_pod),
            curve=curve_of(profile.measurements.points, advice.configuration, expected.limits),
            histograms=engine_of(record.spec.engine.command).histograms,
        )
        # Another replica count, say, is a new generation with the same baseline.
        state = known[1] if known is not None and known[1].baseline == baseline else MonitorState(baseline=baseline)
        self._states[record.meta.key] = (version, state)
        return state

    def _chosen(self, key: Key, state: MonitorState, pods: Sequence[PodRecord]) -> Sequence[PodRecord]:
        """Whom to ask. NB: a window needs the same replicas at both ends, so it is closed before others are asked."""
        if len(pods) <= OF_A_DEPLOYMENT:
            self._asked.pop(key, None)
            return pods
        before = self._asked.get(key, {})
        last = state.last
        closed = last is None or (state.windows and state.windows[-1].ends_at_seconds == last.at_seconds)
        held = last.engines.keys() if last is not None and not closed else frozenset()
        order = sorted(pods, key=lambda one: (one.meta.uid not in held, before.get(one.meta.uid, 0)))
        chosen = order[:OF_A_DEPLOYMENT]
        self._asked[key] = {one.meta.uid: before.get(one.meta.uid, 0) for one in pods}
        for one in chosen:
            self._asked[key][one.meta.uid] += 1
        return chosen

    async def _scrape(
        self, engine: Engine, pods: Sequence[PodRecord], turn: _Turn, histograms: Iterable[str]
    ) -> Mapping[str, PodPage]:
        async def read(pod: PodRecord) -> PodPage | None:
            async with turn.share, turn.gate:
                if self.clock() >= turn.until:
                    return None
                try:
                    return await self.fetch(f"http://{_host(pod)}:{PORT}{engine.paths.metrics}", engine, histograms)
                except NoMetrics as error:
                    log.debug("no metrics", extra={"object": str(pod.meta.key), "because": error.because})
                    return None

        pages = await asyncio.gather(*(read(pod) for pod in pods))
        return {pod.meta.uid: page for pod, page in zip(pods, pages, strict=True) if page is not None}

    def _forget(self, key: Key) -> None:
        self._states.pop(key, None)
        self.figures.pop(key, None)
        self._looked.pop(key, None)
        self._asked.pop(key, None)
        self.gatherer.verdicts.pop(key, None)
        self.gatherer.serving.pop(key, None)


def _host(pod: PodRecord) -> str:
    address = pod.address or ""
    return f"[{address}]" if ":" in address else address
