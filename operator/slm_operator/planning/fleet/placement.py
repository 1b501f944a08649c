"""The target of every node: its slice class, and the deployment that it serves. Equal input gives equal targets.

The targets are decided anew in each pass, in this order:
1. A node keeps the deployment that it serves, or is being changed for. Nothing that runs is moved.
2. Engines with a whole GPU each take their GPUs, which needs no change of any node.
3. Each deployment that lacks slots and has pods for more takes the node that fits best, idle nodes first. Namespaces take
   turns: the one with the fewest nodes first, and then by name (claims.py).
4. A node with more slots than needed stays while replicas run on it, until a deployment that lacks slots can use it.
A node that is left over is given back. So is a node whose own deployments all want whole GPUs now and lack them:
a deployment may evict its own replicas to make room for its new configuration.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, merge
from typing import TYPE_CHECKING

from slm_operator.manifests.metadata import serves_value
from slm_operator.partitioning.base import ANYBODY, class_of_label
from slm_operator.partitioning.node_slices import NODE_SLICES
from slm_operator.planning.fleet.fitness import Answers
from slm_operator.planning.fleet.node.annotations import RELEASED
from slm_operator.planning.fleet.node.state import owner_of
from slm_operator.planning.fleet.node.step import Target
from slm_operator.planning.fleet.whole_gpus import empty_for_whole, take_whole

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from slm_operator.api.reasons import Reason
    from slm_operator.partitioning.base import SliceClass
    from slm_operator.planning.fleet.claims import Claims
    from slm_operator.planning.fleet.node.annotations import Marks
    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.views import Demand
    from slm_operator.settings import Settings
    from slm_operator.watch.records import Key


@dataclass(slots=True)
class Placement:
    """The decision, while it is made and after."""

    states: dict[str, NodeState]
    answers: Answers
    claims: Claims
    targets: dict[str, Target] = field(default_factory=dict)
    """The target of each node. A node without a target is given back when it carries our marks."""
    refused: dict[Key, tuple[Reason, str]] = field(default_factory=dict)
    """Reason and sentence for deployments that may not claim the node that they could have."""
    members: dict[Target, set[tuple[str, str]]] = field(default_factory=dict)
    """Deployments that want each target, one or several co-tenants, as `NodeState.replicas` names them."""
    emptied: dict[str, Key] = field(default_factory=dict)
    """Nodes that are given back because the deployment whose replicas run there wants whole GPUs."""
    aimed: dict[Target, list[str]] = field(default_factory=dict)
    """The same, by target."""
    free: dict[str, int] = field(default_factory=dict)
    """Slots of targeted nodes, and whole GPUs of others, that nobody was given."""
    shares: dict[Key, dict[str, int]] = field(default_factory=dict)
    """Slots or whole GPUs given to each deployment, by node."""

    def given(self, demand: Demand) -> int:
        """Replicas that have a place, now or when changes are done."""
        return sum(self.shares[demand.deployment].values())

    def lacking(self, demand: Demand) -> int:
        """Replicas without a place."""
        return demand.replicas - self.given(demand)

    def give(self, demand: Demand, name: str, most: int | None = None) -> None:
        """As many free places of a node as the deployment lacks."""
        count = min(self.lacking(demand), self.free[name], self.free[name] if most is None else most)
        if count > 0:
            share = self.shares[demand.deployment]
            share[name] = share.get(name, 0) + count
            self.free[name] -= count
            self.claims.take(demand, name)

    def aim(self, name: str, target: Target) -> None:
        """Set the target of a node."""
        self.targets[name] = target
        self.aimed.setdefault(target, []).append(name)
        self.free[name] = slots_of(self.states[name], target, self.members.get(target, ()))

    def nodes_of(self, demand: Demand) -> list[str]:
        """Nodes that serve a deployment or will, by name. Its own with room to spare are among them."""
        mine = set(self.shares[demand.deployment])
        mine |= {name for name, whose in self.emptied.items() if whose == demand.deployment}
        if demand.partitioning.changes_nodes and not demand.shared_tenancy:
            # NB: a node that is kept for its replicas as they are may be one that it asks for no more.
            aimed = self.aimed.get(target_of(demand), ())
            mine |= {name for name in aimed if self.answers.to_stay(self.states[name], demand) is None}
        return sorted(mine)

    def capacity(self, name: str, demand: Demand) -> int:
        """Replicas of one deployment that a node can hold beside those of others."""
        return self.shares[demand.deployment].get(name, 0) + self.free.get(name, 0)


def place(
    states: Sequence[NodeState],
    demands: Sequence[Demand],
    undecided: frozenset[Key],
    claims: Claims,
    settings: Settings,
) -> Placement:
    """The placement of all demands, which come sorted."""
    placement = Placement(
        states={state.name: state for state in states},
        claims=claims,
        shares={demand.deployment: {} for demand in demands},
        answers=Answers(settings, demands),
    )
    sharing = [demand for demand in demands if demand.partitioning.changes_nodes]
    for demand in sharing:
        placement.members.setdefault(target_of(demand), set()).add(owner_of(demand.deployment))
    serving = _Serving(states)
    for demand in sharing:  # where replicas run already, before the rest is given to others
        _keep_running(demand, serving, placement)
    for demand in sharing:
        _keep(demand, serving, placement, idle=False)
    for demand in sharing:  # and last what was partitioned for pods that are not there, or not yet
        _keep(demand, serving, placement, idle=True)
    held = _held(states, demands, undecided, placement)
    placed = [demand for demand in demands if demand.partitioning.is_placed]
    whole = [demand for demand in placed if not demand.partitioning.changes_nodes]
    take_whole(whole, [state for state in states if not state.marked], placement)
    _take(sharing, held, placement)
    empty_for_whole(whole, held, placement)
    for name, target in held.items():
        if name not in placement.targets:
            placement.aim(name, target)
    return placement


def target_of(demand: Demand) -> Target:
    """What a node must be to serve this demand."""
    serves = ANYBODY if demand.shared_tenancy else serves_value(demand.deployment)
    return Target(slice_class=demand.slice_class, serves=serves)


def slots_of(state: NodeState, target: Target, members: Collection[tuple[str, str]] = ()) -> int:
    """Replicas that a node can hold for the `members` of a target: what others hold is not theirs."""
    if not state.node.ready:
        return 0
    mine = sum(count for owner, count in state.replicas.items() if owner in members)
    if state.node.unschedulable:
        return mine
    taken = sum(pod.gpu_requests.get(NODE_SLICES.resource, 0) for pod in state.busy_pods)
    if state.marks == target.marks:  # they have a class that was given up since; before a node is repartitioned they go
        taken += len(state.our_pods) - mine
    return max(0, state.slots_for(target.slice_class) - taken)


class _Serving:
    """Nodes by what they are or are being changed to; and of those, the nodes where each owner's replicas run."""

    def __init__(self, states: Sequence[NodeState]) -> None:
        self._nodes: dict[Marks | None, deque[NodeState]] = {}
        self._own: dict[tuple[Marks | None, tuple[str, str]], list[NodeState]] = {}
        for state in sorted(states, key=lambda one: one.changing):
            # NB: a node that is still what it was may be kept as that, whatever it was to become
            for purpose in {state.purpose, state.marks}:
                self._nodes.setdefault(purpose, deque()).append(state)
                for owner in state.replicas:
                    self._own.setdefault((purpose, owner), []).append(state)

    def own(self, demand: Demand) -> list[NodeState]:
        """Where its replicas run: the fullest of them first, a changing one last."""
        found = self._own.get((target_of(demand).marks, owner_of(demand.deployment)), ())
        return sorted(found, key=lambda one: (one.changing, -one.pods_of(demand.deployment), one.name))

    def all_with_room(self, demand: Demand, placement: Placement) -> Iterable[NodeState]:
        """Its own first, then the others that it may share. Those at the front that are full are dropped for good."""
        nodes = self._nodes.get(target_of(demand).marks, deque())
        while nodes and placement.free.get(nodes[0].name) == 0:
            nodes.popleft()
        return merge(self.own(demand), nodes, key=lambda one: one.changing)


