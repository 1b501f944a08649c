"""From all that was gathered to one state a node: whose pods hold its GPUs, what its label names, and what its owner has set there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.partitioning.config_manager import fault_among
from slm_operator.partitioning.discovery import driver_upgrade
from slm_operator.partitioning.plugin_config import base_of, configured_class, is_ours
from slm_operator.planning.fleet.node.annotations import failures_in, is_over
from slm_operator.planning.fleet.node.state import (
    NodeState,
    is_replica,
    mps_managers,
    owner_of,
    owner_of_replica,
    plugin_release,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from slm_operator.partitioning.config_manager import Fault
    from slm_operator.planning.views import FleetView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import DaemonPodRecord, NodeRecord, PodRecord


def is_opted_in(node: NodeRecord, settings: Settings) -> bool:
    """Whether an administrator opted a node in."""
    return node.meta.labels.get(settings.nodes.opt_in_label) == "true"


def node_states(view: FleetView, settings: Settings, mps_fault: Fault | None = None) -> tuple[NodeState, ...]:
    """Every node with the pods that hold its GPUs, by name. `mps_fault`: of the MPS daemons wherever none is seen.

    NB: a replica is evicted, and holds up its node's change. So a label is not enough for one: its deployment must be there.
    """
    living = {owner_of(key) for key in (*(one.deployment for one in view.demands), *view.undecided)}
    by_node: dict[str, list[PodRecord]] = {}
    for pod in view.pods:
        if pod.node is not None and pod.holds_gpu:
            by_node.setdefault(pod.node, []).append(pod)
    config_label = settings.device_plugin.config_label
    texts = view.config_map.data if view.config_map is not None else {}
    parts: dict[str, list[DaemonPodRecord]] = {}
    for daemon in view.daemons:
        if daemon.node is not None:
            parts.setdefault(daemon.node, []).append(daemon)
    return tuple(
        NodeState(
            node=node,
            opted_in=is_opted_in(node, settings),
            requested_config=node.meta.labels.get(config_label),
            our_pods=tuple(pod for pod in holders if _is_of(pod, living)),
            busy_pods=tuple(pod for pod in holders if not _is_of(pod, living)),
            daemons=daemons,
            configured_class=configured_class(node.meta.labels.get(config_label), daemons, texts),
            base=base_of(owed_label(node, settings), daemons, texts),
            failures=_failures(node, daemons),
            mps_fault=fault_among(own) if (own := mps_managers(daemons)) else mps_fault,
        )
        for node in sorted(view.nodes, key=lambda node: node.meta.key)
        for holders in (by_node.get(node.meta.key.name, ()),)
        for daemons in (tuple(parts.get(node.meta.key.name, ())),)
    )


def _failures(node: NodeRecord, daemons: Iterable[DaemonPodRecord]) -> dict[str, str]:
    """What failed there, and is not to be tried again yet."""
    annotations, away = node.meta.annotations, not node.ready or driver_upgrade(node.meta.labels) is not None
    if is_over(annotations.get(names.FAILED_ON_ANNOTATION), plugin_release(daemons), away=away):
        return {}
    return failures_in(annotations.get(names.CHANGE_FAILED_ANNOTATION))


def owed_label(node: NodeRecord, settings: Settings) -> str | None:
    """The value that its owner has given the configuration label, which is not ours to lose. None: its owner has set none."""
    label = node.meta.labels.get(settings.device_plugin.config_label)
    if label is None or not is_ours(label):
        return label
    return node.meta.annotations.get(names.FORMER_CONFIG_ANNOTATION) or None


def _is_of(pod: PodRecord, owners: Collection[tuple[str, str]]) -> bool:
    return is_replica(pod) and owner_of_replica(pod) in owners
