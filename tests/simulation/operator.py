"""The operator in the simulation: its real caches, routing, gathering and planners, killed wherever one likes.

Stands for the watch, the queue and the executor of reconcile/, whose own tests are elsewhere: news comes late and now and
then twice, each kind in order of its own; a pass sees everything it wrote itself before. What it knows by itself is lost
when it is killed; it comes back with complete lists.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.planning.actions import (
    Action,
    Apply,
    Delete,
    EmitEvent,
    Evict,
    PatchConfig,
    PatchNode,
    ScaleWorkload,
    SetReplicas,
    WriteStatus,
)
from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.planning.profile.log import NOTHING_PRINTED, ProfileLog
from slm_operator.planning.profile.plan import plan_profile
from slm_operator.reconcile.event_mapping import affected_keys
from slm_operator.reconcile.gather import Gatherer
from slm_operator.reconcile.indexes import ProfileKeys, caches_for_planning
from slm_operator.reconcile.loop import FLEET_LEAST_SECONDS, FLEET_MOST_SECONDS
from slm_operator.reconcile.queue import FLEET, WorkKey
from slm_operator.settings import Settings
from slm_operator.watch.records import Key

from tests import builders as worlds

from .api import Api, BlockedError, RejectedError
from .objects import CONFIG_LABEL, EPOCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from slm_operator.planning.views import Assignment, DeploymentView, FleetPlan, FleetView
    from slm_operator.watch.cache import Cache, Change

    from .world import World

SETTINGS = Settings()


class KilledError(Exception):
    """The operator died after an effect."""


@dataclass(slots=True)
class Operator:
    """One process, or its successors."""

    world: World
    api: Api
    settings: Settings = SETTINGS
    plan_nodes: Callable[[FleetView, Settings, datetime], FleetPlan] = plan_fleet
    clock_error: float = 0.0
    """Seconds by which its clock is wrong."""
    kill_after: int | None = None
    """Effects after which it is killed, once."""
    kill_rate: float = 0.0
    effects: int = 0
    passes: int = 0
    kills: int = 0
    last_effect: float = 0.0
    gatherer: Gatherer = field(init=False)
    _caches: dict[str, Cache[Any]] = field(init=False)
    _due: dict[WorkKey, float] = field(init=False)
    _tries: dict[WorkKey, int] = field(init=False)
    _done: dict[Key, object] = field(init=False)
    _arrivals: dict[str, float] = field(default_factory=dict)
    _alive: bool = False
    _life: int = 0

    def __post_init__(self) -> None:
        self.world.watchers.append(self.changed)
        self.start()

    def start(self) -> None:
        """Lists complete, then everything is looked at once."""
        self._life += 1
        self._alive = True
        self._due, self._tries, self._done = {}, {}, {}
        keys = ProfileKeys()
        caches = caches_for_planning(keys, self.settings)
        self.gatherer = Gatherer(
            caches=caches, keys=keys, settings=self.settings, advice_of=advice_of, demand_of=demand_of
        )
        kinds = (caches.deployments, caches.profiles, caches.workloads)
        fleet = (caches.pods, caches.jobs, caches.nodes, caches.daemons, caches.config_maps)
        self._caches = {cache.kind: cache for cache in (*kinds, *fleet)}
        for kind, key in self.world.everything():
            record = self.world.shows(kind, key)
            if record is not None:
                self._caches[kind].put(record)
        for work in (FLEET, *(WorkKey("deployment", key) for key in caches.deployments.keys())):  # noqa: SIM118
            self._wake(work, self.world.lag(0.1, 2))
        for record in caches.profiles:
            if not record.imported:
                self._wake(WorkKey("profile", record.meta.key), self.world.lag(0.1, 2))

    @property
    def assignments(self) -> Mapping[Key, Assignment]:
        """What the fleet's last plan gave to each deployment."""
        return self.gatherer.assignments

    def now(self) -> datetime:
        """Its own clock."""
        return EPOCH + timedelta(seconds=self.world.now + self.clock_error)

    # -- watching

    def changed(self, kind: str, key: Key) -> None:
        """Something was written: it arrives some time later, each kind in order, now and then twice."""
        if not self._alive:
            return
        record, version, life = self.world.shows(kind, key), str(self.world.version()), self._life
        for _ in range(2 if self.world.happens(0.05) else 1):
            arrival = max(self.world.now + self.world.lag(0.01, 1.5), self._arrivals.get(kind, 0.0))
            self._arrivals[kind] = arrival
            self.world.at_time(arrival, lambda: self._take(kind, key, record, version, life))

    def _take(self, kind: str, key: Key, record: Any, version: str, life: int) -> None:
        if life == self._life and self._alive:
            cache = self._caches[kind]
            self._route(cache.put(record) if record is not None else cache.drop(key, version))

    def _wrote(self, kind: str, key: Key) -> None:
        """An own write is seen at once."""
        record = self.world.shows(kind, key)
        if record is not None:
            self._route(self._caches[kind].put(record))

    def _route(self, change: Change[Any] | None) -> None:
        if change is None or not change.news:
            return
        for work in affected_keys(change, self.gatherer.caches, self.gatherer.keys, self.gatherer.settings):
            self._wake(work, self._gap(work))
        if change.kind == names.DEPLOYMENT_KIND and change.new is None and change.old is not None:
            self.gatherer.forget(change.key, change.old.meta.uid)

    # -- passes

    def _gap(self, work: WorkKey) -> float:
        """How long news is collected. For the fleet it depends on how long planning takes."""
        return self.world.lag(FLEET_LEAST_SECONDS, FLEET_MOST_SECONDS) if work == FLEET else 0.1

    def _wake(self, work: WorkKey, delay: float) -> None:
        due, life = self.world.now + delay, self._life
        if self._due.get(work, float("inf")) > due:
            self._due[work] = due
            self.world.at(delay, lambda: self._pass(work, due, life))

    def _pass(self, work: WorkKey, due: float, life: int) -> None:
        if life != self._life or self._due.get(work) != due:
            return
        del self._due[work]
        self.passes += 1
        try:
            again = self._reconcile(work)
        except RejectedError:
            self._tries[work] = self._tries.get(work, 0) + 1
            self._wake(work, min(60.0, 0.2 * 2 ** self._tries[work]))
        except KilledError:
            self.kills += 1
            self.world.tell("operator", "is killed")
            self._life += 1
            self._alive = False
            self.world.at(self.world.lag(1, 40), self.start)
        else:
            self._tries.pop(work, None)
            if again is not None:
                self._wake(work, max(0.1, again))

    def _reconcile(self, work: WorkKey) -> float | None:
        match work.kind:
            case "fleet":
                return self._plan_fleet()
            case "deployment":
                return self._plan_deployment(work)
            case "profile":
                return self._plan_profile(work)

    def _plan_fleet(self) -> float | None:
        decided = self.plan_nodes(self.gatherer.fleet(), self.settings, self.now())
        before = self.gatherer.assignments
        for key in sorted(before.keys() | decided.assignments.keys()):
            if before.get(key) != decided.assignments.get(key):
                self._wake(WorkKey("deployment", key), 0.05)
        self.gatherer.assignments = dict(decided.assignments)
        self.gatherer.memory = decided.memory
        return self._execute(decided.plan.actions, decided.plan.look_again_seconds)

    def _plan_deployment(self, work: WorkKey) -> float | None:
        record = self.gatherer.caches.deployments.get(work.key)
        if record is None:
            return None
        if self.gatherer.last_demand(work.key) != self.gatherer.demand(record):
            self._wake(FLEET, self._gap(FLEET))
        view = self.gatherer.deployment(record)
        seen = _substance(view)
        if self._done.get(work.key) == seen:
            return None
        plan = plan_deployment(view, self.settings, self.now())
        self._done.pop(work.key, None)
        again = self._execute(plan.actions, plan.look_again_seconds)
        self._done[work.key] = seen
        return again

    def _plan_profile(self, work: WorkKey) -> float | None:
        record, pod = self.world.profiles.get(work.key), self.gatherer.log_to_read(work.key)
        if record is None or record.imported:
            return None
        true = self.world.pods.get(pod.meta.key) if pod is not None else None  # a log is read from the kubelet itself
        printed = _printed() if true is not None and true.phase == "Succeeded" else NOTHING_PRINTED
        view = self.gatherer.profile(work, printed)
        if view is None:
            return None
        plan = plan_profile(view, self.settings, self.now())
        return self._execute(plan.actions, plan.look_again_seconds)

    # -- effects

    def _execute(self, actions: Iterable[Action], look_again: float | None) -> float | None:
        for action in actions:
            before = self.api.writes
            try:
                self._perform(action)
            except BlockedError:
                look_again = min(5.0, look_again or 5.0)
            if self.api.writes > before:
                self.effects += 1
                self.last_effect = self.world.now
                self.world.tell("operator", _line(action))
                if self.effects == self.kill_after or self.world.happens(self.kill_rate):
                    raise KilledError
        return look_again

    def _perform(self, action: Action) -> None:  # noqa: C901 - one case for each action
        match action:
            case PatchNode(node=name):
                self.api.patch_node(action)
                self._wrote("Node", Key("", name))
            case PatchConfig(config_map=key):
                self.api.patch_config(action)
                self._wrote("ConfigMap", key)
            case Evict(pod=key):
                self.api.evict(action)
                self._wrote("Pod", key)
            case Apply(manifest=manifest):
                meta = manifest["metadata"]
                key = Key(meta["namespace"], meta["name"])
                if self.api.apply(key, manifest) and manifest["kind"] in {"Deployment", "Job"}:
                    self._wrote(manifest["kind"], key)
            case SetReplicas(deployment=key):
                self.api.set_replicas(action)
                self._wrote(names.DEPLOYMENT_KIND, key)
            case ScaleWorkload(workload=key):
                self.api.scale_workload(action)
                self._wrote("Deployment", key)
            case Delete(kind=kind, key=key, uid=uid):
                self.api.delete(kind, key, uid)
                self._wrote(kind, key)
            case WriteStatus(kind=kind, key=key, status=status):
                self.api.write_status(kind, key, status)
                self._wrote(kind, key)
            case EmitEvent():
                pass


