"""Whether a node can serve a demand: an ordered chain of checks, which is the specification.

Each check answers None, or why the node cannot, as the rest of a sentence that begins with the node. The most lasting reason
comes first. Nothing here looks at other demands or at what the fleet has decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from slm_core.sharing import sharing_of

from slm_operator.api import names
from slm_operator.api.reasons import Reason
from slm_operator.partitioning.base import UNSHARED
from slm_operator.partitioning.discovery import (
    COMPUTE_MAJOR_LABEL,
    COMPUTE_MINOR_LABEL,
    DRIVER_UPGRADE_LABEL,
    PRODUCT_LABEL,
    compute_capability,
)
from slm_operator.partitioning.node_slices import NODE_SLICES
from slm_operator.partitioning.whole_gpus import WHOLE_GPUS
from slm_operator.planning.fleet.tolerations import is_for_long, tolerates
from slm_operator.planning.reader import AboutPods

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.reader import Sentence
    from slm_operator.planning.views import Demand
    from slm_operator.settings import Settings

    Check = Callable[[NodeState, Demand, Settings], Sentence | None]


class Unfit(NamedTuple):
    """Why a node cannot serve a demand."""

    reason: Reason
    """Of the condition, where no node can."""
    because: Sentence
    """The rest of a sentence that begins with the node."""


class Answers:
    """Answers of the checks for one world, asked once for all nodes that are alike and all demands that are alike."""

    def __init__(self, settings: Settings, demands: Iterable[Demand]) -> None:
        """`demands` are all that will be asked about: the labels that they select by make nodes unlike."""
        self._settings = settings
        self._selectors = tuple(sorted({name for demand in demands for name in demand.node_selector}))
        numbers: dict[Hashable, int] = {}
        self._asks = {one.deployment: numbers.setdefault(_asks(one), len(numbers)) for one in demands}
        self._likeness: dict[str, Hashable] = {}
        self._known: dict[Hashable, Unfit | None] = {}

    def to_serve(self, state: NodeState, demand: Demand) -> Unfit | None:
        """Why a node cannot be partitioned for a demand, or None when it can."""
        return self._ask(_TO_SERVE, state, demand)

    def to_give_whole(self, state: NodeState, demand: Demand) -> Unfit | None:
        """Why a node cannot give a demand whole GPUs, or None when it can."""
        return self._ask(_TO_GIVE_WHOLE, state, demand)

    def to_empty(self, state: NodeState, demand: Demand) -> Unfit | None:
        """Why a node that is given back would not give a demand whole GPUs, or None when it would."""
        return self._ask(_TO_EMPTY, state, demand)

    def to_stay(self, state: NodeState, demand: Demand) -> Unfit | None:
        """Why a node that serves a demand, or is on its way, must not any longer."""
        return self._ask(_TO_STAY, state, demand)

    def to_divide(self, state: NodeState, demand: Demand) -> Unfit | None:
        """Why a node can never be partitioned for a demand, or None when it can sooner or later."""
        return self._ask(_TO_DIVIDE, state, demand)

    def to_have_whole(self, state: NodeState, demand: Demand) -> Unfit | None:
        """Why a node can never give a demand whole GPUs, or None when it can sooner or later."""
        return self._ask(_TO_HAVE_WHOLE, state, demand)

    def ask_of(self, demand: Demand) -> int:
        """Equal for demands that get the same answers, but for nodes where replicas run."""
        return self._asks[demand.deployment]

    def likeness(self, state: NodeState) -> Hashable:
        """Equal for nodes that get the same answers."""
        found = self._likeness.get(state.name)
        if found is None:
            found = self._likeness[state.name] = _likeness(state, self._selectors)
        return found

    def _ask(self, checks: tuple[Check, ...], state: NodeState, demand: Demand) -> Unfit | None:
        # Whose pods a node has is looked at by the checks before a node is partitioned, and by no others.
        whose_pods = demand.deployment if checks is _TO_SERVE and state.our_pods else None
        question = (id(checks), self._asks[demand.deployment], self.likeness(state), whose_pods)
        if question not in self._known:
            answers = ((check, check(state, demand, self._settings)) for check in checks)
            failed = ((check, why) for check, why in answers if why is not None)
            self._known[question] = next(
                (Unfit(_REASONS.get(check, Reason.NO_CAPACITY), why) for check, why in failed), None
            )
        return self._known[question]


def _likeness(state: NodeState, selectors: tuple[str, ...]) -> Hashable:
    """Everything that a check looks at. NB: a node with pods or marks is like no other."""
    if state.our_pods or state.busy_pods or state.marked:
        return state.name
    labels = state.node.meta.labels
    known = (PRODUCT_LABEL, COMPUTE_MAJOR_LABEL, COMPUTE_MINOR_LABEL)
    return (
        tuple(labels.get(name) for name in (*known, *selectors)),
        (
            state.opted_in,
            state.paused,
            state.node.ready,
            state.upgrading,
            state.node.unschedulable,
            state.node.taints,
            state.has_config_manager,
        ),
        (state.gpus, state.gpu_bytes, state.observed_class, state.configured_class, state.parts),
        state.base if state.base.fault is not None else None,
        (tuple(state.failures.items()), tuple(state.node.allocatable.items()), state.mps_fault),
    )


def _asks(demand: Demand) -> Hashable:
    """Everything of a demand that a check looks at, but for whose it is, which matters only where replicas run."""
    selector = tuple(sorted(demand.node_selector.items()))
    return (demand.slice_class, demand.product, selector, demand.tolerations, demand.slice_bytes)


def _opted_in(state: NodeState, _demand: Demand, settings: Settings) -> str | None:
    return None if state.opted_in else f"did not opt in: label it {settings.nodes.opt_in_label}=true"


def _is_usable(state: NodeState, _demand: Demand, _settings: Settings) -> str | None:
    if not state.node.ready:
        return "is not ready"
    if state.upgrading is not None:
        return f"has its driver upgraded ({DRIVER_UPGRADE_LABEL}={state.upgrading})"
    return "is cordoned" if state.node.unschedulable else None


def _can_be_whole(state: NodeState, _demand: Demand, _settings: Settings) -> str | None:
    return state.parts.because if state.parts is not None and state.parts.for_good else None


def _has_gpus(state: NodeState, _demand: Demand, _settings: Settings) -> str | None:
    if state.gpus > 0:
        return None
    return "feature discovery shows no GPU (nvidia.com/gpu.count): install NVIDIA's device plugin with gfd.enabled=true"


def _has_healthy_gpus(state: NodeState, _demand: Demand, _settings: Settings) -> str | None:
    """NB: of a node that is partitioned already, nothing is allocatable while its MPS daemon is away, too."""
    if state.changing or state.observed_class != UNSHARED or state.node.allocatable.get(WHOLE_GPUS.resource):
        return None
    return f"offers none of its GPUs (0 of {state.gpus} {WHOLE_GPUS.resource} are allocatable): see its device plugin's log"


def _is_product(state: NodeState, demand: Demand, _settings: Settings) -> str | None:
    product = state.node.meta.labels.get(PRODUCT_LABEL)
    if demand.product is None or demand.product == product:
        return None
    return f"has {product}, not {demand.product}"


def _is_selected(state: NodeState, demand: Demand, _settings: Settings) -> str | None:
    labels = state.node.meta.labels
    missing = [f"{name}={value}" for name, value in demand.node_selector.items() if labels.get(name) != value]
    return f"lacks label {', '.join(missing)}" if missing else None


def _is_tolerated(state: NodeState, demand: Demand, _settings: Settings) -> str | None:
    # NB: taints of conditions say what `ready` and `unschedulable` already do, and the operator's own goes in the end.
    strange = [
        f"{taint.key}{f'={taint.value}' if taint.value else ''}:{taint.effect}"
        for taint in state.node.taints
        if is_for_long(taint) and taint.key != names.CHANGING_TAINT and not tolerates(demand.tolerations, taint)
    ]
    return f"has taint {', '.join(strange)}: add a toleration to spec.accelerator.tolerations" if strange else None


def _is_ours_to_partition(state: NodeState, demand: Demand, settings: Settings) -> str | None:
    if state.repartitioned_externally:
        return "was repartitioned by another party"
    if state.label_changed_externally:
        return f"had {settings.device_plugin.config_label} set to {state.requested_config} by another party"
    if state.parts is None or not state.partitioned_externally:
        return None
    if state.observed_class in {None, UNSHARED}:
        return f"{state.parts.because}: it was partitioned by another party, and cannot be used"
    if state.lags:
        return _lag(state, settings)
    if state.observed_class != demand.slice_class:
        return f"was partitioned as {state.observed_class.label} by another party: it is used as it is, or not at all"
    if not state.node.allocatable.get(NODE_SLICES.resource):
        return f"was partitioned by another party without renaming: its slices are not {NODE_SLICES.resource} (renameByDefault)"
    return None


def _lag(state: NodeState, settings: Settings) -> str:
    plugin, shown = settings.device_plugin, state.observed_class
    says = state.configured_class.label if state.configured_class else "nothing that can be read"
    return (
        f"shows {shown.label if shown else 'nothing'}, and its configuration in ConfigMap {plugin.namespace}/{plugin.config_map} "
        f"says {says}: restart its device plugin, or correct devicePlugin.configMap"
    )


def _can_be_switched(state: NodeState, demand: Demand, settings: Settings) -> str | None:
    if state.observed_class == demand.slice_class:
        return None
    plugin, base = settings.device_plugin, state.base
    if state.has_config_manager:
        return base.fault and (
            f"has the configuration {base.key} of ConfigMap {plugin.namespace}/{plugin.config_map}, on which no other can be "
            f"built: it {base.fault}; correct it"
        )
    return (
        f"has no config-manager beside its device plugin, so it cannot be switched by label: install the plugin with "
        f"config maps (Helm value config.name={plugin.config_map}) in namespace {plugin.namespace}"
    )


def _holds_configuration(state: NodeState, demand: Demand, _settings: Settings) -> str | None:
    """NB: before any MPS daemon runs nobody can say. Then a node is changed for whoever asks for MPS, and its daemon's pod tells."""
    fault = state.fault_of_daemon(demand.slice_class)
    if fault is None:
        return None
    failed = demand.slice_class.label in state.failures
    forget = f"; then remove its annotation {names.CHANGE_FAILED_ANNOTATION}" if failed else ""
    return f"cannot be had for MPS: {fault}{forget}"


