"""Giving a node back: its former configuration, then every mark of ours off it, in one write at the end.

Same rules as changing it (change.py): nobody may hold a GPU while the label changes. What somebody else set the
label to meanwhile is theirs and stays. Must leave labels, annotations and taints as they were before us.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.api.reasons import Reason
from slm_operator.partitioning.node_slices import NODE_SLICES
from slm_operator.planning.actions import PatchNode
from slm_operator.planning.fleet.node import autoscalers
from slm_operator.planning.fleet.node.annotations import RELEASED, failures_text
from slm_operator.planning.fleet.node.parts import is_without_plugin, let_plugin_in
from slm_operator.planning.fleet.node.step import (
    NodeStep,
    await_former_switch,
    close,
    drain,
    is_of_the_future,
    lags_behind,
    node_event,
    seconds_since_start,
    switch_config_label,
    until_overdue,
    without_ours,
)

if TYPE_CHECKING:
    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.fleet.node.step import Site


def step_back(state: NodeState, site: Site, *, awaited: bool = False) -> NodeStep:
    """The next step of a node that nobody needs as it is. `awaited`: somebody waits for its whole GPUs."""
    if not state.marked:
        return _forget_failures(state, site)
    if not state.switched and not state.changing:
        return _open(state, site)
    if is_without_plugin(state):
        if state.tainted and (state.our_pods or state.busy_pods):
            return let_plugin_in(state, site.now)
    elif not state.tainted or is_of_the_future(state, site.now):
        return close(state, RELEASED, site)
    keeps_label = state.label_changed_externally or state.requested_config == state.former
    # NB: engines with a whole GPU each run on a node that was closed whose label was never switched: there they may stay.
    sliced = any(NODE_SLICES.resource in pod.gpu_requests for pod in state.our_pods)
    waiting = (
        _drain(state, site, awaited=awaited)
        if not state.label_changed_externally and (sliced or not keeps_label)
        else None
    )
    if waiting is None and not keeps_label:
        because = "no deployment needs its slices: it gets its former configuration back"
        waiting = await_former_switch(state, site) or switch_config_label(state, state.former, because, site)
    return waiting or _await_former_class(state, site) or _open(state, site)


def _drain(state: NodeState, site: Site, *, awaited: bool) -> NodeStep | None:
    """NB: where nobody waits for a node, a PDB may hold its last replicas for ever: others may be changed meanwhile."""
    waiting = drain(state, site)
    return (
        replace(waiting, reason=Reason.DRAINING) if waiting is not None and state.our_pods and not awaited else waiting
    )


def _await_former_class(state: NodeState, site: Site) -> NodeStep | None:
    # NB: the pod of a plugin that is not there cannot come under our taint, and loads what the label names when it comes.
    missing = lags_behind(state) if state.has_plugin and not state.label_changed_externally else None
    if missing is None or seconds_since_start(state, site.now) > site.settings.nodes.convergence_seconds:
        return None
    stage = f"node {state.name} goes back to its former configuration: {missing}"
    return NodeStep(reason=Reason.NODE_CHANGING, stage=stage, look_again_seconds=until_overdue(state, site))


def _open(state: NodeState, site: Site) -> NodeStep:
    annotations: dict[str, str | None] = dict.fromkeys(
        (names.FORMER_CONFIG_ANNOTATION, names.CHANGE_STARTED_ANNOTATION, names.CHANGING_TO_ANNOTATION)
    )
    failures = dict(_lasting(state, site))
    if state.label_changed_externally:
        why = f"another party set {site.config_label} to {state.requested_config}"
        failures |= dict.fromkeys(site.wanted, why)
    annotations[names.CHANGE_FAILED_ANNOTATION] = failures_text(failures)
    failed_on = state.failing_on if state.label_changed_externally else state.failed_on
    annotations[names.FAILED_ON_ANNOTATION] = failed_on if failures else None
    missing = lags_behind(state) if state.tainted and not state.label_changed_externally else None
    said = "has its former configuration"
    if missing is not None:
        said = f"is opened before its device plugin has gone back: {missing}; restart the plugin there before others use it"
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        labels={names.CLASS_LABEL: None, names.SERVES_LABEL: None},
        annotations={name: value for name, value in annotations.items() if value or name in state.node.meta.annotations}
        | autoscalers.let_go(state),
        taints=without_ours(state) if state.tainted else None,
        because=f"it {said}",
    )
    event = node_event(state, Reason.RELEASED, said, warning=missing is not None)
    return NodeStep(actions=(patch, event), reason=Reason.NODE_CHANGING, stage=f"node {state.name} is being opened")


def _forget_failures(state: NodeState, site: Site) -> NodeStep:
    """A failure is remembered for as long as somebody wants that class."""
    lasting, remembered = _lasting(state, site), state.node.meta.annotations.get(names.CHANGE_FAILED_ANNOTATION)
    if failures_text(lasting) == remembered and (lasting or state.failed_on is None):
        return NodeStep()
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        annotations={
            names.CHANGE_FAILED_ANNOTATION: failures_text(lasting),
            names.FAILED_ON_ANNOTATION: state.failed_on if lasting else None,
        },
        because="what failed here is wanted no more, or may be tried again",
    )
    return NodeStep(actions=(patch,))


def _lasting(state: NodeState, site: Site) -> dict[str, str]:
    return {label: why for label, why in state.failures.items() if label in site.wanted}
