"""One plan for all nodes: how each node is partitioned and for whom, and what each deployment gets.

    placement.py decides each node's target; node/change.py and node/release.py take one step towards it

The same input gives the same plan, and a fleet that has reached its targets gives an empty one. Must never touch a node that
did not opt in, except to remove our own marks from it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.api.reasons import Reason
from slm_operator.partitioning.base import class_of_label
from slm_operator.partitioning.config_manager import fault_among
from slm_operator.partitioning.node_slices import MPS_DAEMON, daemon_of
from slm_operator.partitioning.pack_pod import PACK_POD
from slm_operator.planning.actions import Action, Plan
from slm_operator.planning.fleet.claims import IDLE, Memory, claims
from slm_operator.planning.fleet.dividing import Chooser, choose_unseen, divided
from slm_operator.planning.fleet.fitness import Answers
from slm_operator.planning.fleet.node.absence import as_it_is_there
from slm_operator.planning.fleet.node.annotations import failures_in
from slm_operator.planning.fleet.node.change import step_towards
from slm_operator.planning.fleet.node.loading import keys_for
from slm_operator.planning.fleet.node.release import step_back
from slm_operator.planning.fleet.node.state import is_replica, mps_managers, owner_of, owner_of_replica
from slm_operator.planning.fleet.node.states import node_states
from slm_operator.planning.fleet.node.step import NodeStep, Site
from slm_operator.planning.fleet.placement import Placement, place
from slm_operator.planning.fleet.plugin_keys import UNUSED_SECONDS, keys_in_use, keys_patch, spare_keys
from slm_operator.planning.fleet.shortage import Shortages
from slm_operator.planning.reader import text_for
from slm_operator.planning.views import Assignment, Chosen, Demand, FleetPlan, FleetView

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from slm_operator.partitioning.config_manager import Fault
    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.settings import Settings
    from slm_operator.watch.records import ConfigMapRecord

_MAY_WAIT_FOR_EVER = frozenset({Reason.FOREIGN_PODS, Reason.DRAINING, Reason.PAUSED, Reason.DRIVER_UPGRADE})
_NEVER = datetime.min.replace(tzinfo=UTC)


def plan_fleet(view: FleetView, settings: Settings, now: datetime) -> FleetPlan:
    """The next steps of all nodes, and every deployment's assignment."""
    if settings.namespaces:  # no node is seen: whoever partitioned them labelled them, and the scheduler knows the room
        unseen = {one.deployment: _unplaced(one, choose_unseen(one)) for one in view.demands}
        return FleetPlan(plan=Plan(), assignments=unseen)
    fault = _mps_fault(view)
    states = node_states(view, settings, fault)
    asked = sorted(view.demands, key=lambda demand: demand.deployment)
    chooser = Chooser(states, view.daemons, Answers(settings, asked))
    chosen = {one.deployment: chooser.choose(one) for one in asked}
    demands = [divided(one, chosen[one.deployment]) for one in asked]
    placement = place(states, demands, view.undecided, claims(states, view.pods, view.memory, settings, now), settings)
    site = Site(
        config=view.config_map,
        settings=settings,
        now=now,
        wanted=frozenset(one.slice_class.label for one in asked if _may_change_nodes(one)),
        stranded=_stranded(view),
    )
    steps, last_turn = _in_turn(states, placement, site, view.memory)
    idle_since = {name: view.memory.idle_since.get(name, now) for name in sorted(placement.claims.kept_idle)}
    used = _used_keys(view, states, placement)
    spare = spare_keys(view.config_map, used) if view.config_map is not None and used is not None else None
    keys = _keys(view.config_map, steps, spare, now, in_trouble=bool(spare) and any(map(_is_in_trouble, states)))
    actions: tuple[Action, ...] = tuple(action for name in sorted(steps) for action in steps[name].actions)
    waits = [step.look_again_seconds for step in steps.values() if step.look_again_seconds is not None]
    if spare:
        waits.append(UNUSED_SECONDS)
    waits += [max(1.0, (since + IDLE - now).total_seconds()) for since in idle_since.values()]
    drained, shortages = _drained(states, placement), Shortages(placement, settings)
    return FleetPlan(
        plan=Plan(actions=(*keys, *actions), look_again_seconds=min(waits, default=None)),
        assignments={
            demand.deployment: replace(
                _assignment(demand, placement, steps, drained, shortages), chosen=chosen[demand.deployment]
            )
            if demand.partitioning.is_placed
            else _unplaced(demand, chosen[demand.deployment])
            for demand in demands
        },
        memory=Memory(idle_since=idle_since, last_turn=last_turn, mps_fault=fault),
    )


