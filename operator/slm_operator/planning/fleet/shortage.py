"""Why a deployment gets no more places: the reason of a condition, and a sentence with what each node says.

Assumes a placement that has been made. Must never change it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from slm_core.wording import several

from slm_operator.api.reasons import Reason
from slm_operator.partitioning.discovery import PRODUCT_LABEL
from slm_operator.planning.fleet.fitness import Unfit
from slm_operator.planning.reader import AboutServed, Reader, reader_in, text_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.partitioning.base import SliceClass
    from slm_operator.planning.fleet.placement import Placement
    from slm_operator.planning.views import Demand
    from slm_operator.settings import Settings

MAX_REASONS = 5
"""Reasons reported for one shortage, the most common first."""


@dataclass
class Shortages:
    """Answers for one placement. What is said to those who ask the same and may know the same is made once."""

    placement: Placement
    settings: Settings
    _said: dict[tuple[int, Reader], tuple[Reason, str]] = field(default_factory=dict, init=False)

    def reader_of(self, demand: Demand) -> Reader:
        """Who reads the messages about a demand."""
        return reader_in(demand.deployment.namespace, self.settings)

    def of(self, demand: Demand) -> tuple[Reason, str]:
        """Reason and sentence when no more nodes can be had."""
        placement, want = self.placement, "wants" if demand.replicas == 1 else "want"
        wanted = f"{several(demand.replicas, 'replica')} {want} {_gpus(demand.slice_class)} and {placement.given(demand)} can be placed"
        if not placement.states:
            return (
                Reason.NO_NODE,
                f"{wanted}: no node opted in; label GPU nodes {self.settings.nodes.opt_in_label}=true",
            )
        if demand.product is not None and self._products.isdisjoint({demand.product, None}):
            return Reason.NO_NODE, f"{wanted}: {_gone(demand.product)}"
        refused = placement.refused.get(demand.deployment)
        if refused is not None:
            return refused[0], f"{wanted}: {refused[1]}"
        reason, refusals = self._reasons(demand)
        return reason, f"{wanted}: {refusals}"

    @cached_property
    def _products(self) -> frozenset[str | None]:
        """GPU products of the nodes that opted in; None: of one that does not say."""
        return frozenset(one.node.meta.labels.get(PRODUCT_LABEL) for one in self.placement.states.values())

    @cached_property
    def _present(self) -> frozenset[str]:
        """Namespaces that a sentence about a node could name something of."""
        states, members = self.placement.states.values(), self.placement.members
        pods = {pod.meta.key.namespace for state in states for pod in (*state.our_pods, *state.busy_pods)}
        return frozenset(pods).union(name for target in self.placement.aimed for name, _ in members.get(target, ()))

    def _reasons(self, demand: Demand) -> tuple[Reason, str]:
        reader, placement = self.reader_of(demand), self.placement
        if reader.namespace is not None and reader.namespace not in self._present:
            reader = Reader("")  # it has nothing that could be named, as so many others
        if placement.shares[demand.deployment]:
            return _reasons(demand, placement, reader)
        known = placement.answers.ask_of(demand), reader
        if known not in self._said:
            self._said[known] = _reasons(demand, placement, reader)
        return self._said[known]


def _reasons(demand: Demand, placement: Placement, reader: Reader) -> tuple[Reason, str]:
    refusals = list(_refusals(demand, placement))
    reasons = {unfit.reason for unfit, _ in refusals}
    lines = _lines((text_for(unfit.because, reader), name) for unfit, name in refusals)
    if not lines:  # each node gives something
        full = sorted(placement.shares[demand.deployment])
        lines = [f"node {', '.join(full[:3])}{_more(len(full) - 3)}: nothing more is free, and there is no other node"]
    return reasons.pop() if len(reasons) == 1 else Reason.NO_CAPACITY, "; ".join(lines)


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
            served = (
                "its GPUs are all in use" if target is None else AboutServed(before="serves ", serves=target.serves)
            )
            why = Unfit(Reason.NO_CAPACITY, served)
        yield why, name


def _lines(refusals: Iterable[tuple[str, str]]) -> list[str]:
    """The most common reasons, each with some of its nodes."""
    nodes: dict[str, list[str]] = {}
    for why, name in refusals:
        nodes.setdefault(why, []).append(name)
    common = sorted(nodes.items(), key=lambda item: -len(item[1]))[:MAX_REASONS]
    return [f"node {', '.join(listed[:3])}{_more(len(listed) - 3)}: {why}" for why, listed in common]


def _gone(product: str) -> str:
    return (
        f"no node that opted in has {product}, and what was measured on it is served on no other: add such a node, or name a product "
        "that is there in spec.accelerator.products, which is measured then"
    )


def _gpus(wanted: SliceClass) -> str:
    return "whole GPUs" if wanted.is_whole else f"{wanted.label} GPUs"


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
