"""The operator in the simulation: caches that lag, keyed passes, and the real planners, killed wherever one likes.

Stands for observe/ and reconcile/, whose own tests are elsewhere: a pass sees everything it wrote itself before, and what
others wrote some time later. What it knows by itself is lost when it is killed; it comes back with the caches of then.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slm_operator.manifests.metadata import label_value
from slm_operator.observe.records import Key, Meta, WorkloadRecord
from slm_operator.planning.actions import Action, Apply, Delete, EmitEvent, Evict, PatchConfig, PatchNode, WriteStatus
from slm_operator.planning.demand import demand_of
from slm_operator.planning.deployment import plan_deployment
from slm_operator.planning.fleet import plan_fleet
from slm_operator.planning.profile import plan_profile
from slm_operator.planning.views import Assignment, DeploymentView, FleetView, ProfileView
from slm_operator.settings import Settings

from .api import Api, BlockedError, RejectedError
from .world import CONFIG_LABEL, EPOCH, Node, Pod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from slm_operator.observe.records import DeploymentRecord, NodeRecord, PodRecord, ProfileRecord
    from slm_operator.planning.views import Demand, FleetPlan

    from .world import World

FLEET = Key("", "fleet")
SETTINGS = Settings()


class KilledError(Exception):
    """The operator died after an effect."""


@dataclass(slots=True)
class Operator:
    """One process, or its successors."""

    world: World
    api: Api
    deployments: dict[Key, DeploymentRecord] = field(default_factory=dict)
    profiles: dict[Key, ProfileRecord] = field(default_factory=dict)
    settings: Settings = SETTINGS
    plan_nodes: Callable[[FleetView, Settings, datetime], FleetPlan] = plan_fleet
    clock_error: float = 0.0
    """Seconds by which its clock is wrong."""
    kill_after: int | None = None
    """Effects after which it is killed, once."""
    kill_rate: float = 0.0
    effects: int = 0
    kills: int = 0
    last_effect: float = 0.0
    assignments: dict[Key, Assignment] = field(default_factory=dict)
    _nodes: dict[str, NodeRecord] = field(default_factory=dict)
    _pods: dict[Key, PodRecord] = field(default_factory=dict)
    _due: dict[Key, float] = field(default_factory=dict)
    _tries: dict[Key, int] = field(default_factory=dict)
    _demands: dict[tuple[str, int], Demand | None] = field(default_factory=dict)
    _arrivals: dict[str, float] = field(default_factory=dict)
    _seen: dict[Key, object] = field(default_factory=dict)
    _life: int = 0

    def __post_init__(self) -> None:
        self.world.watchers.append(self.changed)
        self.start()

    def start(self) -> None:
        """Lists complete, then everything is looked at once."""
        self._life += 1
        self.assignments, self._due, self._tries = {}, {}, {}
        self._seen = {}
        self._nodes = {name: node.record() for name, node in self.world.nodes.items()}
        self._pods = {key: pod.record() for key, pod in self.world.pods.items()}
        for key in (FLEET, *self.deployments):
            self._wake(key, self.world.lag(0.1, 2))

    # -- watching

    def changed(self, kind: str, name: Any) -> None:
        """Something was written: it arrives some time later, each kind in order, now and then twice."""
        times = 2 if self.world.happens(0.05) else 1
        for _ in range(times):
            arrival = max(self.world.now + self.world.lag(0.01, 1.5), self._arrivals.get(kind, 0.0))
            self._arrivals[kind] = arrival
            record = self._record(kind, name)
            self.world.at(arrival - self.world.now, lambda record=record: self._take(kind, name, record))  # type: ignore[misc]

    def _record(self, kind: str, name: Any) -> Any:
        found: Node | Pod | None = None
        if kind == "Node":
            found = self.world.nodes.get(name)
        elif kind == "Pod":
            found = self.world.pods.get(name)
        return found.record() if found is not None else None

    def _take(self, kind: str, name: Any, record: Any) -> None:
        match kind:
            case "Node":
                known = self._nodes.get(name)
                if record is None:
                    self._nodes.pop(name, None)
                elif known is None or int(record.meta.resource_version) >= int(known.meta.resource_version):
                    self._nodes[name] = record
            case "Pod" | "PodGone":
                if record is None:
                    self._pods.pop(name, None)
                elif name in self.world.pods:
                    self._pods[name] = record
        if kind in {"Node", "Pod", "PodGone", "ConfigMap", "Daemon"}:
            self._wake(FLEET, 0.2)
        if kind in {"Pod", "PodGone", "Workload"}:
            for key in self.deployments:
                self._wake(key, 0.2)

    def set_deployment(self, record: DeploymentRecord, profile: ProfileRecord) -> None:
        """A user applied an SLMDeployment."""
        key = record.meta.key
        self.deployments[key], self.profiles[key] = record, profile
        self.api.living.add(key)
        self._wake(FLEET, self.world.lag(0.1, 2))
        self._wake(key, self.world.lag(0.1, 2))

    def remove_deployment(self, key: Key) -> None:
        """A user deleted one."""
        self.deployments.pop(key, None)
        self.api.living.discard(key)
        self.world.at(self.world.lag(0.1, 5), lambda: self.api.controllers.collect(key))
        self._wake(FLEET, self.world.lag(0.1, 2))

    # -- passes

    def _wake(self, key: Key, delay: float) -> None:
        due, life = self.world.now + delay, self._life
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        self.world.at(delay, lambda: self._pass(key, due, life))

    def _pass(self, key: Key, due: float, life: int) -> None:
        if life != self._life or self._due.get(key) != due:
            return
        del self._due[key]
        try:
            again = self._plan_fleet() if key == FLEET else self._plan_deployment(key)
        except RejectedError:
            self._tries[key] = self._tries.get(key, 0) + 1
            self._wake(key, min(60.0, 0.2 * 2 ** self._tries[key]))
        except KilledError:
            self.kills += 1
            self.world.tell("operator", "is killed")
            self._life += 1
            self.world.at(self.world.lag(1, 40), self.start)
        else:
            self._tries.pop(key, None)
            if again is not None:
                self._wake(key, max(0.1, again))

    def now(self) -> datetime:
        """Its own clock."""
        return EPOCH + timedelta(seconds=self.world.now + self.clock_error)

    def _demand(self, record: DeploymentRecord) -> Demand | None:
        known = (record.meta.uid, record.meta.generation)
        if known not in self._demands:
            self._demands[known] = demand_of(record, self.profiles[record.meta.key])
        return self._demands[known]

    def _plan_fleet(self) -> float | None:
        demands = {key: self._demand(record) for key, record in self.deployments.items()}
        mine = [node for node in self._nodes.values() if _concerns_us(node)]
        decided = self.plan_nodes(
            FleetView(
                demands=tuple(one for one in demands.values() if one is not None),
                undecided=frozenset(key for key, one in demands.items() if one is None),
                nodes=tuple(mine),
                pods=tuple(self._pods.values()),
                config_map=self.world.config_record(),
                daemons=tuple(daemon for node in self.world.nodes.values() for daemon in node.daemons()),
                keys_in_use=frozenset(filter(None, (n.meta.labels.get(CONFIG_LABEL) for n in self._nodes.values()))),
            ),
            self.settings,
            self.now(),
        )
        for key in sorted(self.assignments.keys() | decided.assignments.keys()):
            if self.assignments.get(key) != decided.assignments.get(key):
                self._wake(key, 0.05)
        self.assignments = dict(decided.assignments)
        return self._execute(FLEET, decided.plan.actions, decided.plan.look_again_seconds)

    def _plan_deployment(self, key: Key) -> float | None:
        record = self.deployments.get(key)
        if record is None:
            return None
        label = label_value(key.name)
        workload = self.world.workloads.get(key)
        pods = tuple(
            pod
            for pod in self._pods.values()
            if pod.meta.key.namespace == key.namespace and label in pod.meta.labels.values()
        )
        profile = self.profiles[key]
        view = DeploymentView(
            deployment=record,
            profile=profile,
            sharers=(record,),
            assignment=self.assignments.get(key),
            workload=None
            if workload is None
            else WorkloadRecord(
                meta=Meta(key=key, uid=workload.uid, generation=workload.generation),
                observed_generation=workload.observed,
                replicas=workload.replicas,
                ready=sum(pod.ready for pod in pods),
                updated=workload.replicas,
            ),
            pods=pods,
        )
        # What a plan depends on but for words in status: the same again was carried out to its end.
        failed = tuple(pod.meta.key for pod in pods if pod.phase == "Failed" and not pod.meta.deleting)
        seen = (record.meta.generation, view.assignment, view.workload, failed)
        if self._seen.get(key) == seen:
            return None
        plan_profile(ProfileView(profile=profile), self.settings, self.now())
        plan = plan_deployment(view, self.settings, self.now())
        self._seen.pop(key, None)
        again = self._execute(key, plan.actions, plan.look_again_seconds)
        self._seen[key] = seen
        return again

    def _execute(self, work: Key, actions: Iterable[Action], look_again: float | None) -> float | None:
        for action in actions:
            before = self.api.writes
            try:
                self._perform(work, action)
            except BlockedError:
                look_again = min(5.0, look_again or 5.0)
            if self.api.writes > before:
                self.effects += 1
                self.last_effect = self.world.now
                self.world.tell("operator", _line(action))
                if self.effects == self.kill_after or self.world.happens(self.kill_rate):
                    raise KilledError
        return look_again

    def _perform(self, work: Key, action: Action) -> None:
        match action:
            case PatchNode():
                self.api.patch_node(action)
                self._nodes[action.node] = self.world.nodes[action.node].record()
            case PatchConfig():
                self.api.patch_config(action)
            case Evict():
                self.api.evict(action)
                if action.pod in self._pods and action.pod in self.world.pods:
                    self._pods[action.pod] = self.world.pods[action.pod].record()
            case Apply(manifest=manifest):
                self.api.apply(work, manifest)
            case Delete(kind="Pod", key=key, uid=uid):
                self.api.delete_failed(key, uid)
            case WriteStatus(status=status):
                record = self.deployments[work]
                self.deployments[work] = replace(record, status=status)
            case Delete() | EmitEvent():
                pass


def _concerns_us(node: NodeRecord) -> bool:
    ours = "slm-operator.io/"
    return (
        any(name.startswith(ours) for name in node.meta.labels)
        or bool(node.meta.annotations)
        or any(taint.key.startswith(ours) for taint in node.taints)
    )


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
        case Delete(key=key, because=because):
            return f"deletes {key}: {because}"
        case WriteStatus() | EmitEvent():
            return ""


def _node_change(action: PatchNode) -> str:
    if CONFIG_LABEL in action.labels:
        return "tells"
    if action.taints is None:
        return "marks"
    return "closes" if any(taint.key.startswith("slm-operator.io/") for taint in action.taints) else "opens"
