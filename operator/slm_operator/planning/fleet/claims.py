"""Which namespace may have a further node partitioned for its pods, so that no namespace takes all nodes from the others.

A node is partitioned for pods that exist, never for a requested number. So a deployment whose pods are refused by a quota or
an admission policy gets no node. A namespace gets no more nodes than the administrator allows, and the namespace with the
fewest nodes comes first. A node whose pods are gone is kept for a while, because pods come and go, and is then given back.

Must never take a node from replicas that run on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from slm_core.wording import several

from slm_operator.api.reasons import Reason
from slm_operator.planning.fleet.node.state import is_replica, owner_of, owner_of_replica

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from slm_operator.partitioning.config_manager import Fault
    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.views import Demand
    from slm_operator.settings import Settings
    from slm_operator.watch.records import PodRecord

IDLE = timedelta(minutes=10)
"""How long a node is kept for a deployment that has no pod for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one plan of the fleet leaves to the next. After a restart everybody starts anew."""

    idle_since: Mapping[str, datetime] = field(default_factory=dict)
    """Since when nodes are kept for pods that are not there."""
    last_turn: Mapping[str, datetime] = field(default_factory=dict)
    """When a change of a node began last for each namespace."""
    mps_fault: Fault | None = None
    """Of the MPS daemons that were seen last, while a node keeps that it was rolled back: they are gone with the change."""


NOTHING_REMEMBERED = Memory()


@dataclass(slots=True, kw_only=True)
class Claims:
    """What each demand may claim, and what was found out while nodes were given."""

    made: Mapping[tuple[str, str], int]
    """Pods that exist of each deployment, as `owner_of` names it: on a node or waiting for one."""
    most_nodes: int | None
    """Nodes that may be partitioned for one namespace."""
    spent: frozenset[str] = frozenset()
    """Nodes that were kept long enough for pods that are not there."""
    nodes: dict[str, set[str]] = field(default_factory=dict)
    """Nodes that each namespace has a place or a replica on."""
    kept_idle: set[str] = field(default_factory=set)
    """Nodes that are kept although no pod is there for them."""

    def take(self, demand: Demand, node: str) -> None:
        """It has a place there."""
        self.nodes.setdefault(demand.deployment.namespace, set()).add(node)

    def count(self, demand: Demand) -> int:
        """Nodes that its namespace has."""
        return len(self.nodes.get(demand.deployment.namespace, ()))

    def is_proven(self, demand: Demand, given: int) -> bool:
        """Whether it has more pods than were given a place."""
        return given < self.made.get(owner_of(demand.deployment), 0)

    def is_full(self, demand: Demand) -> bool:
        """Whether its namespace has all the nodes that it may have. One of them may still be repartitioned."""
        return self.most_nodes is not None and self.count(demand) >= self.most_nodes

    def is_of_namespace(self, demand: Demand, node: str) -> bool:
        """Whether a node is one of those that its namespace has."""
        return node in self.nodes.get(demand.deployment.namespace, ())

    def full(self, demand: Demand) -> tuple[Reason, str]:
        """Reason and sentence for a demand whose namespace has all that it may have."""
        bound = "which is all that tenancy.maxNodesPerNamespace allows"
        return (
            Reason.TENANCY_LIMIT,
            f"{several(self.count(demand), 'node')} partitioned for {demand.deployment.namespace}, {bound}",
        )

    def unproven(self, demand: Demand) -> tuple[Reason, str]:
        """Reason and sentence for a demand that has no pods for a further node."""
        made = self.made.get(owner_of(demand.deployment), 0)
        remedy = "the events of its ReplicaSet say whether a quota or an admission policy refuses them"
        return Reason.AWAITING_PODS, f"a node is partitioned for pods that exist, and of its own {made} do; {remedy}"


def claims(
    states: Iterable[NodeState], pods: Iterable[PodRecord], memory: Memory, settings: Settings, now: datetime
) -> Claims:
    """Before anybody is given anything. Nodes count for whom they serve, also when it wants them otherwise by now."""
    made: dict[tuple[str, str], int] = {}
    for pod in pods:
        if is_replica(pod) and pod.phase not in {"Succeeded", "Failed"}:
            owner = owner_of_replica(pod)
            made[owner] = made.get(owner, 0) + 1
    spent = frozenset(name for name, since in memory.idle_since.items() if now - since >= IDLE)
    nodes: dict[str, set[str]] = {}
    for state in states:
        for namespace, _ in state.replicas if state.marked else ():
            nodes.setdefault(namespace, set()).add(state.name)
    return Claims(made=made, most_nodes=settings.tenancy.max_nodes_per_namespace, spent=spent, nodes=nodes)
