"""Changing how one node's GPUs are partitioned: the next step, from observed state and nothing else.

    idle --(key projected)--> taint --> draining --(replicas gone, nobody else there)--> label switched --(converged)--> done
                                           |                                                        |  |
                                           |                       MPS: untaint for the daemon's pod --+  +-- timeout: say why, then give back
                                           +-- waits for pods that are not ours, for as long as they like
    done --taint--> draining --> label switched to the former key --(converged)--> as it was before      (release.py)

The state is only in the cluster (taint, labels, annotations, pods, ConfigMap): the operator may be killed between any
two steps and the next pass goes on. Traps that shape it (docs/concepts/gpu-sharing.md): a label change evicts nobody and breaks
running pods; only a change of the label loads a configuration; a label that names a key which has not reached the
node's volume makes the config-manager exit. Must never evict a pod that is not ours, nor change the label under a pod.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_core.sharing import sharing_of
from slm_core.wording import several

from slm_operator.api import names
from slm_operator.api.conditions import moment
from slm_operator.api.reasons import Reason
from slm_operator.partitioning.config_manager import doubt_of
from slm_operator.partitioning.node_slices import MPS_DAEMON, daemon_of
from slm_operator.planning.actions import PatchNode
from slm_operator.planning.fleet.node import autoscalers
from slm_operator.planning.fleet.node.annotations import Marks, change_text, failures_text
from slm_operator.planning.fleet.node.loading import await_keys, lost_keys, switch
from slm_operator.planning.fleet.node.parts import await_mps_daemon, await_parts
from slm_operator.planning.fleet.node.state import mps_managers
from slm_operator.planning.fleet.node.step import (
    SETTLE_SECONDS,
    WATCH_SECONDS,
    NodeStep,
    Site,
    Target,
    close,
    drain,
    evictions,
    fail,
    is_of_the_future,
    node_event,
    seconds_since_start,
    until_overdue,
    without_ours,
)
from slm_operator.planning.reader import AboutPods

if TYPE_CHECKING:
    from slm_operator.planning.fleet.node.state import NodeState


PARTIAL_SECONDS = 60.0
"""How long after its last switch a node waits for slices that its plugin does not offer."""
GIVE_UP_SECONDS = 86_400.0
"""How long replicas may be asked to leave a node. Then it stays what it was, and says so."""


def step_towards(state: NodeState, target: Target, site: Site) -> NodeStep:
    """The next step of a node towards `target`."""
    if not state.changing and state.marks == target.marks and _is_partitioned_for(state, target):
        return _watch_over(state, target, site)
    if state.partitioned_externally:
        return _adopt(state, target)
    requested = state.is_requested(target.slice_class)
    open_for_daemon = state.changing and requested and state.is_closed_by_itself(target.slice_class)
    waiting = (await_parts if state.changing or requested else await_keys)(state, target, site)
    if waiting is not None:
        return waiting
    if not state.tainted and not open_for_daemon:
        return close(state, target.marks, site)
    if state.purpose != target.marks or is_of_the_future(state, site.now):
        return _redirect(state, target.marks, site)
    if requested and state.marks in {target.marks, Marks()}:
        return _converge(state, target, site)
    waiting = _drain(state, target, site)
    if waiting is not None:
        return waiting
    return _converge(state, target, site) if requested else switch(state, target, site)


def _drain(state: NodeState, target: Target, site: Site) -> NodeStep | None:
    if state.our_pods and seconds_since_start(state, site.now) > GIVE_UP_SECONDS:
        # NB: what is remembered on the node is reported to everybody who would have it: no names.
        return fail(state, target, f"{several(len(state.our_pods), 'replica')} could not be evicted for a day", site)
    return drain(state, site)


def _is_partitioned_for(state: NodeState, target: Target) -> bool:
    return state.is_requested(target.slice_class) if state.switched else state.observed_class == target.slice_class


def _watch_over(state: NodeState, target: Target, site: Site) -> NodeStep:
    """The node is done. Find replicas that run without the daemon that runs now, and say what is amiss."""
    # NB: also while it is not ready: replicas from before it run on without it, or wait for one that will never answer them.
    needed, daemon = daemon_of(target.slice_class), state.daemon_pod(target.slice_class)
    if needed is not None and daemon is not None and daemon.started is not None:
        orphans = [pod for pod in state.our_pods if pod.started is not None and _before(pod.started, daemon.started)]
        if orphans:
            without = sharing_of(target.slice_class.mode).title
            because = f"it started before the {needed.title} of node {state.name}, so it runs without {without}"
            said = f" started before the {needed.title} of node {state.name}: without {without}, until replaced"
            return NodeStep(
                actions=evictions(orphans, because, site),
                reason=Reason.SLICES_DEGRADED,
                warning=AboutPods(pods=tuple(orphans), after=said, noun="replica"),
                look_again_seconds=WATCH_SECONDS,
            )
    missing, fault = state.misses(target.slice_class), state.fault_of_daemon(target.slice_class)
    needs_keys = lost_keys(state, target, site)
    if missing is None and fault is None:
        return NodeStep(needs_keys=needs_keys, remark=_remark(state, target, site))
    if missing is None:  # NB: nothing that runs is moved for what may happen
        warning = f"node {state.name} serves by chance: {fault}"
        return NodeStep(reason=Reason.MPS_SIGNAL_LOST, warning=warning, needs_keys=needs_keys)
    look = f"look at the pods in namespace {site.settings.device_plugin.namespace} on that node"
    remedy = look if fault is None else str(fault)
    return NodeStep(
        reason=Reason.SLICES_DEGRADED, warning=f"node {state.name}: {missing}; {remedy}", needs_keys=needs_keys
    )


def _remark(state: NodeState, target: Target, site: Site) -> tuple[Reason, str] | None:
    unhealthy = state.unhealthy(target.slice_class)
    if unhealthy is None:
        return None
    look = f"its device plugin's log in namespace {site.settings.device_plugin.namespace} says why (Xid)"
    return Reason.UNHEALTHY_GPU, f"{unhealthy}; {look}"


def _adopt(state: NodeState, target: Target) -> NodeStep:
    """Another party has already partitioned it as required: label it for its replicas and change nothing else."""
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        labels={names.CLASS_LABEL: target.slice_class.label, names.SERVES_LABEL: target.serves},
        because=f"its GPUs are already partitioned as {target.slice_class.label} by another party: it is used as it is",
    )
    event = node_event(state, Reason.ALLOCATED, f"is used as another party partitioned it, {target.marks}")
    return NodeStep(actions=(patch, event), reason=Reason.NODE_CHANGING, stage=f"node {state.name} is being opened")


def _redirect(state: NodeState, becomes: Marks, site: Site) -> NodeStep:
    """Another purpose, or a clock that was set back: note it and count time from now."""
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        annotations={
            names.CHANGE_STARTED_ANNOTATION: site.now.isoformat(),
            names.CHANGING_TO_ANNOTATION: change_text(becomes, state.healthy_gpus),
        },
        because=f"its change goes on, and it will be {becomes}",
    )
    stage = f"node {state.name} will be {becomes}"
    return NodeStep(actions=(patch,), reason=Reason.NODE_CHANGING, stage=stage, look_again_seconds=SETTLE_SECONDS)


def _converge(state: NodeState, target: Target, site: Site) -> NodeStep:
    fault, missing = state.fault_of_daemon(target.slice_class), state.misses(target.slice_class)
    if fault is not None and state.marks != target.marks:  # whatever it shows: it would be by chance
        return replace(fail(state, target, str(fault), site), reason=Reason.MPS_SIGNAL_LOST)
    if missing is None:
        return _await_the_rest(state, target, site) or _finish(state, target)
    if state.tainted and state.waits_for_daemon(target.slice_class):
        return await_mps_daemon(state, site.now)
    limit = site.settings.nodes.convergence_seconds
    if seconds_since_start(state, site.now) > limit:
        doubt = next(filter(None, map(doubt_of, mps_managers(state.daemons))), None)
        may_be = f" (the {MPS_DAEMON.title}'s config-manager {doubt})" if doubt is not None else ""
        return fail(state, target, f"{missing} after {limit:.0f} s{may_be}", site)
    stage = f"node {state.name} was asked to partition its GPUs as {target.slice_class.label}: {missing}"
    return NodeStep(reason=Reason.NODE_CHANGING, stage=stage, look_again_seconds=until_overdue(state, site))


def _await_the_rest(state: NodeState, target: Target, site: Site) -> NodeStep | None:
    """Wait a while for slices that are not offered; None where none is missing, or the node has had its time.

    NB: the plugin offers all at once, so what lacks then belongs to a GPU that it calls unhealthy, and may for ever.
    """
    unhealthy = state.unhealthy(target.slice_class)
    remaining = min(PARTIAL_SECONDS, site.settings.nodes.convergence_seconds) - seconds_since_start(state, site.now)
    if unhealthy is None or remaining <= 0:
        return None
    stage = f"node {state.name} is partitioned as {target.slice_class.label}: {unhealthy}; the others are used soon"
    return NodeStep(reason=Reason.NODE_CHANGING, stage=stage, look_again_seconds=remaining + 1)


def _finish(state: NodeState, target: Target) -> NodeStep:
    failures = {label: why for label, why in state.failures.items() if label != target.slice_class.label}
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        labels={names.CLASS_LABEL: target.slice_class.label, names.SERVES_LABEL: target.serves},
        annotations={
            names.CHANGE_STARTED_ANNOTATION: None,
            names.CHANGING_TO_ANNOTATION: None,
            names.CHANGE_FAILED_ANNOTATION: failures_text(failures),
            names.FAILED_ON_ANNOTATION: state.failed_on if failures else None,
            **autoscalers.let_go(state),
        },
        taints=without_ours(state) if state.tainted else None,
        because=f"its GPUs are partitioned as {target.slice_class.label}, as labels and allocatable show",
    )
    unhealthy = state.unhealthy(target.slice_class)
    said = f"has {several(state.gpus, 'GPU')} partitioned as {target.marks}{f': {unhealthy}' if unhealthy else ''}"
    reason = Reason.ALLOCATED if unhealthy is None else Reason.UNHEALTHY_GPU
    event = node_event(state, reason, said, warning=unhealthy is not None)
    return NodeStep(actions=(patch, event), reason=Reason.NODE_CHANGING, stage=f"node {state.name} is being opened")


def _before(first: str, second: str) -> bool:
    """Whether one time of the kubelet is before another."""
    earlier, later = moment(first), moment(second)
    return earlier is not None and later is not None and earlier < later
