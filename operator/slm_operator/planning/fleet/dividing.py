"""Who divides the GPUs of each deployment, where that is left to the operator: the rule of `Auto`.

    as its engines run now, while it holds
    -> slices, where an opted-in node fits and the sharing mode holds there
    -> a pack in a pod

Only what lasts counts against a node: that its GPU is in use today is no reason to divide it otherwise. Must never let a
deployment that serves go from one to the other and back: what runs is kept while any node could go on with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from slm_operator.api.names import Choice
from slm_operator.partitioning.base import AUTO
from slm_operator.partitioning.config_manager import against_mps
from slm_operator.partitioning.node_slices import MPS_DAEMON, daemon_of
from slm_operator.partitioning.pack_pod import PACK_POD
from slm_operator.planning.views import Chosen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slm_operator.partitioning.base import SliceClass
    from slm_operator.planning.fleet.fitness import Answers
    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.views import Demand
    from slm_operator.watch.records import DaemonPodRecord

NODES_UNSEEN = Chosen(
    reason=Choice.NODES_UNSEEN, because="the operator serves named namespaces and sees no node, so it can change none"
)
SHARED_TENANCY = Chosen(reason=Choice.SHARED_TENANCY, because="spec.sharing.tenancy is Shared: co-tenants share slices")
AS_BEFORE = Chosen(reason=Choice.AS_BEFORE, because="its engines run so")
NODE_FITS = Chosen(reason=Choice.NODE_FITS, because="an opted-in node fits")


def divided(demand: Demand, chosen: Chosen) -> Demand:
    """The demand with what was chosen for it in its class."""
    in_one_pod = _in_one_pod(demand, chosen)
    if in_one_pod == demand.slice_class.in_one_pod:
        return demand
    return replace(demand, slice_class=replace(demand.slice_class, in_one_pod=in_one_pod))


def _in_one_pod(demand: Demand, chosen: Chosen) -> bool:
    match chosen.reason:
        case Choice.ASKED:
            return demand.asked == PACK_POD.name
        case Choice.AS_BEFORE:
            return demand.runs is not None and demand.runs.in_one_pod
        case Choice.NODE_FITS | Choice.SHARED_TENANCY:
            return False
        case Choice.NO_NODE_FITS | Choice.MODE_NOT_HELD | Choice.NODES_UNSEEN:
            return True
        case _:
            assert_never(chosen.reason)


def choose_unseen(demand: Demand) -> Chosen:
    """The choice where no node is seen."""
    return _without_nodes(demand) or NODES_UNSEEN


class Chooser:
    """The choice for each demand of one fleet. Nodes that are alike are asked about once."""

    def __init__(self, states: Iterable[NodeState], daemons: Sequence[DaemonPodRecord], answers: Answers) -> None:
        """`daemons`: pods of NVIDIA's stack, which tell whether a label reaches its MPS daemon."""
        self._states = list({answers.likeness(state): state for state in states}.values())
        self._against_mps = against_mps((one.part, one.config_manager) for one in daemons)
        self._answers = answers
        self._fits: dict[tuple[int, bool], bool] = {}

    def choose(self, demand: Demand) -> Chosen:
        """The choice for one demand of the fleet."""
        placed = _runs(demand) is False
        without = _without_nodes(demand)
        if without is not None and not (without is AS_BEFORE and placed):
            return without
        against = None if placed else self._against(demand.slice_class)
        if against is not None:
            return Chosen(reason=Choice.MODE_NOT_HELD, because=f"MPS by a node's label is ruled out by {against}")
        if self._any_fits(demand, held=placed):
            return AS_BEFORE if placed else NODE_FITS
        return Chosen(reason=Choice.NO_NODE_FITS, because=self._why_none())

    def _against(self, slice_class: SliceClass) -> str | None:
        return self._against_mps if daemon_of(slice_class) is MPS_DAEMON else None

    def _any_fits(self, demand: Demand, *, held: bool) -> bool:
        question = self._answers.ask_of(demand), held
        if question not in self._fits:
            answers = self._answers
            anew = answers.to_have_whole if demand.slice_class.is_whole else answers.to_divide
            ask = answers.to_stay if held else anew
            self._fits[question] = any(ask(state, demand) is None for state in self._states)
        return self._fits[question]

    def _why_none(self) -> str:
        if not any(state.opted_in for state in self._states):
            return "no node opted in to be reconfigured"
        return "no node that opted in can serve it (kubectl slm check says why)"


def _without_nodes(demand: Demand) -> Chosen | None:
    """The choice that needs no look at a node."""
    if demand.asked != AUTO:
        return Chosen(reason=Choice.ASKED, because=f"spec.sharing.partitioning is {demand.asked}")
    if demand.shared_tenancy and not demand.slice_class.is_whole:
        return SHARED_TENANCY
    return None if _runs(demand) is None else AS_BEFORE


def _runs(demand: Demand) -> bool | None:
    """Whether its engines are on whichever node has a GPU now, and not on those that opted in. None: nothing comparable runs."""
    runs = demand.runs
    return None if runs is None or runs.is_whole != demand.slice_class.is_whole else runs.in_one_pod
