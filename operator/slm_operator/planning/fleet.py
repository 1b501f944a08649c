"""One plan for all nodes: which node is cut how and for whom, and what each deployment gets.

Order of thought: nodes keep serving whom they serve; then each deployment that lacks slots, oldest name first, takes the
node that fits best; then nodes that serve nobody are released. The same world gives the same plan.
Must never touch a node that did not opt in, nor choose one whose GPUs somebody else holds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_runtime.document import SharingMode

from slm_operator.api import names
from slm_operator.manifests.metadata import serves_value
from slm_operator.planning.actions import Action, Plan
from slm_operator.planning.node_change import NodeStep, Target, next_step
from slm_operator.planning.node_state import (
    COMPUTE_MAJOR_LABEL,
    MIG_CONFIG_LABEL,
    PRODUCT_LABEL,
    NodeState,
    node_states,
    whose,
)
from slm_operator.planning.views import Assignment, Demand, FleetPlan, FleetView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from slm_operator.observe.records import Key
    from slm_operator.settings import Settings


@dataclass(slots=True)
class _Draft:
    """Targets while they are being decided. Only plan_fleet holds one."""

    targets: dict[str, Target] = field(default_factory=dict)
    refusals: dict[Key, list[str]] = field(default_factory=dict)


def plan_fleet(view: FleetView, settings: Settings, now: datetime) -> FleetPlan:
    """The next steps of all nodes, and every deployment's assignment."""
    states = node_states(view.nodes, view.pods, view.daemons)
    demands = sorted(view.demands, key=lambda demand: demand.deployment)
    draft = _Draft()
    for demand in demands:
        _keep(demand, states, draft)
    for demand in demands:
        _take(demand, states, draft, settings)
    steps = _steps(states, draft, view, settings, now)
    look_again = min(
        (step.look_again_seconds for step in steps.values() if step.look_again_seconds is not None), default=None
    )
    actions: tuple[Action, ...] = tuple(action for name in sorted(steps) for action in steps[name].actions)
    assignments = {demand.deployment: _assignment(demand, states, draft, steps, settings) for demand in demands}
    return FleetPlan(plan=Plan(actions=actions, look_again_seconds=look_again), assignments=assignments)


def target_of(demand: Demand) -> Target:
    """What a node must be to serve this demand."""
    serves = "any" if demand.any_neighbours else serves_value(demand.deployment)
    return Target(slice_class=demand.slice_class, serves=serves)


def slots_of(state: NodeState, demand: Demand) -> int:
    """Replicas of one demand that a node can hold."""
    return state.gpus * demand.slice_class.replicas_per_gpu


def _keep(demand: Demand, states: Iterable[NodeState], draft: _Draft) -> None:
    """Nodes that serve it, or are on their way to it, stay: nothing running is moved."""
    if demand.slice_class.mode is SharingMode.NONE:
        return
    target, lacking = target_of(demand), _lacking(demand, states, draft)
    for state in states:
        labels = state.node.meta.labels
        serves = (labels.get(names.CLASS_LABEL), labels.get(names.SERVES_LABEL)) == (
            target.slice_class.label,
            target.serves,
        )
        if serves and lacking > 0 and state.name not in draft.targets:
            draft.targets[state.name] = target
            lacking -= slots_of(state, demand)


def _take(demand: Demand, states: tuple[NodeState, ...], draft: _Draft, settings: Settings) -> None:
    if demand.slice_class.mode is SharingMode.NONE:
        return
    refused = draft.refusals.setdefault(demand.deployment, [])
    while _lacking(demand, states, draft) > 0:
        fitting: list[NodeState] = []
        refused.clear()
        for state in states:
            because = _refusal(state, demand, draft, settings)
            if because is None:
                fitting.append(state)
            else:
                refused.append(f"node {state.name}: {because}")
        if not fitting:
            return
        chosen = min(fitting, key=lambda state: _preference(state, demand))
        draft.targets[chosen.name] = target_of(demand)


def _lacking(demand: Demand, states: Iterable[NodeState], draft: _Draft) -> int:
    target = target_of(demand)
    return demand.replicas - sum(slots_of(state, demand) for state in states if draft.targets.get(state.name) == target)


def _preference(state: NodeState, demand: Demand) -> tuple[bool, bool, int, int, str]:
    """Least harm first: already on its way, already cut right, then the fewest GPUs too many, the fewest pods to drain."""
    serves = state.node.meta.labels.get(names.SERVES_LABEL) == serves_value(demand.deployment)
    cut = state.observed_class == demand.slice_class
    return (
        not (state.changing or serves),
        not cut,
        abs(slots_of(state, demand) - demand.replicas),
        len(state.our_pods),
        state.name,
    )


