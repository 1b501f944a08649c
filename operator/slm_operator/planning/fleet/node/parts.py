"""NVIDIA's own pods on a node that changes: our taint must not keep them away.

Its DaemonSets tolerate `nvidia.com/gpu` and nothing of ours, so one whose pod ends while its node is closed makes no other. Where
nothing is allocatable nobody can land, and there the node is opened until the pod is on it. Part of change.py. Must never open
a node on which something can be had, but for slices that are complete when they appear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.api.reasons import Reason
from slm_operator.partitioning.node_slices import MPS_DAEMON
from slm_operator.planning.actions import PatchNode
from slm_operator.planning.fleet.node.step import (
    WATCH_SECONDS,
    NodeStep,
    fail,
    is_of_the_future,
    seconds_since_start,
    until_overdue,
    without_ours,
)

if TYPE_CHECKING:
    from datetime import datetime

    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.fleet.node.step import Site, Target

DISCOVERY_SECONDS = 60.0
"""How long after its last switch a node shows nothing new before its feature discovery is taken for kept away."""


def await_parts(state: NodeState, target: Target, site: Site) -> NodeStep | None:
    """Let a pod in that a closed node lacks, and wait for it; None where none is missing.

    NB: it is closed again once the pod is on it, which is before its devices are.
    """
    missing = _missing(state, target, site) if state.changing else None
    if missing is None:
        return None
    if state.tainted or is_of_the_future(state, site.now):
        because = f"{missing} is not there, which does not tolerate our taint, and nothing is allocatable that a pod could be given"
        return open_for(state, missing, because, site.now)
    limit = site.settings.nodes.convergence_seconds
    if seconds_since_start(state, site.now) > limit:
        return fail(state, target, f"{missing} did not come within {limit:.0f} s", site)
    return NodeStep(
        reason=Reason.NODE_CHANGING,
        stage=f"node {state.name} waits for {missing}, and is open meanwhile: nothing is allocatable there",
        look_again_seconds=until_overdue(state, site),
    )


def is_without_plugin(state: NodeState) -> bool:
    """Whether the device plugin's pod is not on a node that changes: then nobody can land there, whether it is closed or not."""
    return state.changing and not state.has_plugin and not state.offers_anything


def let_plugin_in(state: NodeState, now: datetime) -> NodeStep:
    """Open a node that is drained to be given back. NB: who holds its GPUs may stay for ever."""
    because = (
        "its device plugin's pod does not tolerate our taint, and nothing is allocatable that a pod could be given"
    )
    return open_for(state, "its device plugin's pod", because, now)


def await_mps_daemon(state: NodeState, now: datetime) -> NodeStep:
    """NB: it comes only now, when feature discovery has asked for it."""
    because = f"its {MPS_DAEMON.title} does not tolerate our taint, and no slice is allocatable before the daemon runs"
    return open_for(state, f"its {MPS_DAEMON.title}", because, now)


def open_for(state: NodeState, part: str, because: str, now: datetime) -> NodeStep:
    """Lift our taint, and count the time of what is waited for from now."""
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        annotations={names.CHANGE_STARTED_ANNOTATION: now.isoformat()},
        taints=without_ours(state),
        because=because,
    )
    return NodeStep(
        actions=(patch,),
        reason=Reason.NODE_CHANGING,
        stage=f"node {state.name} waits for {part}",
        look_again_seconds=WATCH_SECONDS,
    )


def _missing(state: NodeState, target: Target, site: Site) -> str | None:
    """The part of NVIDIA's stack that our taint may keep away, as a sentence names it."""
    if is_without_plugin(state):
        return "its device plugin's pod"
    if state.offers_anything:
        return None
    loads = state.is_requested(target.slice_class) and state.observed_class != target.slice_class
    # NB: nobody tells whether it has one; after a while it is worth a look, for nobody can land.
    silent = loads and (not state.tainted or seconds_since_start(state, site.now) > DISCOVERY_SECONDS)
    return "its feature discovery's pod (it shows nothing of what it was asked to load)" if silent else None
