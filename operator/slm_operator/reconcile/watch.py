"""Reads each replica's metrics at a low rate and tells the planner when the judgement of a deployment changed.

One reading an interval and replica, a few at once, straight from the pod: the API server has no part in it. Assumes
that pods can be reached from here; where they cannot, that becomes what status says. Must never write, and never hold
a pass up.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_operator.advisor.drift import expect
from slm_operator.kube.engine_metrics import NoMetrics
from slm_operator.manifests.engine import PORT
from slm_operator.planning.advising import Unadvisable, advise_deployment, slo_of
from slm_operator.planning.slo_watch import Course, Figures, Promise, Sweep, follow
from slm_operator.reconcile.queue import WorkKey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence

    from slm_runtime.metrics import Counters

    from slm_operator.observe.records import DeploymentRecord, Key, PodRecord
    from slm_operator.planning.slo_watch import Watched
    from slm_operator.reconcile.gather import Gatherer
    from slm_operator.reconcile.queue import KeyedQueue

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Most replicas that are asked at the same moment, and most deployments looked at between two turns of the loop."""


@dataclass(slots=True, kw_only=True)
class Watch:
    """The watch over all deployments. `figures` are the last measured ones, for the operator's own metrics."""

    gatherer: Gatherer
    queue: KeyedQueue
    interval_seconds: float
    clock: Callable[[], float]
    fetch: Callable[[str], Awaitable[Counters]]
    """The counters on the page at a URL. Raises NoMetrics."""
    figures: dict[Key, Figures] = field(default_factory=dict)
    _courses: dict[Key, tuple[Hashable, Course]] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Watch until cancelled. With an interval of 0 nothing is watched."""
        while self.interval_seconds:
            await asyncio.sleep(self.interval_seconds)
            await self.once()

    async def once(self) -> None:
        """One sweep over every deployment.

        NB: a few at a time from the start: a thousand judged in one turn of the loop kept every pass waiting.
        """
        records = tuple(self.gatherer.caches.deployments)
        left, gate = iter(records), asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as lookers:
            for _ in range(min(AT_ONCE, len(records))):
                lookers.create_task(self._look_at_each(left, gate))
        for gone in (self._courses.keys() | self.figures.keys()) - {record.meta.key for record in records}:
            self._forget(gone)

    async def _look_at_each(self, left: Iterator[DeploymentRecord], gate: asyncio.Semaphore) -> None:
        for record in left:
            try:
                await self._look_at(record, gate)
            except Exception:  # a bug about one deployment must not blind the watch of the others
                log.exception("watch failed", extra={"object": str(record.meta.key), "because": "a bug"})
            await asyncio.sleep(0)

    async def _look_at(self, record: DeploymentRecord, gate: asyncio.Semaphore) -> None:
        key = record.meta.key
        view = self.gatherer.deployment(WorkKey("deployment", key))
        rolling = view is None or view.workload is None or view.workload.updated < view.workload.replicas
        pods = [pod for pod in view.pods if pod.ready and pod.address and not pod.meta.deleting] if view else []
        course = self._course(record)
        if rolling or not pods or course is None:
            return
        after = follow(course, Sweep(at_seconds=self.clock(), engines=await self._sweep(pods, gate)))
        self._courses[key] = (self._courses[key][0], after)
        if after.figures is not None:
            self.figures[key] = after.figures
        if after.watched != self.gatherer.watched.get(key):
            self._tell(key, after.watched)

    def _tell(self, key: Key, watched: Watched | None) -> None:
        if watched is not None:
            self.gatherer.watched[key] = watched
            self.queue.add(WorkKey("deployment", key))

    def _course(self, record: DeploymentRecord) -> Course | None:
        """The course of this very promise; a change of spec or profile begins a new one."""
        profile = self.gatherer.profile_of(record)
        if record.spec is None or profile is None or profile.measurements is None:
            return None
        version = (record.meta.uid, record.meta.generation, profile.meta.uid, profile.measurements.measured_at)
        known = self._courses.get(record.meta.key)
        if known is not None and known[0] == version:
            return known[1]
        advice = advise_deployment(record.spec, profile.measurements)
        if isinstance(advice, Unadvisable):
            return None
        promise = Promise(
            expected=expect(profile.measurements, slo_of(record.spec.slo), advice),
            predicted=advice.predicted,
            profile=profile.meta.key.name,
            replicas_per_gpu=advice.replicas_per_gpu,
        )
        # Another replica count, say, is a new generation of the same promise.
        course = known[1] if known is not None and known[1].promise == promise else Course(promise=promise)
        self._courses[record.meta.key] = (version, course)
        return course

    async def _sweep(self, pods: Sequence[PodRecord], gate: asyncio.Semaphore) -> Mapping[str, Counters]:
        async def read(pod: PodRecord) -> Counters | None:
            async with gate:
                try:
                    return await self.fetch(f"http://{_host(pod)}:{PORT}/metrics")
                except NoMetrics as error:
                    log.debug("no metrics", extra={"object": str(pod.meta.key), "because": error.because})
                    return None

        pages = await asyncio.gather(*(read(pod) for pod in pods))
        return {pod.meta.uid: page for pod, page in zip(pods, pages, strict=True) if page is not None}

    def _forget(self, key: Key) -> None:
        self._courses.pop(key, None)
        self.figures.pop(key, None)
        self.gatherer.watched.pop(key, None)


def _host(pod: PodRecord) -> str:
    address = pod.address or ""
    return f"[{address}]" if ":" in address else address
