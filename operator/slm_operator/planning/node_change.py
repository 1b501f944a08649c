"""Changing how one node's GPUs are cut: the next step, from what is seen and nothing else.

    idle --taint--> draining --(replicas gone, nobody else there)--> keyed --(key projected)--> switched --(converged)--> done
                        |                                                                        |  |
                        |                                       MPS: untaint for the daemon's pod --+  +-- timeout: former label,
                        +-- waits for pods that are not ours, for as long as they like                     say why

The state is only in the cluster (taint, labels, annotations, pods, ConfigMap): the operator may be killed between any
two steps and the next pass goes on. Traps that shape it (docs/gpu-sharing.md): a label change evicts nobody and breaks
running pods; only a change of the label loads a configuration; a label that names a key which has not reached the
node's volume makes the config-manager exit. Must never evict a pod that is not ours, nor edit a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.manifests.plugin_config import config_key, plugin_config
from slm_operator.observe.records import Taint
from slm_operator.planning.actions import Action, EmitEvent, Evict, PatchConfig, PatchNode
from slm_operator.planning.node_state import UNSHARED, NodeState, whose

if TYPE_CHECKING:
    from slm_operator.manifests.plugin_config import SliceClass
    from slm_operator.observe.records import ConfigMapRecord
    from slm_operator.settings import Settings

_TAINT = Taint(key=names.CHANGING_TAINT, value="", effect="NoSchedule")
_WATCH_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a node shall be: cut in this class, for the pods that this value of the serves label admits."""

    slice_class: SliceClass
    serves: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStep:
    """The next step of one node."""

    actions: tuple[Action, ...] = ()
    reason: str = "Ready"
    """Ready, NodeChanging, ForeignPods, Rollback."""
    stage: str | None = None
    """What the node waits for. None when it is as it shall be."""
    look_again_seconds: float | None = None

    @property
    def done(self) -> bool:
        """Whether the node is as it shall be."""
        return self.stage is None


def next_step(
    state: NodeState, target: Target | None, config: ConfigMapRecord, settings: Settings, now: datetime
) -> NodeStep:
    """The next step towards `target`; None releases the node and gives it its former label back."""
    if _is(state, target):
        return NodeStep()
    if not state.tainted and not _may_be_open(state, target, settings):
        return _taint(state, target, settings, now)
    if target is not None and _told(state, target, settings):
        return _converge(state, target, settings, now)
    if state.our_pods:
        return _drain(state)
    if state.busy_pods:
        pods = ", ".join(whose(pod) for pod in state.busy_pods)
        return NodeStep(
            reason="ForeignPods", stage=f"node {state.name} waits for {pods} to end: only replicas are ever evicted"
        )
    if target is None:
        return _release(state, config, settings, now)
    return _switch(state, target, config, settings, now)


def _is(state: NodeState, target: Target | None) -> bool:
    labels = state.node.meta.labels
    if target is None:
        return not state.marked
    marks = (labels.get(names.CLASS_LABEL), labels.get(names.SERVES_LABEL))
    return not state.changing and marks == (target.slice_class.label, target.serves)


def _may_be_open(state: NodeState, target: Target | None, settings: Settings) -> bool:
    """Whether a change may go on without our taint: it waits for the MPS daemon (docs/adr/0002-node-change.md)."""
    if target is None or not state.changing:
        return False
    return _told(state, target, settings) and state.is_closed_by_itself(target.slice_class)


def _told(state: NodeState, target: Target, settings: Settings) -> bool:
    return state.node.meta.labels.get(settings.device_plugin.config_label) == config_key(target.slice_class)


def _taint(state: NodeState, target: Target | None, settings: Settings, now: datetime) -> NodeStep:
    """Nothing new may land; remember how the node was."""
    what = f"cut into {target.slice_class.label} for {target.serves}" if target else "given back"
    annotations: dict[str, str | None] = {
        names.CHANGE_STARTED_ANNOTATION: now.isoformat(),
        names.CHANGE_FAILED_ANNOTATION: None,
    }
    if names.FORMER_CONFIG_ANNOTATION not in state.node.meta.annotations:
        former = state.node.meta.labels.get(settings.device_plugin.config_label, "")
        annotations[names.FORMER_CONFIG_ANNOTATION] = former
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        annotations=annotations,
        taints=(*state.node.taints, _TAINT),
        because=f"it will be {what}: first nothing new may land on it",
    )
    return NodeStep(
        actions=(patch, _event(state, "Changing", f"will be {what}")),
        reason="NodeChanging",
        stage=f"node {state.name} is being drained",
    )


