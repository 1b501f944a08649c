"""Why a deployment gets no more places: the reason of a condition, and a sentence with what each node says.

Assumes a placement that has been made. Must never change it, but for what was said already to those who ask the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.planning.fleet.fitness import NO_CAPACITY, Unfit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.planning.fleet.placement import Placement
    from slm_operator.planning.views import Demand

MAX_REASONS = 5
"""Reasons told for one shortage, the most common first."""


def shortage(demand: Demand, placement: Placement) -> tuple[str, str]:
    """Reason and sentence when no more nodes can be had."""
    wanted = (
        f"{demand.replicas} replica(s) want {demand.slice_class.label} GPUs and {placement.given(demand)} can be placed"
    )
    if not placement.states:
        return "NoNode", f"{wanted}: no node opted in; label GPU nodes {names.OPT_IN_LABEL}=true"
    refused = placement.refused.get(demand.deployment)
    if refused is not None:
        return refused[0], f"{wanted}: {refused[1]}"
    known = None if placement.shares[demand.deployment] else placement.answers.ask_of(demand)
    said = placement.told.get(known) if known is not None else None
    reason, refusals = said or _reasons(demand, placement)
    if known is not None:
        placement.told[known] = reason, refusals
    return reason, f"{wanted}: {refusals}"


def _reasons(demand: Demand, placement: Placement) -> tuple[str, str]:
    refusals = list(_refusals(demand, placement))
    reasons = {unfit.reason for unfit, _ in refusals}
    return reasons.pop() if len(reasons) == 1 else NO_CAPACITY, "; ".join(_lines(refusals))


def _refusals(demand: Demand, placement: Placement) -> Iterable[tuple[Unfit, str]]:
    """Why not each node that does not serve it, and the node."""
    answers = placement.answers
    ask = answers.to_serve if demand.partitioning.changes_nodes else answers.to_give_whole
    for name, state in placement.states.items():
        if name in placement.shares[demand.deployment]:
            continue
        why = ask(state, demand)
        if why is None:
            target = placement.targets.get(name)
            why = Unfit(NO_CAPACITY, f"serves {target.serves}" if target is not None else "its GPUs are all in use")
        yield why, name


def _lines(refusals: Iterable[tuple[Unfit, str]]) -> list[str]:
    """The most common reasons, each with some of its nodes."""
    nodes: dict[str, list[str]] = {}
    for why, name in refusals:
        nodes.setdefault(why.because, []).append(name)
    common = sorted(nodes.items(), key=lambda item: -len(item[1]))[:MAX_REASONS]
    return [f"node {', '.join(listed[:3])}{_more(len(listed) - 3)}: {why}" for why, listed in common]


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
