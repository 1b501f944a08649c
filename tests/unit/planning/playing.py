"""A node's story: the fleet after an action, with a device plugin that converges at once and evictions that succeed at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_core.measurements import SharingMode
from slm_operator.api import names
from slm_operator.partitioning.plugin_config import class_of_key
from slm_operator.planning.actions import Action, EmitEvent, Evict, PatchConfig, PatchNode
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.watch.records import ConfigMapRecord, Meta, NodeRecord, Taint

from tests import builders as build

if TYPE_CHECKING:
    from slm_operator.partitioning.base import SliceClass
    from slm_operator.planning.views import FleetPlan, FleetView


def play_out(view: FleetView, start_s: float = 0, step_s: float = 10) -> tuple[FleetView, list[str], FleetPlan]:
    """Play a fleet until it wants nothing more; the narrative, one line an action."""
    reported: list[str] = []
    for tick in range(60):
        plan = plan_fleet(view, build.SETTINGS, build.later(start_s + tick * step_s))
        for action in plan.plan.actions:
            reported.append(line(action))
            view = play(view, action)
        if not plan.plan.actions and plan.plan.look_again_seconds is None:
            return view, reported, plan
    raise AssertionError("the fleet never settles:\n" + "\n".join(reported))


def line(action: object) -> str:
    match action:
        case PatchNode(node=node, labels=labels, taints=taints):
            changes = [f"{name.rpartition('/')[2]}={value}" for name, value in labels.items()]
            changes += (
                ["taint" if Taint(key=names.CHANGING_TAINT) in taints else "untaint"] if taints is not None else []
            )
            return f"node {node}: {' '.join(changes)}"
        case PatchConfig(add=add):
            return f"config: {' '.join(add)}"
        case Evict(pod=pod):
            return f"evict {pod}"
        case EmitEvent(reason=reason):
            return f"event {reason}"
        case _:
            return repr(action)


def play(view: FleetView, action: Action) -> FleetView:
    """The world after one action."""
    match action:
        case PatchNode():
            nodes = tuple(_patched(n, action) if n.meta.key.name == action.node else n for n in view.nodes)
            return _with_mps_daemons(replace(view, nodes=nodes))
        case PatchConfig():
            old = view.config_map
            assert old is not None
            assert not set(action.add) & set(old.data), "a key was edited"
            data = {key: text for key, text in (old.data | dict(action.add)).items() if key not in action.remove}
            return replace(view, config_map=ConfigMapRecord(meta=_annotated(old.meta, action.annotations), data=data))
        case Evict():
            stay = tuple(pod for pod in view.pods if pod.meta.key != action.pod)
            gone = (pod for pod in view.pods if pod.meta.key == action.pod)
            again = (replace(pod, node=None, phase="Pending", ready=False) for pod in gone)
            return replace(view, pods=(*stay, *again))
        case _:
            return view


def _patched(record: NodeRecord, action: PatchNode) -> NodeRecord:
    changed = replace(record, meta=_annotated(_labelled(record.meta, action.labels), action.annotations))
    if action.taints is not None:
        changed = replace(changed, taints=action.taints)
    key = build.SETTINGS.device_plugin.config_label
    if key not in action.labels:
        return changed
    assert action.only_if_free, "a configuration is switched without another look at who holds the GPUs"
    slice_class = _class_of(action.labels[key])
    gpus = int(record.meta.labels["nvidia.com/gpu.count"])
    return replace(
        changed,
        meta=_labelled(changed.meta, build.feature_labels(gpus, slice_class)),
        allocatable=build.slots(gpus, slice_class),
    )


def _with_mps_daemons(view: FleetView) -> FleetView:
    """NB: NVIDIA's MPS daemon cannot come while our taint is there; without it nothing is allocatable."""
    nodes, daemons = [], [one for one in view.daemons if one.part != "mps-control-daemon"]
    there = {one.node for one in view.daemons if one.part == "mps-control-daemon"}
    for one in view.nodes:
        name, gpus = one.meta.key.name, int(one.meta.labels["nvidia.com/gpu.count"])
        slice_class = _class_of(one.meta.labels.get(build.SETTINGS.device_plugin.config_label))
        if slice_class.mode is not SharingMode.MPS:
            nodes.append(one)
            continue
        runs = name in there or not tainted(one)
        daemons += [build.daemon("mps-control-daemon", name)] if runs else []
        nodes.append(
            replace(one, allocatable=build.slots(gpus, slice_class) | ({} if runs else {names.NVIDIA_SHARED_GPU: 0}))
        )
    return replace(view, nodes=tuple(nodes), daemons=tuple(daemons))


def _class_of(key: str | None) -> SliceClass:
    return class_of_key(key) or build.WHOLE


def _labelled(old: Meta, changes: Any) -> Meta:
    labels = {name: value for name, value in (dict(old.labels) | dict(changes)).items() if value is not None}
    return replace(old, labels=labels, resource_version=str(int(old.resource_version) + 1))


def _annotated(old: Meta, changes: Any) -> Meta:
    return replace(
        old,
        annotations={
            name: value for name, value in (dict(old.annotations) | dict(changes)).items() if value is not None
        },
    )


def tainted(record: NodeRecord) -> bool:
    return Taint(key=names.CHANGING_TAINT) in record.taints
