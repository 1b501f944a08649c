"""Bugs put in on purpose: each is a planner with one promise forgotten. The harness must find every one of them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.manifests import profile, replicas
from slm_operator.partitioning.base import UNSHARED, class_of_label
from slm_operator.partitioning.plugin_config import NO_BASE, config_key, plugin_config
from slm_operator.planning.actions import Action, Evict, PatchConfig, PatchNode
from slm_operator.planning.deployment import going_on, kept, rollout
from slm_operator.planning.deployment import plan as deployment_plan
from slm_operator.planning.deployment.own_replicas import own_replicas
from slm_operator.planning.fleet import product
from slm_operator.planning.fleet.node import change, loading, parts, release, state, states, step
from slm_operator.planning.fleet.node.annotations import RELEASED, change_in
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.reconcile import event_mapping

from .objects import CONFIG_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from slm_operator.advisor.advice import Advice
    from slm_operator.partitioning.base import SliceClass
    from slm_operator.planning.views import DeploymentView, FleetPlan, FleetView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import PodRecord

    Planner = Callable[[FleetView, Settings, datetime], FleetPlan]
    Rewrite = Callable[[FleetView, tuple[Action, ...]], Iterable[Action]]


def mutant(rewrite: Rewrite) -> Planner:
    """The real planner, with its actions rewritten. It can be sent to another process."""
    return partial(_plan_rewritten, rewrite)


def _plan_rewritten(rewrite: Rewrite, view: FleetView, settings: Settings, now: datetime) -> FleetPlan:
    real = plan_fleet(view, settings, now)
    actions = tuple(rewrite(view, real.plan.actions))
    return replace(real, plan=replace(real.plan, actions=actions))


def _tells_before_it_taints(view: FleetView, actions: tuple[Action, ...]) -> Iterable[Action]:
    """Taint and label in the wrong order."""
    for action in actions:
        if isinstance(action, PatchNode) and action.taints and CONFIG_LABEL not in action.labels:
            becomes = change_in(action.annotations.get(names.CHANGING_TO_ANNOTATION)) or RELEASED
            slice_class = class_of_label(becomes.class_label)
            if slice_class is not None:
                yield replace(action, labels={CONFIG_LABEL: config_key(slice_class)}, taints=None)
                continue
        yield action


def _evicts_anybody(view: FleetView, actions: tuple[Action, ...]) -> Iterable[Action]:
    """Foreign pods on a closed node are evicted."""
    yield from actions
    closed = {node.meta.key.name for node in view.nodes if any(t.key == names.CHANGING_TAINT for t in node.taints)}
    for pod in view.pods:
        if pod.node in closed and pod.holds_gpu and not state.is_replica(pod):
            yield Evict(pod=pod.meta.key, uid=pod.meta.uid, because="it is in the way")


def _edits_a_key(view: FleetView, actions: tuple[Action, ...]) -> Iterable[Action]:
    """New content under an old key."""
    yield from actions
    if view.config_map is not None:
        for key in view.config_map.data:
            if key.startswith(names.CONFIG_KEY_PREFIX):
                yield PatchConfig(
                    config_map=view.config_map.meta.key,
                    resource_version=view.config_map.meta.resource_version,
                    add={key: plugin_config(UNSHARED)},
                    because="a better idea",
                )


def _deletes_keys_in_use(view: FleetView, actions: tuple[Action, ...]) -> Iterable[Action]:
    """A key that was loaded is not needed any more, or is it?"""
    yield from actions
    if view.config_map is not None and not any(isinstance(action, PatchConfig) for action in actions):
        named = {node.meta.labels.get(CONFIG_LABEL) for node in view.nodes}
        ours = tuple(key for key in view.config_map.data if key.startswith(names.CONFIG_KEY_PREFIX) and key in named)
        if ours:
            yield PatchConfig(
                config_map=view.config_map.meta.key,
                resource_version=view.config_map.meta.resource_version,
                remove=ours,
                because="order",
            )


def _touches_everybody(view: FleetView, settings: Settings, now: datetime) -> FleetPlan:
    """Nodes that did not opt in are taken for such that did."""
    nodes = tuple(
        replace(node, meta=replace(node.meta, labels={**node.meta.labels, names.OPT_IN_LABEL: "true"}))
        for node in view.nodes
    )
    return plan_fleet(replace(view, nodes=nodes), settings, now)


def _gives_back_no_label(view: FleetView, actions: tuple[Action, ...]) -> Iterable[Action]:
    """The label before us is forgotten."""
    for action in actions:
        if (
            isinstance(action, PatchNode)
            and names.FORMER_CONFIG_ANNOTATION in action.annotations
            and action.taints == ()
        ):
            yield replace(action, labels={**action.labels, CONFIG_LABEL: None})
        else:
            yield action


def _opens_too_early(view: FleetView, actions: tuple[Action, ...]) -> Iterable[Action]:
    """The taint goes with the switch of the label."""
    for action in actions:
        if isinstance(action, PatchNode) and CONFIG_LABEL in action.labels:
            yield replace(action, taints=())
        else:
            yield action


PLANNERS: dict[str, Planner] = {
    "tells before it taints": mutant(_tells_before_it_taints),
    "evicts anybody": mutant(_evicts_anybody),
    "edits a key": mutant(_edits_a_key),
    "deletes keys in use": mutant(_deletes_keys_in_use),
    "touches nodes that did not opt in": _touches_everybody,
    "gives back no label": mutant(_gives_back_no_label),
    "opens too early": mutant(_opens_too_early),
}
_occupancy = event_mapping._occupancy


def _occupancy_whenever_it_began(record: PodRecord | None) -> tuple[object, ...] | None:
    """The fleet does not hear that a replica started again."""
    whole = _occupancy(record)
    return None if whole is None else whole[:-1]


def _replicas_whoever_set_them(view: DeploymentView, advice: Advice | None) -> tuple[Action, ...]:
    """A number of a user's is taken for none."""
    record = view.deployment
    spec = record.spec.model_copy(update={"replicas": None}) if record.spec is not None else None
    return own_replicas(replace(view, deployment=replace(record, spec=spec)), advice)