@cache
def _printed() -> ProfileLog:
    """What a profile that ended well has printed."""
    return ProfileLog(document=worlds.imported())


def _substance(view: DeploymentView) -> object:
    """What a plan depends on, but for words and counts in status: the same again was carried out to its end."""
    given, workload = view.assignment, view.workload
    answer = None
    if given is not None:
        answer = (
            given.slice_class,
            given.asked,
            given.slots,
            bool(given.changing),
            given.may_be_disrupted,
            given.pending_because is None,
        )
    rollout = None
    if workload is not None:
        complete = (workload.ready >= workload.replicas, workload.updated >= workload.replicas)
        rollout = (workload.meta.generation, workload.observed_generation, workload.replicas, complete)
    refused = tuple(pod.meta.uid for pod in view.pods if pod.phase == "Failed" and not pod.meta.deleting)
    return view.deployment.meta.generation, view.advice is None, answer, rollout, refused


def _line(action: Action) -> str:
    match action:
        case PatchNode(node=node, because=because):
            return f"{_node_change(action)} {node}: {because}"
        case PatchConfig(add=add, remove=remove, because=because):
            return f"configuration +{','.join(add) or '0'} -{','.join(remove) or '0'}: {because}"
        case Evict(pod=pod, because=because):
            return f"evicts {pod}: {because}"
        case Apply(manifest=manifest, because=because):
            return f"applies {manifest['kind']}: {because}"
        case (
            SetReplicas(deployment=key, replicas=replicas, because=because)
            | ScaleWorkload(workload=key, replicas=replicas, because=because)
        ):
            return f"scales {key} to {replicas}: {because}"
        case Delete(key=key, because=because):
            return f"deletes {key}: {because}"
        case WriteStatus() | EmitEvent():
            return ""


def _node_change(action: PatchNode) -> str:
    if CONFIG_LABEL in action.labels:
        return "switches"
    if action.taints is None:
        return "marks"
    return "closes" if any(taint.key.startswith("slm-operator.io/") for taint in action.taints) else "opens"