# Each check returns why a node cannot serve a demand, or None. In this order, the most lasting reason first.
def _refusal(state: NodeState, demand: Demand, draft: _Draft, settings: Settings) -> str | None:
    reasons = (check(state, demand, draft, settings) for check in _CHECKS)
    return next((reason for reason in reasons if reason is not None), None)


def _opted_in(state: NodeState, _demand: Demand, _draft: _Draft, _settings: Settings) -> str | None:
    if state.node.meta.labels.get(names.OPT_IN_LABEL) == "true":
        return None
    return f"did not opt in: label it {names.OPT_IN_LABEL}=true"


def _is_usable(state: NodeState, _demand: Demand, _draft: _Draft, _settings: Settings) -> str | None:
    if not state.node.ready:
        return "is not ready"
    return "is cordoned" if state.node.unschedulable else None


def _has_gpus(state: NodeState, _demand: Demand, _draft: _Draft, _settings: Settings) -> str | None:
    if state.gpus > 0:
        return None
    return "feature discovery shows no GPU (nvidia.com/gpu.count): install NVIDIA's device plugin with gfd.enabled=true"


def _is_product(state: NodeState, demand: Demand, _draft: _Draft, _settings: Settings) -> str | None:
    product = state.node.meta.labels.get(PRODUCT_LABEL)
    if demand.product is None or demand.product == product:
        return None
    return f"has {product}, not {demand.product}"


def _is_selected(state: NodeState, demand: Demand, _draft: _Draft, _settings: Settings) -> str | None:
    labels = state.node.meta.labels
    missing = [f"{name}={value}" for name, value in demand.node_selector.items() if labels.get(name) != value]
    return f"lacks label {', '.join(missing)}" if missing else None


def _is_tolerated(state: NodeState, demand: Demand, _draft: _Draft, _settings: Settings) -> str | None:
    # NB: node.kubernetes.io/* taints come and go with conditions, which `ready` and `unschedulable` already say.
    own = (names.CHANGING_TAINT, "node.kubernetes.io/")
    strange = [
        taint.key
        for taint in state.node.taints
        if taint.effect != "PreferNoSchedule"
        and not taint.key.startswith(own)
        and not {taint.key, "*"} & set(demand.tolerated)
    ]
    return f"has taint {', '.join(strange)}: add a toleration to spec.accelerator.tolerations" if strange else None


def _can_be_switched(state: NodeState, demand: Demand, _draft: _Draft, settings: Settings) -> str | None:
    if state.observed_class == demand.slice_class:
        return None
    if MIG_CONFIG_LABEL in state.node.meta.labels and "all-disabled" not in state.node.meta.labels[MIG_CONFIG_LABEL]:
        return f"is managed by MIG ({MIG_CONFIG_LABEL}): disable MIG there or use another node"
    if not state.has_config_manager:
        plugin = settings.device_plugin
        return (
            f"has no config-manager beside its device plugin, so it cannot be switched by label: install the plugin with "
            f"config maps (Helm value config.name={plugin.config_map}) in namespace {plugin.namespace}"
        )
    return None


def _is_cut_so_far(state: NodeState, demand: Demand, _draft: _Draft, _settings: Settings) -> str | None:
    """MPS serves 48 clients from compute capability 7.5, 16 before."""
    major = state.node.meta.labels.get(COMPUTE_MAJOR_LABEL, "8")
    limit = 48 if not major.isdigit() or int(major) >= 7 else 16
    if demand.slice_class.replicas_per_gpu > limit:
        return f"{demand.slice_class.replicas_per_gpu} slices of a GPU are more than the {limit} that its GPU allows"
    return None


def _has_memory(state: NodeState, demand: Demand, _draft: _Draft, _settings: Settings) -> str | None:
    slice_bytes = state.gpu_bytes // demand.slice_class.replicas_per_gpu
    if demand.slice_bytes is None or slice_bytes == 0 or demand.slice_bytes <= slice_bytes:
        return None
    return f"a slice has {slice_bytes >> 20} MiB, a replica needs {demand.slice_bytes >> 20} MiB"


def _failed_before(state: NodeState, demand: Demand, _draft: _Draft, _settings: Settings) -> str | None:
    failed = state.node.meta.annotations.get(names.CHANGE_FAILED_ANNOTATION, "")
    if not failed.startswith(f"{demand.slice_class.label}:"):
        return None
    return f"was rolled back ({failed}): mend it, then remove its annotation {names.CHANGE_FAILED_ANNOTATION}"


def _is_free(state: NodeState, demand: Demand, draft: _Draft, _settings: Settings) -> str | None:
    if state.name in draft.targets:
        return f"serves {draft.targets[state.name].serves}"
    on_its_way = state.changing or state.node.meta.labels.get(names.SERVES_LABEL) == serves_value(demand.deployment)
    if state.busy_pods and not on_its_way:
        return f"its GPU is held by {', '.join(whose(pod) for pod in state.busy_pods)}"
    return None