def _misses_all(seen: state.NodeState, wanted: SliceClass) -> str | None:
    """Slices that its plugin does not offer are waited for."""
    return MISSES(seen, wanted) or seen.unhealthy(wanted)


MISSES = state.NodeState.misses
PIECES: dict[str, tuple[object, str, object]] = {
    "scales what its user has scaled": (deployment_plan, "own_replicas", _replicas_whoever_set_them),
    "forgets the number of a pack": (deployment_plan, "own_replicas", lambda _view, _advice: ()),
    "ends where a profile is awaited": (deployment_plan, "go_on", lambda _view, story, _settings: story),
    "goes on with nothing": (going_on, "wanted_as_before", lambda _deployment, _served: 0),
    "takes the defaults of the day": (kept, "_holds", lambda _kept, _record: False),
    "does not drain": (change, "drain", lambda _state, _site: None),
    "does not drain before it gives back": (release, "drain", lambda _state, _site: None),
    "forgets what a node's owner has set": (states, "base_of", lambda *_: NO_BASE),
    "does not wait for the volume": (loading, "_await_key", lambda *_: None),
    "does not wait for what its label named before": (step, "lags_behind", lambda *_: None),
    "never rolls back after a timeout": (change, "seconds_since_start", lambda *_: 0.0),
    "does not hear that a replica started again": (event_mapping, "_occupancy", _occupancy_whenever_it_began),
    "rolls to where there is no room": (rollout, "_may_roll", lambda _view, _wanted, answer: answer is not None),
    "goes from MPS to MPS at once": (loading, "_kept_daemon", lambda *_: None),
    "does not wait for a daemon's end": (state.NodeState, "left_daemon", lambda *_: None),
    "takes whatever is called a GPU for one": (state, "parts_of_gpus", lambda *_: None),
    "lets profiles onto parts of GPUs": (profile, "required", lambda pod, _terms: pod),
    "lets engines onto parts of GPUs": (replicas, "required", lambda pod, _terms: pod),
    "serves any product": (product, "measured_product", lambda _document: None),
    "waits for all slices of a weak GPU": (state.NodeState, "misses", _misses_all),
    "keeps the plugin's pod away": (parts, "_missing", lambda *_: None),
    "never lifts the taint": (state.NodeState, "waits_for_daemon", lambda *_: False),
}
"""Functions of the real planner, and what stands in for them.

NB: one that goes on in a driver's upgrade is not among them: a node that just changes is upgraded in three of 600 runs, and none
of these broke a promise. tests/unit/planning/test_driver_upgrade.py finds it.
"""