def _drain(state: NodeState) -> NodeStep:
    evictions = tuple(
        Evict(
            pod=pod.meta.key,
            uid=pod.meta.uid,
            because=f"node {state.name} changes its slices, which would break a running engine",
        )
        for pod in state.our_pods
        if not pod.meta.deleting
    )
    waits = ", ".join(str(pod.meta.key) for pod in state.our_pods)
    return NodeStep(
        actions=evictions,
        reason="NodeChanging",
        stage=f"node {state.name} drains replicas {waits}",
        look_again_seconds=_WATCH_SECONDS,
    )


def _switch(state: NodeState, target: Target, config: ConfigMapRecord, settings: Settings, now: datetime) -> NodeStep:
    key = config_key(target.slice_class)
    if key not in config.data:
        return _add_key(state, target, config, key, now)
    return _set_label(state, config, key, settings, now)


def _converge(state: NodeState, target: Target, settings: Settings, now: datetime) -> NodeStep:
    missing = state.misses(target.slice_class)
    if missing is None:
        return _finish(state, target)
    if state.tainted and state.waits_for_daemon(target.slice_class):
        return _lift_taint(state, now)
    if _overdue(state, settings, now):
        return _give_up(state, target, missing, settings, now)
    stage = f"node {state.name} was told to cut its GPUs into {target.slice_class.label}: {missing}"
    return NodeStep(reason="NodeChanging", stage=stage, look_again_seconds=_WATCH_SECONDS)


def _add_key(state: NodeState, target: Target, config: ConfigMapRecord, key: str, now: datetime) -> NodeStep:
    patch = PatchConfig(
        config_map=config.meta.key,
        resource_version=config.meta.resource_version,
        add={key: plugin_config(target.slice_class)},
        annotations={f"{names.KEY_ADDED_ANNOTATION_PREFIX}{key}": now.isoformat()},
        because=f"node {state.name} needs a configuration for {target.slice_class.label}",
    )
    return NodeStep(
        actions=(patch,),
        reason="NodeChanging",
        stage=f"configuration {key} is being written",
        look_again_seconds=_WATCH_SECONDS,
    )


def _set_label(state: NodeState, config: ConfigMapRecord, key: str, settings: Settings, now: datetime) -> NodeStep:
    waited = _seconds_since(config.meta.annotations.get(f"{names.KEY_ADDED_ANNOTATION_PREFIX}{key}"), now)
    remaining = settings.nodes.projection_seconds - waited
    if remaining > 0:
        stage = f"configuration {key} is on its way into the volume of node {state.name}"
        return NodeStep(reason="NodeChanging", stage=stage, look_again_seconds=min(remaining, 30.0))
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        labels={settings.device_plugin.config_label: key, names.CLASS_LABEL: None, names.SERVES_LABEL: None},
        annotations={names.CHANGE_STARTED_ANNOTATION: now.isoformat()},
        because=f"no pod holds its GPUs and configuration {key} has been projected",
    )
    stage = f"node {state.name} was told to load {key}"
    return NodeStep(actions=(patch,), reason="NodeChanging", stage=stage, look_again_seconds=_WATCH_SECONDS)


def _lift_taint(state: NodeState, now: datetime) -> NodeStep:
    """NB: NVIDIA's MPS daemon does not tolerate our taint. No GPU and no slice is allocatable before it runs."""
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        annotations={names.CHANGE_STARTED_ANNOTATION: now.isoformat()},
        taints=_without_ours(state),
        because="its MPS control daemon cannot come under our taint, and before it comes there is nothing to allocate",
    )
    stage = f"node {state.name} waits for its MPS control daemon"
    return NodeStep(actions=(patch,), reason="NodeChanging", stage=stage, look_again_seconds=_WATCH_SECONDS)