def _may_change_nodes(demand: Demand) -> bool:
    """Whether it wants its class of nodes, or would if they could give it.

    NB: a failure that is forgotten because engines went into packs instead would have the node drained for them again.
    """
    return demand.asked != PACK_POD.name and not demand.slice_class.is_whole


def _unplaced(demand: Demand, chosen: Chosen) -> Assignment:
    """What a deployment gets whose pods the scheduler places by what they ask for: whatever it wants."""
    return Assignment(
        slice_class=divided(demand, chosen).slice_class, asked=demand, chosen=chosen, slots=demand.replicas
    )


def _mps_fault(view: FleetView) -> Fault | None:
    """Why MPS daemons do not hold what a label names: of those that are seen, else of those that were.

    NB: they go with the change that shows it. Without a memory of it every node would be drained once to see the same.
    """
    seen = mps_managers(view.daemons)
    if seen:
        return fault_among(seen)
    failed = (failures_in(node.meta.annotations.get(names.CHANGE_FAILED_ANNOTATION)) for node in view.nodes)
    return view.memory.mps_fault if any(map(_needs_mps, chain.from_iterable(failed))) else None


def _needs_mps(label: str) -> bool:
    failed = class_of_label(label)
    return failed is not None and daemon_of(failed) is MPS_DAEMON


def _stranded(view: FleetView) -> frozenset[tuple[str, str]]:
    lost = (pod for pod in view.pods if pod.node in view.lost_nodes and is_replica(pod) and not pod.meta.deleting)
    return frozenset(owner_of_replica(pod) for pod in lost if pod.holds_gpu)


def _in_turn(
    states: tuple[NodeState, ...], placement: Placement, site: Site, memory: Memory
) -> tuple[dict[str, NodeStep], Mapping[str, datetime]]:
    """One step for every node that has not reached its target, and when each namespace last had its turn to begin a change.

    No more than maxChanging nodes are in a change at once.
    NB: a node that waits for somebody else's pods, a PDB or its administrator may wait for ever, so it does not count.
    Nor does one that gets another target than it is being changed to: it waits for its turn again.
    """
    awaited = placement.targets.keys() | placement.emptied.keys()
    steps = {
        state.name: _held(state, _step(state, placement, site)) if state.paused else _step(state, placement, site)
        for state in states
    }
    begins = [state for state in states if steps[state.name].begins]
    under_way = (steps[state.name] for state in states if state.changing)
    room = site.settings.nodes.max_changing - sum(
        not step.begins and step.reason not in _MAY_WAIT_FOR_EVER for step in under_way
    )
    last_turn = dict(memory.last_turn)
    namespaces = _namespaces(placement)

    def turn(state: NodeState) -> tuple[bool, datetime, bool, str]:
        # Those that somebody waits for go first, by turns among namespaces, and of them those that disturb nobody.
        turns = [last_turn.get(one, _NEVER) for one in namespaces.get(state.name, ())]
        return state.name not in awaited, min(turns, default=_NEVER), bool(state.our_pods), state.name

    for _ in range(min(max(0, room), len(begins))):
        first = min(begins, key=turn)
        begins.remove(first)
        last_turn |= dict.fromkeys(namespaces.get(first.name, ()), site.now)
    for state in begins:
        stage = f"node {state.name} waits until other nodes have been changed"
        steps[state.name] = NodeStep(reason=Reason.NODE_CHANGING, stage=stage)
    asking = {demand.namespace for demand in placement.shares}
    return steps, {name: at for name, at in last_turn.items() if name in asking}


