"""Nodes that are away for a while: the GPU Operator upgrades their driver, or they are not ready.

An upgrade cordons the node, ends what holds its GPUs, and makes driver and device plugin anew. None of those pods tolerates our
taint, so where the upgrade's own cordon stands ours gives way. No change begins then, the time of one under way does not count, and
what failed before may be tried once more after it. Source of the states: k8s-operator-libs, pkg/upgrade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.api.reasons import Reason
from slm_operator.partitioning.discovery import DRIVER_UPGRADE_LABEL
from slm_operator.planning.actions import PatchNode
from slm_operator.planning.fleet.node.annotations import AWAY
from slm_operator.planning.fleet.node.step import WATCH_SECONDS, NodeStep, seconds_since_start, without_ours

if TYPE_CHECKING:
    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.fleet.node.step import Site


def as_it_is_there(state: NodeState, step: NodeStep, site: Site) -> NodeStep:
    """A node's next step, where the node can take it."""
    step = _during_upgrade(state, step, site) if state.upgrading is not None else step
    if state.away and state.failures and state.failed_on != AWAY and not step.actions:
        return _remember(state, step)
    return step


def _during_upgrade(state: NodeState, step: NodeStep, site: Site) -> NodeStep:
    said = f"node {state.name} has its driver upgraded ({DRIVER_UPGRADE_LABEL}={state.upgrading})"
    if not state.changing:
        waits = NodeStep(reason=Reason.DRIVER_UPGRADE, stage=f"{said}: it is changed when that is done")
        return waits if step.begins else step
    is_late = not 0 <= seconds_since_start(state, site.now) <= site.settings.nodes.convergence_seconds / 2
    if state.node.unschedulable:
        lifts = (_keep_time(state, site, f"{said} and is cordoned for that"),) if state.tainted or is_late else ()
        stage = f"{said}: its change goes on when that is done"
        return NodeStep(actions=lifts, reason=Reason.DRIVER_UPGRADE, stage=stage, look_again_seconds=WATCH_SECONDS)
    if not is_late or step.begins:
        return step
    return NodeStep(
        actions=(_keep_time(state, site, said),),
        reason=Reason.DRIVER_UPGRADE,
        stage=f"{said}: its change goes on, and may take longer",
        look_again_seconds=WATCH_SECONDS,
    )


def _keep_time(state: NodeState, site: Site, because: str) -> PatchNode:
    """NB: the driver's own pod does not tolerate our taint, and the upgrade would wait for it for ever."""
    cordoned = state.node.unschedulable and state.tainted
    return PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        annotations={names.CHANGE_STARTED_ANNOTATION: site.now.isoformat()},
        taints=without_ours(state) if cordoned else None,
        because=f"{because}: what passes meanwhile is no time of its change",
    )


def _remember(state: NodeState, step: NodeStep) -> NodeStep:
    """Once it is back, what failed there may be tried again."""
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        annotations={names.FAILED_ON_ANNOTATION: AWAY},
        because="it is away, and what failed there may be tried once more when it is back",
    )
    return NodeStep(
        actions=(patch,),
        reason=step.reason,
        stage=step.stage,
        warning=step.warning,
        remark=step.remark,
        look_again_seconds=step.look_again_seconds,
        needs_keys=step.needs_keys,
    )
