"""Whole GPUs for engines that have one each: no node is changed for them, but sliced ones may have to be given back.

Part of placement.py. Must never take a node from anybody else.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from slm_operator.planning.fleet.node.state import owner_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.fleet.node.step import Target
    from slm_operator.planning.fleet.placement import Placement
    from slm_operator.planning.views import Demand


def take_whole(demands: Sequence[Demand], states: Sequence[NodeState], placement: Placement) -> None:
    """One engine a GPU: where its engines run already, then where the fewest GPUs are free."""
    if not demands:
        return
    known = {owner_of(one.deployment): one for one in demands}
    for state in states:
        ours = sum(count for owner, count in state.replicas.items() if owner in known)
        others = sum(sum(pod.gpu_requests.values()) for pod in (*state.busy_pods, *state.our_pods)) - ours
        placement.free[state.name] = max(0, state.whole_gpus - others)
    for state in states:
        for owner, count in state.replicas.items():
            demand = known.get(owner)
            if demand is not None and placement.answers.to_give_whole(state, demand) is None:
                placement.give(demand, state.name, count)
    fullest: dict[int, list[tuple[int, str]]] = {}
    for demand in demands:
        if placement.lacking(demand) <= 0:
            continue
        ask = placement.answers.ask_of(demand)
        if ask not in fullest:
            fullest[ask] = [
                (placement.free[state.name], state.name)
                for state in states
                if placement.free[state.name] and placement.answers.to_give_whole(state, demand) is None
            ]
            heapify(fullest[ask])
        _give_fullest(demand, fullest[ask], placement)


def _give_fullest(demand: Demand, fullest: list[tuple[int, str]], placement: Placement) -> None:
    """From a heap of nodes by free GPUs. NB: demands that ask otherwise have heaps of their own over the same nodes."""
    while fullest and placement.lacking(demand) > 0:
        free, name = heappop(fullest)
        if free == placement.free[name]:
            placement.give(demand, name)
        if placement.free[name]:
            heappush(fullest, (placement.free[name], name))


def empty_for_whole(demands: Sequence[Demand], held: dict[str, Target], placement: Placement) -> None:
    """Nodes that stand in the way of their own deployment: sliced, and kept for its replicas, which want a whole GPU now.

    Those that are on their way back already count first.
    """
    returning = [one for one in placement.states.values() if one.marked and one.name not in placement.targets]
    returning.sort(key=lambda one: one.name in held)
    for demand in demands:
        missing = placement.lacking(demand)
        for state in returning if missing > 0 else ():
            own = state.name not in held or state.replicas.keys() == {owner_of(demand.deployment)}
            taken = missing <= 0 or state.name in placement.emptied
            if own and not taken and placement.answers.to_empty(state, demand) is None:
                held.pop(state.name, None)
                placement.emptied[state.name] = demand.deployment
                missing -= state.gpus
