"""The configurations that a node loads on its way to a class, and the wait until their keys have reached its volume.

Each is made from the one that the node has without us (its base), so that whatever else its owner has set there holds on. Part of
change.py. Must never begin a change where none can be made from that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.api.reasons import Reason
from slm_operator.partitioning.base import UNSHARED
from slm_operator.partitioning.node_slices import daemon_of
from slm_operator.partitioning.plugin_config import config_key, is_key_of, lone_key, plugin_config
from slm_operator.planning.fleet.node.step import (
    WATCH_SECONDS,
    NodeStep,
    await_former_switch,
    fail,
    seconds_since,
    switch_config_label,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.partitioning.base import SliceClass
    from slm_operator.partitioning.node_slices import Daemon
    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.fleet.node.step import Site, Target


def switch(state: NodeState, target: Target, site: Site) -> NodeStep:
    """Tell an empty node to load the next of them."""
    waiting = await_keys(state, target, site) or await_former_switch(state, site)
    if waiting is not None:
        return waiting
    via = _way(state, target)[0]
    key = config_key(via, state.base.text)
    because = f"no pod holds its GPUs and configuration {key} has been projected"
    left = _kept_daemon(state, target)
    if via != target.slice_class:
        until = f"the {left.title} has ended, which else keeps its limits" if left else "it has put down the former one"
        because = f"{because}; it will be {target.slice_class.label} when {until}"
    elif left is not None:
        return fail(state, target, f"the {left.title} did not end, and would keep its former limits", site)
    elif state.observed_class == target.slice_class:
        return fail(state, target, "it did not put down its former configuration of the same class", site)
    return switch_config_label(state, key, because, site)


def _way(state: NodeState, target: Target) -> tuple[SliceClass, ...]:
    """Configurations that a node loads one after the other on its way to a class, those that it has behind it left out.

    NB: a daemon that runs on hears nothing of another configuration of its own mode, and keeps the limits that it began with. It
    ends, and its GPUs' compute mode with it, only when nothing asks for it any more. And where a node shows the class already, by
    another configuration, nothing would tell when it has loaded the new one.
    """
    shows = target.slice_class in {state.configured_class, state.observed_class}
    stands = shows or _kept_daemon(state, target) is not None
    if stands and not is_key_of(state.requested_config, UNSHARED):
        return (UNSHARED, target.slice_class)
    return (target.slice_class,)


def _kept_daemon(state: NodeState, target: Target) -> Daemon | None:
    """The daemon that the class needs, where it runs for another class now, or is about to.

    NB: one that is on its way is not there to be seen, and begins with what it finds.
    """
    needed = daemon_of(target.slice_class)
    asked_for = any(
        one is not None and daemon_of(one) == needed for one in (state.configured_class, state.observed_class)
    )
    return needed if asked_for or state.daemon_pod(target.slice_class) is not None else None


def await_keys(state: NodeState, target: Target, site: Site) -> NodeStep | None:
    """Wait for all that the node will load on its way."""
    waits = [step for one in _way(state, target) if (step := _await_key(state, one, target, site)) is not None]
    needed = {key: text for step in waits for key, text in step.needs_keys.items()}
    return replace(waits[0], needs_keys=needed) if waits else None


def _await_key(state: NodeState, slice_class: SliceClass, target: Target, site: Site) -> NodeStep | None:
    """Wait until the key has reached the node's volume: before the node is closed, and again before its label is switched."""
    base, config = state.base, site.config
    if config is None or base.fault is not None or lone_key(state.daemons, config.data) is not None:
        return _no_key(state, target, site)
    key, text = config_key(slice_class, base.text), plugin_config(slice_class, base.text)
    nodes = site.settings.nodes
    waited = seconds_since(config.meta.annotations.get(f"{names.KEY_ADDED_ANNOTATION_PREFIX}{key}"), site.now)
    if key not in config.data and 0 <= waited < nodes.projection_seconds + nodes.convergence_seconds:
        why = f"{key} was removed from ConfigMap {site.config_name} as soon as it was written: exempt keys that begin with {names.CONFIG_KEY_PREFIX} from what manages it"
        return fail(state, target, why, site)
    if key not in config.data or waited < 0:  # negative: the clock was set back, and the stamp is written anew
        return NodeStep(
            reason=Reason.NODE_CHANGING,
            stage=f"configuration {key} is being written",
            look_again_seconds=WATCH_SECONDS,
            needs_keys={key: text},
        )
    if config.data[key] != text:
        stage = f"{key} in ConfigMap {site.config_name} was edited: remove that key, and the operator writes it again"
        return NodeStep(reason=Reason.NOT_SWITCHABLE, stage=stage)
    remaining = nodes.projection_seconds - waited
    if remaining > 0:
        stage = f"configuration {key} is on its way into the volume of node {state.name}"
        return NodeStep(reason=Reason.NODE_CHANGING, stage=stage, look_again_seconds=min(remaining, 30.0))
    return None


def _no_key(state: NodeState, target: Target, site: Site) -> NodeStep:
    """Why no key of ours can be had there."""
    if site.config is None:
        stage = f"ConfigMap {site.config_name} of the device plugin does not exist: create it, or set devicePlugin.configMap to its name"
        return NodeStep(reason=Reason.NOT_SWITCHABLE, stage=stage)
    lone = lone_key(state.daemons, site.config.data)
    if lone is not None:  # NB: with a second key beside it, plugins on nodes without a label would no longer start
        stage = f"ConfigMap {site.config_name} has the one key {lone}, which nodes without a label take only while it is the only one: make it the plugin's default (Helm value config.default={lone})"
        return NodeStep(reason=Reason.NOT_SWITCHABLE, stage=stage)
    why = f"no configuration can be built on {state.base.key} of ConfigMap {site.config_name}: it {state.base.fault}"
    if state.changing:
        return fail(state, target, why, site)
    return NodeStep(reason=Reason.NOT_SWITCHABLE, stage=f"node {state.name} stays as it is, for {why}; correct it")


def keys_for(state: NodeState, target: Target) -> tuple[str, ...]:
    """Keys that a node may need on its way to a class, now or later."""
    if state.base.fault is not None:
        return ()
    return tuple(config_key(one, state.base.text) for one in (target.slice_class, UNSHARED))


def lost_keys(state: NodeState, target: Target, site: Site) -> Mapping[str, str]:
    """NB: a plugin that restarts without the key its node names comes up with nothing."""
    base = state.base
    if site.config is None or base.fault is not None:
        return {}
    key = config_key(target.slice_class, base.text)
    lost = state.requested_config == key and key not in site.config.data
    return {key: plugin_config(target.slice_class, base.text)} if lost else {}