def _keep_running(demand: Demand, serving: _Serving, placement: Placement) -> None:
    """Nodes where its replicas run: as much of them as these hold."""
    for state in serving.own(demand):
        if placement.lacking(demand) > 0 and placement.answers.to_stay(state, demand) is None:
            if state.name not in placement.targets:
                placement.aim(state.name, target_of(demand))
            placement.give(demand, state.name, state.pods_of(demand.deployment))


def _keep(demand: Demand, serving: _Serving, placement: Placement, *, idle: bool) -> None:
    """What else there is on nodes that serve it, or are being changed for it. `idle`: also without a pod for it, for a while."""
    if placement.lacking(demand) <= 0:
        return
    claims = placement.claims
    for state in serving.all_with_room(demand, placement):
        if placement.lacking(demand) <= 0:
            return
        name = state.name
        if placement.answers.to_stay(state, demand) is not None:
            continue
        if name not in placement.targets:
            proven = claims.is_proven(demand, placement.given(demand))
            if not proven and (not idle or name in claims.spent):
                continue
            placement.aim(name, target_of(demand))
            claims.kept_idle |= set() if proven else {name}
        placement.give(demand, name)


def _held(
    states: Sequence[NodeState], demands: Sequence[Demand], undecided: frozenset[Key], placement: Placement
) -> dict[str, Target]:
    """Nodes that nobody needs by count, but where replicas run of deployments that are still there: they stay as they are.

    A class that was given up empties by itself, as its Deployment rolls over to the new one.
    """
    living = [*(demand.deployment for demand in demands), *undecided]
    owners = {serves_value(one) for one in living}
    waiting = {serves_value(one) for one in undecided}
    held: dict[str, Target] = {}
    claims = placement.claims
    for state in states:
        slice_class, serves = _present(state)
        kept = state.name in placement.targets
        if (
            kept
            or slice_class is None
            or not state.opted_in
            or state.label_changed_externally
            or slice_class.label in state.failures
        ):
            continue
        intact = any(state.marks) and not state.repartitioned_externally
        if serves == ANYBODY:
            stays = intact and any(state.pods_of(one) for one in living)
        elif state.our_pods:
            stays = serves in waiting or (intact and serves in owners)
        else:
            stays = serves in waiting and state.name not in claims.spent
            claims.kept_idle |= {state.name} if stays else set()
        if stays:
            held[state.name] = Target(slice_class=slice_class, serves=serves)
    return held


