"""Steps that changing a node and giving it back share: close it, drain it, switch its label, and measure elapsed time.

Every function returns a NodeStep. Their order is documented in change.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.api.conditions import moment
from slm_operator.api.reasons import Reason
from slm_operator.partitioning.base import UNSHARED
from slm_operator.planning.actions import Action, EmitEvent, Evict, PatchNode
from slm_operator.planning.fleet.node import autoscalers
from slm_operator.planning.fleet.node.annotations import Marks, change_text, failures_text
from slm_operator.planning.fleet.node.state import NodeState, owner_of_replica
from slm_operator.planning.reader import AboutPods
from slm_operator.watch.records import Taint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from slm_operator.partitioning.base import SliceClass
    from slm_operator.planning.reader import Sentence
    from slm_operator.settings import Settings
    from slm_operator.watch.records import ConfigMapRecord, PodRecord

CHANGING = Taint(key=names.CHANGING_TAINT, value="", effect="NoSchedule")
WATCH_SECONDS = 30.0
"""When to look again although every change that is waited for is watched: if a piece of news was lost."""
SETTLE_SECONDS = 5.0
"""NB: the scheduler still binds what it placed before it saw the taint, and a bound pod needs a moment to be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The target of a node: its slice class, and the pods that this value of the serves label admits."""

    slice_class: SliceClass
    serves: str

    @property
    def marks(self) -> Marks:
        """The class and serves labels."""
        return Marks(self.slice_class.label, self.serves)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a change looks at beside its node."""

    config: ConfigMapRecord | None
    settings: Settings
    now: datetime
    wanted: frozenset[str] = frozenset()
    """Labels of all classes that some deployment wants."""
    stranded: frozenset[tuple[str, str]] = frozenset()
    """Whose replicas (namespace and label) are on nodes that exist no more.

    NB: for up to a minute, until Kubernetes collects such a pod, it counts as ready, and a PodDisruptionBudget would let the
    last replica go that really answers.
    """

    @property
    def config_label(self) -> str:
        """The node label that selects a configuration."""
        return self.settings.device_plugin.config_label

    @property
    def config_name(self) -> str:
        """The plugin's ConfigMap, for messages."""
        return f"{self.settings.device_plugin.namespace}/{self.settings.device_plugin.config_map}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStep:
    """The next step of one node."""

    actions: tuple[Action, ...] = ()
    reason: Reason = Reason.READY
    """Ready, NodeChanging, Draining, ForeignPods, NotSwitchable, Rollback, MpsSignalLost, SlicesDegraded."""
    stage: Sentence | None = None
    """What the node waits for. None when it has reached its target."""
    warning: Sentence | None = None
    """What is wrong on a node that has reached its target."""
    remark: tuple[Reason, Sentence] | None = None
    """What is worth knowing of a node that has reached its target and serves."""
    look_again_seconds: float | None = None
    needs_keys: Mapping[str, str] = field(default_factory=dict)
    """Configurations that the plugin's ConfigMap must have first: key to text."""

    @property
    def begins(self) -> bool:
        """Whether it begins a change: it closes a node, or a closed node gets another target."""
        patches = (action for action in self.actions if isinstance(action, PatchNode))
        return any(patch.annotations.get(names.CHANGING_TO_ANNOTATION) for patch in patches)

    @property
    def done(self) -> bool:
        """Whether the node has reached its target."""
        return self.stage is None


def close(state: NodeState, becomes: Marks, site: Site) -> NodeStep:
    """Nothing new may land; remember how the node was and what it is changed to."""
    annotations: dict[str, str | None] = {
        names.CHANGE_STARTED_ANNOTATION: site.now.isoformat(),
        names.CHANGING_TO_ANNOTATION: change_text(becomes, state.healthy_gpus),
        **autoscalers.keep(state),
    }
    if not state.switched:
        annotations[names.FORMER_CONFIG_ANNOTATION] = state.requested_config or ""
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        annotations=annotations,
        taints=(*without_ours(state), CHANGING),
        because=f"it will be {becomes}: first it is closed to new pods",
    )
    return NodeStep(
        actions=(patch, node_event(state, Reason.CHANGING, f"will be {becomes}")),
        reason=Reason.NODE_CHANGING,
        stage=f"node {state.name} is being drained",
        look_again_seconds=SETTLE_SECONDS,
    )


def drain(state: NodeState, site: Site) -> NodeStep | None:
    """Evict our replicas, wait for all others; None when the node has been empty for long enough.

    NB: whoever owns the replicas may keep them there for ever (a PodDisruptionBudget of its own): then others go on.
    """
    if state.our_pods:
        because = f"node {state.name} changes its slices, which would break a running engine"
        others = ": another replica is on a node that is gone, and must be replaced first"
        held = any(owner_of_replica(pod) in site.stranded for pod in state.our_pods)
        overdue = seconds_since_start(state, site.now) > site.settings.nodes.convergence_seconds
        slow = ": this takes long, so other nodes are changed meanwhile; does a PodDisruptionBudget hold them?"
        return NodeStep(
            actions=evictions(state.our_pods, because, site, changing_node=state.name),
            reason=Reason.DRAINING if overdue else Reason.NODE_CHANGING,
            stage=AboutPods(
                before=f"node {state.name} drains ",
                pods=state.our_pods,
                after=f"{others if held else ''}{slow if overdue else ''}",
                noun="replica",
            ),
            look_again_seconds=WATCH_SECONDS,
        )
    if state.busy_pods:
        ends = " to end: only replicas are ever evicted"
        waits = AboutPods(before=f"node {state.name} waits for ", pods=state.busy_pods, after=ends)
        return NodeStep(reason=Reason.FOREIGN_PODS, stage=waits)
    remaining = SETTLE_SECONDS - seconds_since_start(state, site.now)
    if remaining > 0:
        stage = f"node {state.name} is empty; pods that were placed before it was closed may still arrive"
        return NodeStep(reason=Reason.NODE_CHANGING, stage=stage, look_again_seconds=remaining)
    return None