def _step(state: NodeState, placement: Placement, site: Site) -> NodeStep:
    if state.name in placement.targets:
        step = step_towards(state, placement.targets[state.name], site)
    else:
        step = step_back(state, site, awaited=state.name in placement.emptied)
    return as_it_is_there(state, step, site)


def _held(state: NodeState, step: NodeStep) -> NodeStep:
    """The step of a node whose administrator wants no change: nothing is done, and who holds it is said."""
    if step.done and not step.actions:
        return step
    stage = f"node {state.name} is held by its annotation {names.PAUSED_ANNOTATION}"
    return NodeStep(reason=Reason.PAUSED, stage=stage)


def _namespaces(placement: Placement) -> dict[str, set[str]]:
    """Namespaces for which each node has its target."""
    found: dict[str, set[str]] = {name: {whose.namespace} for name, whose in placement.emptied.items()}
    for namespace, nodes in placement.claims.nodes.items():
        for name in nodes:
            found.setdefault(name, set()).add(namespace)
    return found


def _is_in_trouble(state: NodeState) -> bool:
    """Whether part of NVIDIA's stack waits to be restarted there, and may look for a key that the node named before."""
    return state.opted_in and any(one.waiting is not None for one in state.daemons)


def _keys(
    config: ConfigMapRecord | None,
    steps: Mapping[str, NodeStep],
    spare: Collection[str] | None,
    now: datetime,
    *,
    in_trouble: bool,
) -> tuple[Action, ...]:
    if config is None:
        return ()
    needed = dict(sorted({one for step in steps.values() for one in step.needs_keys.items()}))
    patch = keys_patch(config, needed, spare, now, in_trouble=in_trouble)
    return (patch,) if patch is not None else ()


def _used_keys(view: FleetView, states: tuple[NodeState, ...], placement: Placement) -> frozenset[str] | None:
    if view.keys_in_use is None:
        return None
    wanted = {key for name, one in placement.targets.items() for key in keys_for(placement.states[name], one)}
    return keys_in_use(states, wanted, view.keys_in_use)


def _drained(states: tuple[NodeState, ...], placement: Placement) -> frozenset[tuple[str, str]]:
    """Whose replicas (namespace and label) run on nodes that are being changed for somebody.

    NB: the scheduler still binds an engine with a whole GPU that it placed before it saw the taint, whoever the node is for.
    """
    awaited = placement.targets.keys() | placement.emptied.keys()
    changing = (state for state in states if state.changing and state.name in awaited)
    return frozenset(owner for state in changing for owner in state.replicas)


def _assignment(
    demand: Demand,
    placement: Placement,
    steps: Mapping[str, NodeStep],
    drained: frozenset[tuple[str, str]],
    shortages: Shortages,
) -> Assignment:
    """What one deployment gets, and why not more."""
    whole = not demand.partitioning.changes_nodes
    mine = placement.nodes_of(demand)
    ready = [name for name in mine if steps[name].done]
    changing = [name for name in mine if name not in ready]
    slots = sum(placement.capacity(name, demand) for name in ready)
    reader = shortages.reader_of(demand)
    stages = (steps[name].stage for name in changing)
    stage = next((text_for(one, reader) for one in stages if one is not None), None)
    warnings = ((steps[name].reason, steps[name].warning) for name in ready if not whole)
    warning = next(((why, text_for(one, reader)) for why, one in warnings if one is not None), None)
    remarks = ((steps[name].remark) for name in ready if not whole)
    remark = next(((why, text_for(one, reader)) for why, one in filter(None, remarks)), None)
    reason, pending = Reason.READY, None
    if placement.lacking(demand) > 0 and not (whole and changing):
        reason, pending = shortages.of(demand)
    elif slots < demand.replicas and changing:
        reason, pending = steps[changing[0]].reason, stage
    elif warning is not None:
        reason, pending = warning
    return Assignment(
        slice_class=demand.slice_class,
        asked=demand,
        nodes=tuple(ready),
        slots=slots,
        changing=tuple(changing),
        may_be_disrupted=owner_of(demand.deployment) in drained,
        stage=stage,
        reason=reason,
        pending_because=pending,
        remark=remark,
    )