def _present(state: NodeState) -> tuple[SliceClass | None, str]:
    """The class and owner that a node has; where its label was switched already, those that it is being changed to."""
    present = state.marks if any(state.marks) else state.purpose or RELEASED
    return class_of_label(present.class_label), present.serves or ""


def _take(demands: Sequence[Demand], held: dict[str, Target], placement: Placement) -> None:
    """Nodes for those who lack slots, by turns among namespaces. Nodes that are alike are looked at once."""
    given_whole = {name for share in placement.shares.values() for name in share} - placement.targets.keys()
    alike: dict[object, list[str]] = {}
    for name, state in placement.states.items():
        if name not in placement.targets and name not in given_whole:
            alike.setdefault(placement.answers.likeness(state), []).append(name)
    for names_ in alike.values():
        names_.reverse()  # the first name is taken first, from the end
    hopeless: set[int] = set()
    claims = placement.claims
    owners = {owner for name in held for owner in placement.states[name].replicas}
    for demand in _in_turn(demands, placement):
        ask = placement.answers.ask_of(demand)
        # Nodes are only ever taken here: where another found none, this one need not look, unless it has some of its own.
        if ask in hopeless and owner_of(demand.deployment) not in owners:
            continue
        groups = [group for group in alike.values() if group and _may_have(demand, group[-1], held, placement)]
        if not groups:
            hopeless.add(ask)
            continue
        if claims.is_full(demand):
            groups = [group for group in groups if claims.is_of_namespace(demand, group[-1])]
        if not groups or not claims.is_proven(demand, placement.given(demand)):
            placement.refused[demand.deployment] = claims.unproven(demand) if groups else claims.full(demand)
            continue
        name = min(groups, key=lambda group: _preference(placement.states[group[-1]], demand, placement))[-1]
        alike[placement.answers.likeness(placement.states[name])].pop()
        placement.aim(name, target_of(demand))
        placement.give(demand, name)


def _in_turn(demands: Sequence[Demand], placement: Placement) -> Iterator[Demand]:
    """Who takes the next node: whose namespace has fewest, and of those the first by name. Whoever took none is done."""
    lacking: dict[str, deque[tuple[int, Demand]]] = {}
    for number, demand in enumerate(demands):
        if placement.lacking(demand) > 0:
            lacking.setdefault(demand.deployment.namespace, deque()).append((number, demand))
    turns = [(placement.claims.count(one[0][1]), one[0][0], namespace) for namespace, one in lacking.items()]
    heapify(turns)
    while turns:
        _, _, namespace = heappop(turns)
        mine = lacking[namespace]
        demand, taken = mine[0][1], len(placement.targets)
        yield demand
        if placement.lacking(demand) <= 0 or len(placement.targets) == taken:
            mine.popleft()
        if mine:
            heappush(turns, (placement.claims.count(demand), mine[0][0], namespace))


def _may_have(demand: Demand, name: str, held: dict[str, Target], placement: Placement) -> bool:
    """Whether a node is free for a demand: nobody's, held by such alone as want the same now, or more than its owner needs."""
    kept_for, state = held.get(name), placement.states[name]
    own = bool(state.replicas) and state.replicas.keys() <= placement.members[target_of(demand)]
    free = kept_for is None or own or kept_for in placement.aimed
    return free and placement.answers.to_serve(state, demand) is None


def _preference(state: NodeState, demand: Demand, placement: Placement) -> tuple[bool, bool, int, int, str]:
    """Least harm first: no replicas to drain, already partitioned as needed, then the fewest slots too many, and the first name."""
    excess = slots_of(state, target_of(demand)) - placement.lacking(demand)
    partitioned = state.observed_class == demand.slice_class
    return bool(state.our_pods), not partitioned, abs(excess), len(state.our_pods), state.name