def _is_shared_so_far(state: NodeState, demand: Demand, _settings: Settings) -> str | None:
    wanted = demand.slice_class
    limit = sharing_of(wanted.mode).most_engines(compute_capability(state.node.meta.labels))
    if limit is not None and wanted.engines_per_gpu > limit:
        return f"{wanted.engines_per_gpu} slices of a GPU are more than the {limit} that its GPU allows"
    return None


def _has_memory(state: NodeState, demand: Demand, _settings: Settings) -> str | None:
    wanted = demand.slice_class
    slice_bytes = sharing_of(wanted.mode).memory_share(state.gpu_bytes, wanted.engines_per_gpu)
    if demand.slice_bytes is None or slice_bytes == 0 or demand.slice_bytes <= slice_bytes:
        return None
    return f"a slice has {slice_bytes >> 20} MiB, a replica needs {demand.slice_bytes >> 20} MiB"


def _failed_before(state: NodeState, demand: Demand, _settings: Settings) -> str | None:
    failed = state.failures.get(demand.slice_class.label)
    if failed is None:
        return None
    remedy = f"fix it, then remove its annotation {names.CHANGE_FAILED_ANNOTATION}"
    return f"was rolled back ({failed}): {remedy}; it is tried once more after a restart of the node or with another device plugin"