_CHECKS = (
    _opted_in,
    _is_usable,
    _has_gpus,
    _is_product,
    _is_selected,
    _is_tolerated,
    _can_be_switched,
    _is_cut_so_far,
    _has_memory,
    _failed_before,
    _is_free,
)


def _steps(
    states: Iterable[NodeState], draft: _Draft, view: FleetView, settings: Settings, now: datetime
) -> Mapping[str, NodeStep]:
    """One step for every node that is not as it shall be; no more than maxChanging nodes leave their idle state."""
    steps: dict[str, NodeStep] = {}
    config = view.config_map
    room = settings.nodes.max_changing - sum(state.changing for state in states)
    for state in states:
        target = draft.targets.get(state.name)
        if target is None and not state.marked:
            continue
        if config is None:
            where = f"{settings.device_plugin.namespace}/{settings.device_plugin.config_map}"
            stage = f"ConfigMap {where} of the device plugin does not exist: create it, or set devicePlugin.configMap to its name"
            steps[state.name] = NodeStep(reason="NotSwitchable", stage=stage)
            continue
        step = next_step(state, target, config, settings, now)
        if step.actions and not state.changing:
            if room <= 0:
                step = NodeStep(
                    reason="NodeChanging", stage=f"node {state.name} waits until other nodes have been changed"
                )
            room -= 1
        steps[state.name] = step
    return steps


def _assignment(
    demand: Demand, states: Iterable[NodeState], draft: _Draft, steps: Mapping[str, NodeStep], settings: Settings
) -> Assignment:
    if demand.slice_class.mode is SharingMode.NONE:
        return _whole_gpus(demand, states, draft, settings)
    target = target_of(demand)
    mine = [state for state in states if draft.targets.get(state.name) == target]
    ready = [state for state in mine if steps[state.name].done]
    changing = [state for state in mine if not steps[state.name].done]
    slots = sum(slots_of(state, demand) for state in ready)
    planned = slots + sum(slots_of(state, demand) for state in changing)
    stage = next((steps[state.name].stage for state in changing), None)
    pending, reason = None, "Ready"
    if slots < demand.replicas and changing:
        reason, pending = steps[changing[0].name].reason, stage
    if planned < demand.replicas:
        reason, pending = _shortage(demand, planned, draft.refusals.get(demand.deployment, []))
    return Assignment(
        nodes=tuple(state.name for state in ready),
        slots=slots,
        changing=tuple(state.name for state in changing),
        stage=stage,
        reason=reason,
        pending_because=pending,
    )


def _whole_gpus(demand: Demand, states: Iterable[NodeState], draft: _Draft, settings: Settings) -> Assignment:
    """One engine a GPU needs no cutting: the scheduler finds the GPUs, and this says how many there can be."""
    refused: list[str] = []
    fitting: list[NodeState] = []
    checks = (_opted_in, _is_usable, _has_gpus, _is_product, _is_selected, _is_tolerated)
    for state in states:
        because = next((why for check in checks if (why := check(state, demand, draft, settings)) is not None), None)
        if because is None and names.NVIDIA_GPU not in state.node.allocatable:
            because = "has no nvidia.com/gpu allocatable"
        if because is None and (state.name in draft.targets or state.node.allocatable[names.NVIDIA_GPU] == 0):
            because = "its GPUs are cut into slices"
        if because is None:
            fitting.append(state)
        else:
            refused.append(f"node {state.name}: {because}")
    held = sum(
        sum(pod.gpu_requests.values())
        for state in fitting
        for pod in (*state.our_pods, *state.busy_pods)
        if not _is_mine(pod.meta.labels, demand)
    )
    slots = max(0, sum(state.node.allocatable[names.NVIDIA_GPU] for state in fitting) - held)
    reason, pending = ("Ready", None) if slots >= demand.replicas else _shortage(demand, slots, refused)
    return Assignment(nodes=tuple(state.name for state in fitting), slots=slots, reason=reason, pending_because=pending)


def _is_mine(labels: Mapping[str, str], demand: Demand) -> bool:
    return labels.get(names.DEPLOYMENT_LABEL) == demand.deployment.name


def _shortage(demand: Demand, slots: int, refused: list[str]) -> tuple[str, str]:
    """Reason and sentence when no more nodes can be had."""
    wanted = f"{demand.replicas} replica(s) want {demand.slice_class.label} GPUs and {slots} can be placed"
    if not refused:
        return "NoNode", f"{wanted}: no node opted in; label GPU nodes {names.OPT_IN_LABEL}=true"
    reason = "ForeignPods" if all("is held by" in line for line in refused) else "NoCapacity"
    common = Counter(refused).most_common(5)
    return reason, f"{wanted}: " + "; ".join(line for line, _ in common)
