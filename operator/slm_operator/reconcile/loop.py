"""The reconcile loop: take a key, gather its view, have it planned, execute, and say when to look again.

Waits for complete caches and for the Lease before the first pass. A pass that fails comes again with growing backoff;
a pass whose own writes are not visible yet is held until they are. Must never plan by itself.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, assert_never

from slm_operator.api import names
from slm_operator.kube.client import NotLeading
from slm_operator.kube.errors import ApiError, Conflict
from slm_operator.planning.actions import Plan
from slm_operator.planning.status.internal_error import status_of_internal_error
from slm_operator.reconcile.event_mapping import affected_keys
from slm_operator.reconcile.queue import BACKOFF_SECONDS, FLEET, LONGEST_BACKOFF_SECONDS, WorkKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from slm_operator.planning.views import Assignment, DeploymentView, FleetPlan, FleetView, ProfileView
    from slm_operator.reconcile.execute import Executor
    from slm_operator.reconcile.gather import Gatherer
    from slm_operator.reconcile.pending_writes import Ledger
    from slm_operator.reconcile.profile_logs import ProfileLogs
    from slm_operator.reconcile.queue import KeyedQueue
    from slm_operator.settings import Settings
    from slm_operator.watch.cache import Change
    from slm_operator.watch.records import DeploymentRecord, Key

log = logging.getLogger(__name__)

WORKERS = 8
SAME_REFUSAL_SECONDS = 600.0
"""A refusal that returns within this time is the same one: longer than the longest pause between two."""
FLEET_SHARE = 0.2
"""Most of the time that planning the fleet may take while changes keep coming."""
FLEET_LEAST_SECONDS, FLEET_MOST_SECONDS = 0.02, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Planners:
    """The pure functions that decide."""

    plan_deployment: Callable[[DeploymentView, Settings, datetime], Plan]
    """What to do for one SLMDeployment."""
    plan_profile: Callable[[ProfileView, Settings, datetime], Plan]
    """What to do for one SLMProfile."""
    plan_fleet: Callable[[FleetView, Settings, datetime], FleetPlan]
    """What to do with the nodes, and what each deployment gets."""


class Measured(Protocol):
    """Where a pass is counted."""

    def passed(self, kind: str, result: str, seconds: float) -> None:
        """One pass ended."""


@dataclass(slots=True, kw_only=True)
class Reconciler:
    """The loop. `leading` says whether this process may act."""

    gatherer: Gatherer
    executor: Executor
    logs: ProfileLogs
    ledger: Ledger
    queue: KeyedQueue
    planners: Planners
    settings: Settings
    clock: Callable[[], float]
    now: Callable[[], datetime]
    measured: Measured
    _fleet_gap_seconds: float = field(default=FLEET_LEAST_SECONDS, init=False)
    _started: bool = field(default=False, init=False)
    _refusals: dict[WorkKey, tuple[int, float]] = field(default_factory=dict, init=False)
    """How often each key was refused anew, and when last."""
    busy_since: dict[WorkKey, float] = field(default_factory=dict, init=False)
    """Passes under way and when they began: the liveness probe looks at it."""

    def changed(self, change: Change[Any]) -> None:
        """Take news from the caches."""
        free, echoes = self.ledger.confirmed_by(change)
        for work in sorted(free):
            self.queue.add(work)
        if not self._started or not change.news:
            return
        for work in affected_keys(change, self.gatherer.caches, self.gatherer.keys, self.gatherer.settings):
            if work not in echoes:
                self._add(work)
        if change.kind == names.DEPLOYMENT_KIND and change.new is None and change.old is not None:
            self.gatherer.forget(change.key, change.old.meta.uid)

    async def run(self, synced: asyncio.Event) -> None:
        """Once the caches are complete work until cancelled, or until writing is not ours any more (NotLeading)."""
        await synced.wait()
        self._started = True
        self._add_everything()
        async with asyncio.TaskGroup() as workers:
            workers.create_task(self.executor.recorder.run(), name="events")
            for number in range(WORKERS):
                workers.create_task(self._work(), name=f"worker {number}")

    def _add_everything(self) -> None:
        caches = self.gatherer.caches
        log.info(
            "synced",
            extra={"because": f"{len(caches.deployments)} deployments, {len(caches.profiles)} profiles, "
                              f"{len(caches.nodes)} nodes, {len(caches.pods)} pods are known"},
        )  # fmt: skip
        self.queue.add(FLEET)
        for key in caches.profiles.keys():  # noqa: SIM118 - a Cache is no dict
            self.queue.add(WorkKey("profile", key))
        for record in sorted(caches.deployments, key=_is_reported):
            self.queue.add(WorkKey("deployment", record.meta.key))

    def _add(self, work: WorkKey) -> None:
        # The fleet's pass looks at everything: changes that come together are planned together.
        if work == FLEET:
            self.queue.add_after(FLEET, self._fleet_gap_seconds)
        else:
            self.queue.add(work)

    async def _work(self) -> None:
        while True:
            work = await self.queue.get()
            await self.one_pass(work)

    async def one_pass(self, work: WorkKey) -> None:
        """One pass of one key, with everything that may go wrong."""
        held = self.ledger.unconfirmed(work)
        if held is not None:
            self.queue.done(work, held)
            return
        began = self.busy_since[work] = self.clock()
        result = "error"
        before = self.gatherer.refusals.get(work)
        try:
            look_again = await self._reconcile(work)
            refused = self.gatherer.refusals.get(work)
            result = "ok" if refused is None else "refused"
            self._after(work, look_again, before=before is not None, now=refused is not None)
        except NotLeading:
            raise
        except ApiError as error:
            result = "conflict" if isinstance(error, Conflict) else "unavailable"
            delay = self.queue.failed(work, error.retry_after_seconds or 0.0)
            level = logging.INFO if isinstance(error, Conflict) else logging.WARNING
            log.log(level, "again later", extra={"object": str(work), "because": f"{error.message} (in {delay:.1f} s)"})
        except Exception as error:
            # A bug in planning one object must not stop the others: said once a pass, with growing pauses.
            delay = self.queue.failed(work)
            log.exception("pass failed", extra={"object": str(work), "because": f"a bug; again in {delay:.1f} s"})
            await self._tell_owner(work, error)
        finally:
            del self.busy_since[work]
            self.measured.passed(work.kind, result, self.clock() - began)

    def _after(self, work: WorkKey, look_again: float | None, *, before: bool, now: bool) -> None:
        """When a pass that went to its end comes again. `before`, `now`: whether something of it is refused.

        NB: what is refused may be what the very next pass does not try, because it says the refusal instead: then the two
        take turns. So only a first refusal is tried again at once when it is gone; one that returns, later and later.
        """
        if now and not before:
            self.queue.done(work, 0)  # at once, so that status says it
            self._refusals[work] = self._returns(work) + 1, self.clock()
        elif before and not now:
            if (returns := self._returns(work) - 1) > 0:
                self.queue.failed(work, min(LONGEST_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0 ** min(returns, 20)))
            else:
                self.queue.done(work, 0)  # so that status says it no more
        elif now:
            self.queue.failed(work)
        else:
            self.queue.done(work, look_again)

    def _returns(self, work: WorkKey) -> int:
        """How often something of this key has been refused, after it was not, of late."""
        times, at = self._refusals.get(work, (0, 0.0))
        return times if self.clock() - at < SAME_REFUSAL_SECONDS else 0

    async def _tell_owner(self, work: WorkKey, bug: Exception) -> None:
        record = self.gatherer.caches.deployments.get(work.key) if work.kind == "deployment" else None
        if record is None:
            return
        try:
            await self.executor.execute(work, Plan(actions=(status_of_internal_error(record, bug, self.now()),)))
        except ApiError as error:
            log.warning("status not written", extra={"object": str(work), "because": error.message})

    async def _reconcile(self, work: WorkKey) -> float | None:
        plan = await self._plan(work)
        if plan is None:
            self._gone(work)
            return None
        outcome = await self.executor.execute(work, plan)
        if outcome.refused is None:
            self.gatherer.refusals.pop(work, None)
        else:
            self.gatherer.refusals[work] = outcome.refused
        return _earliest(plan.look_again_seconds, outcome.look_again_seconds)

    async def _plan(self, work: WorkKey) -> Plan | None:
        match work.kind:
            case "fleet":
                return self._plan_fleet()
            case "profile":
                return await self._plan_profile(work)
            case "deployment":
                return self._plan_deployment(work)
            case _ as never:
                assert_never(never)

    def _plan_deployment(self, work: WorkKey) -> Plan | None:
        record = self.gatherer.caches.deployments.get(work.key)
        if record is None:
            return None
        before = self.gatherer.last_demand(work.key)
        if self.gatherer.demand(record) != before:
            self._add(FLEET)
        if work.key in self.gatherer.bugs:
            raise self.gatherer.bugs[work.key]
        return self.planners.plan_deployment(self.gatherer.deployment(record), self.settings, self.now())

    async def _plan_profile(self, work: WorkKey) -> Plan | None:
        # NB: the view first. With a log that is older than its pod, one that has just ended would have ended without a result.
        pod, view = self.gatherer.log_to_read(work.key), self.gatherer.profile(work)
        printed = await self.logs.read(work.key, pod)
        return (
            None if view is None else self.planners.plan_profile(replace(view, log=printed), self.settings, self.now())
        )

    def _plan_fleet(self) -> Plan:
        began = self.clock()
        view = self.gatherer.fleet()
        decided = self.planners.plan_fleet(view, self.settings, self.now())
        self._assign(decided.assignments)
        self.gatherer.memory = decided.memory
        gap = (self.clock() - began) * (1 / FLEET_SHARE - 1)
        self._fleet_gap_seconds = min(FLEET_MOST_SECONDS, max(FLEET_LEAST_SECONDS, gap))
        return decided.plan

    def _assign(self, assignments: Mapping[Key, Assignment]) -> None:
        before = self.gatherer.assignments
        for key in sorted(before.keys() | assignments.keys()):  # the same order in every process
            if before.get(key) != assignments.get(key):
                self._assignment_changed(key)
        self.gatherer.assignments = dict(assignments)

    def _assignment_changed(self, key: Key) -> None:
        self.queue.add(WorkKey("deployment", key))
        record = self.gatherer.caches.deployments.get(key)
        profile = self.gatherer.profile_of(record) if record is not None else None
        if profile is not None and (profile.measurements is None or profile.status.get("extension")):
            self.queue.add(WorkKey("profile", profile.meta.key))

    def _gone(self, work: WorkKey) -> None:
        self.gatherer.refusals.pop(work, None)
        self._refusals.pop(work, None)
        self.ledger.forget(work)
        self.queue.forget(work)


def _is_reported(record: DeploymentRecord) -> bool:
    """Whether status is of the present generation: of a thousand found at a start, who still waits comes first."""
    return bool(record.status.get("observedGeneration") == record.meta.generation)


def _earliest(*seconds: float | None) -> float | None:
    return min((one for one in seconds if one is not None), default=None)