def _is_free(state: NodeState, demand: Demand, _settings: Settings) -> AboutPods | None:
    if state.partitioned_externally and state.observed_class == demand.slice_class:
        return None
    others = len(state.our_pods) - state.pods_of(demand.deployment)
    # NB: engines with a whole GPU each leave no mark on their node, which makes them no less worth keeping.
    held = state.busy_pods if any(state.marks) or state.changing or not others else (*state.busy_pods, *state.our_pods)
    return AboutPods(before="its GPU is held by ", pods=held) if held else None


def _is_whole(state: NodeState, _demand: Demand, _settings: Settings) -> str | None:
    if state.changing:
        return "is being repartitioned or given back"
    if state.parts is not None:
        return state.parts.because
    return None if state.whole_gpus else f"has no {WHOLE_GPUS.resource} allocatable"


def _may_change(state: NodeState, _demand: Demand, _settings: Settings) -> str | None:
    """NB: also where it has the slices already: whom it serves stands in its labels, which are held too."""
    return f"is held by its annotation {names.PAUSED_ANNOTATION}" if state.paused else None


def _goes_back(state: NodeState, _demand: Demand, _settings: Settings) -> str | None:
    return None if state.switched and not state.label_changed_externally else "was partitioned by another party"


_REASONS: Mapping[Check, Reason] = {_is_free: Reason.FOREIGN_PODS, _holds_configuration: Reason.MPS_SIGNAL_LOST}
_TO_STAY = (_opted_in, _is_product, _is_selected, _is_ours_to_partition, _failed_before)
_FITS = (_opted_in, _is_usable, _can_be_whole, _has_gpus, _is_product, _is_selected, _is_tolerated)
_TO_HAVE_WHOLE = (_opted_in, _can_be_whole, _has_gpus, _is_product, _is_selected, _is_tolerated)
_TO_DIVIDE = (
    *_TO_HAVE_WHOLE,
    _is_ours_to_partition,
    _can_be_switched,
    _holds_configuration,
    _is_shared_so_far,
    _has_memory,
    _failed_before,
)
_TO_GIVE_WHOLE = (*_FITS, _is_whole)
_TO_EMPTY = (*_FITS, _may_change, _goes_back, _is_free)
_TO_SERVE = (
    *_FITS,
    _may_change,
    _is_ours_to_partition,
    _can_be_switched,
    _holds_configuration,
    _is_shared_so_far,
    _has_memory,
    _failed_before,
    _has_healthy_gpus,
    _is_free,
)