def await_former_switch(state: NodeState, site: Site) -> NodeStep | None:
    """Wait until the node shows the configuration that its label named last; None when it does, or has had its time.

    NB: a label that is switched to and fro finds the node still showing what it will show in the end, long before it does.
    """
    missing = (
        lags_behind(state) if state.has_plugin else None
    )  # one that is not there loads what it finds when it comes
    remaining = site.settings.nodes.convergence_seconds - seconds_since_start(state, site.now)
    if missing is None or remaining <= 0:
        return None
    stage = f"node {state.name} is still loading its previous configuration: {missing}"
    return NodeStep(reason=Reason.NODE_CHANGING, stage=stage, look_again_seconds=until_overdue(state, site))


def lags_behind(state: NodeState) -> str | None:
    """What the node does not show yet of the configuration that its label names. One that cannot be read counts as unpartitioned."""
    expected = state.configured_class or UNSHARED
    if expected == UNSHARED:
        return state.misses(UNSHARED)
    # NB: somebody's own sharing may not be renamed, and an MPS daemon cannot come before our taint goes.
    if state.observed_class != expected:
        return f"feature discovery does not show {expected.label}"
    return None if state.is_closed_by_itself(expected) else state.misses(expected)


def switch_config_label(state: NodeState, key: str | None, because: str, site: Site) -> NodeStep:
    """Switch the configuration label. The marks go: no replica may come before the node has converged."""
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        labels={site.config_label: key, names.CLASS_LABEL: None, names.SERVES_LABEL: None},
        annotations={names.CHANGE_STARTED_ANNOTATION: site.now.isoformat()},
        only_if_free=True,
        because=because,
    )
    stage = f"node {state.name} was asked to load {key or 'its default configuration'}"
    return NodeStep(actions=(patch,), reason=Reason.NODE_CHANGING, stage=stage, look_again_seconds=WATCH_SECONDS)


def fail(state: NodeState, target: Target, why: str, site: Site) -> NodeStep:
    """Close the node, if a change has begun, and remember why. With that it is nobody's target, and is given back like any other."""
    failures = {**state.failures, target.slice_class.label: why}
    patch = PatchNode(
        node=state.name,
        resource_version=state.node.meta.resource_version,
        annotations={
            names.CHANGE_FAILED_ANNOTATION: failures_text(failures),
            names.FAILED_ON_ANNOTATION: state.failing_on,
        }
        | ({names.CHANGE_STARTED_ANNOTATION: site.now.isoformat()} if state.changing and not state.tainted else {}),
        taints=(*without_ours(state), CHANGING) if state.changing else None,
        because=f"it did not become {target.slice_class.label}: {why}; its former configuration will be restored",
    )
    said = f"did not become {target.slice_class.label}: {why}; its former configuration is restored"
    stage = f"node {state.name} is rolled back: {target.slice_class.label}: {why}"
    event = node_event(state, Reason.ROLLED_BACK, said, warning=True)
    return NodeStep(actions=(patch, event), reason=Reason.ROLLBACK, stage=stage, look_again_seconds=SETTLE_SECONDS)


def evictions(
    replicas: Iterable[PodRecord], because: str, site: Site, *, changing_node: str | None = None
) -> tuple[Action, ...]:
    """Of those that are not going already, and whose others are where they can answer."""
    return tuple(
        Evict(pod=pod.meta.key, uid=pod.meta.uid, changing_node=changing_node, because=because)
        for pod in replicas
        if not pod.meta.deleting and owner_of_replica(pod) not in site.stranded
    )


def without_ours(state: NodeState) -> tuple[Taint, ...]:
    """The node's taints but ours."""
    return tuple(taint for taint in state.node.taints if taint.key != names.CHANGING_TAINT)


def seconds_since_start(state: NodeState, now: datetime) -> float:
    """How long the present phase of a change has lasted."""
    return seconds_since(state.node.meta.annotations.get(names.CHANGE_STARTED_ANNOTATION), now)


def until_overdue(state: NodeState, site: Site) -> float:
    """When to look again at a node that converges: at once when it does (that is watched), else when its time is up."""
    return max(1.0, site.settings.nodes.convergence_seconds - seconds_since_start(state, site.now) + 1)


def is_of_the_future(state: NodeState, now: datetime) -> bool:
    """Whether the clock was set back since the change began, so that nothing would ever be overdue."""
    return seconds_since(state.node.meta.annotations.get(names.CHANGE_STARTED_ANNOTATION), now) < 0


def seconds_since(stamp: str | None, now: datetime) -> float:
    """Seconds since a stamp of ours, negative in its future. NB: an unreadable or missing stamp counts as long ago."""
    at = moment(stamp)
    return (now - at if at is not None else timedelta(days=1)).total_seconds()


def node_event(state: NodeState, reason: Reason, message: str, *, warning: bool = False) -> EmitEvent:
    """An event about the node."""
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