def _finish(state: NodeState, target: Target) -> NodeStep:
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        labels={names.CLASS_LABEL: target.slice_class.label, names.SERVES_LABEL: target.serves},
        annotations={names.CHANGE_STARTED_ANNOTATION: None, names.CHANGE_FAILED_ANNOTATION: None},
        taints=_without_ours(state),
        because=f"its GPUs are cut into {target.slice_class.label}, as labels and allocatable show",
    )
    event = _event(state, "SlicesReady", f"{state.gpus} GPU(s) cut into {target.slice_class.label} for {target.serves}")
    return NodeStep(actions=(patch, event), reason="NodeChanging", stage=f"node {state.name} is being opened")


def _give_up(state: NodeState, target: Target, missing: str, settings: Settings, now: datetime) -> NodeStep:
    """Timeout: close the node and remember why. With that it is nobody's target, and is given back like any other."""
    why = f"{target.slice_class.label}: {missing} after {settings.nodes.convergence_seconds:.0f} s"
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        annotations={names.CHANGE_FAILED_ANNOTATION: why, names.CHANGE_STARTED_ANNOTATION: now.isoformat()},
        taints=(*_without_ours(state), _TAINT),
        because=f"it did not converge to {why}: its former configuration will be restored",
    )
    event = _event(state, "RolledBack", f"did not become {why}; its former configuration is restored", warning=True)
    return NodeStep(actions=(patch, event), reason="Rollback", stage=f"node {state.name} is rolled back: {why}")


def _release(state: NodeState, config: ConfigMapRecord, settings: Settings, now: datetime) -> NodeStep:
    label, former = settings.device_plugin.config_label, _former(state)
    if state.node.meta.labels.get(label) != former:
        patch = PatchNode(
            node=state.name,
            resource_version=state.node.meta.resource_version,
            labels={label: former, names.CLASS_LABEL: None, names.SERVES_LABEL: None},
            annotations={names.CHANGE_STARTED_ANNOTATION: now.isoformat()},
            because="no deployment needs its slices: it gets its former configuration back",
        )
        stage = f"node {state.name} was told to load its former configuration"
        return NodeStep(actions=(patch,), reason="NodeChanging", stage=stage, look_again_seconds=_WATCH_SECONDS)
    missing = state.misses(UNSHARED) if former is None or former not in config.data else None
    if missing is not None and not _overdue(state, settings, now):
        stage = f"node {state.name} goes back to its former configuration: {missing}"
        return NodeStep(reason="NodeChanging", stage=stage, look_again_seconds=_WATCH_SECONDS)
    ours = (names.FORMER_CONFIG_ANNOTATION, names.CHANGE_STARTED_ANNOTATION)
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        labels={names.CLASS_LABEL: None, names.SERVES_LABEL: None},
        annotations=dict.fromkeys(ours),
        taints=_without_ours(state),
        because="it is as it was before",
    )
    return NodeStep(
        actions=(patch, _event(state, "Released", "has its former configuration back")),
        reason="NodeChanging",
        stage=f"node {state.name} is being opened",
    )


def _former(state: NodeState) -> str | None:
    """The label's value before us; None when there was no label."""
    return state.node.meta.annotations.get(names.FORMER_CONFIG_ANNOTATION) or None


def _without_ours(state: NodeState) -> tuple[Taint, ...]:
    return tuple(taint for taint in state.node.taints if taint.key != names.CHANGING_TAINT)


def _overdue(state: NodeState, settings: Settings, now: datetime) -> bool:
    return (
        _seconds_since(state.node.meta.annotations.get(names.CHANGE_STARTED_ANNOTATION), now)
        > settings.nodes.convergence_seconds
    )


def _seconds_since(stamp: str | None, now: datetime) -> float:
    """Seconds since a stamp of ours. NB: an unreadable or missing stamp counts as long ago, one of the future as now."""
    try:
        then = datetime.fromisoformat(stamp or "")
    except ValueError:
        return timedelta(days=1).total_seconds()
    return max(0.0, (now - then).total_seconds())


def _event(state: NodeState, reason: str, message: str, *, warning: bool = False) -> EmitEvent:
    meta = state.node.meta
    return EmitEvent(
        api_version="v1",
        kind="Node",
        key=meta.key,
        uid=meta.uid,
        type="Warning" if warning else "Normal",
        reason=reason,
        message=f"node {state.name} {message}",
    )
