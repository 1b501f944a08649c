"""What the operator needs of NVIDIA's stack in the cluster: pure checks of its DaemonSets and its ConfigMap.

Source of the rules: docs/concepts/gpu-sharing.md; of the versions: k8s-device-plugin, CHANGELOG.md and api/config/v1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.cli.preflight.facts import Unseen
from slm_operator.cli.preflight.findings import ASK, Answer, ok, problem, some, warning
from slm_operator.partitioning.base import UNSHARED
from slm_operator.partitioning.config_manager import FORGETFUL_SINCE, FORGETFUL_UNTIL, doubt_of, fault_of
from slm_operator.partitioning.node_slices import DEVICE_PLUGIN, MPS_DAEMON, STRATEGIES
from slm_operator.partitioning.plugin_config import class_of_config, fault_of_base, is_ours, lone_key
from slm_operator.version import dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slm_operator.cli.preflight.facts import Facts
    from slm_operator.cli.preflight.stack import DaemonSet

    Check = Callable[[Facts], Answer | None]

CONFIGURABLE = (0, 12, 0)
"""First device plugin with named configurations, renaming and the config-manager."""
WITH_MPS = (0, 15, 0)
PACKING = (0, 20, 0)
"""First device plugin that fills one GPU before the next (sharedDevicesAllocationPolicy); older ones ignore the flag."""


def _plugin(facts: Facts) -> Answer | None:
    if not _needs_plugin(facts):
        return None
    if isinstance(facts.daemon_sets, Unseen):
        return warning(f"NVIDIA's DaemonSets are not seen: no right to {facts.daemon_sets.right}", ASK)
    found = facts.daemons(DEVICE_PLUGIN)
    expected = facts.settings.device_plugin.namespace
    if not found:
        return problem("no DaemonSet of NVIDIA's device plugin", "install the GPU Operator, or the plugin's own chart")
    here = _where_expected(facts, DEVICE_PLUGIN)
    if not here:
        return problem(
            f"the device plugin is in namespace {found[0].namespace}, and the operator looks in {expected}",
            f"set config.devicePlugin.namespace={found[0].namespace} in the operator's chart",
        )
    said = ", ".join(f"{one}, {one.ready} of {one.wanted} ready" for one in here)
    if any(one.ready < one.wanted for one in here):
        return warning(said, f"see its pods: kubectl get pods -n {expected}")
    return ok(said)


def _plugin_version(facts: Facts) -> Answer | None:
    here = _where_expected(facts, DEVICE_PLUGIN)
    if not here:
        return None
    known = [one for one in here if one.version is not None]
    if len(known) < len(here):
        unknown = next(one for one in here if one.version is None)
        return warning(
            f"the version of {unknown} is not known from its image {unknown.image or '?'}",
            f"see that it is {dotted(PACKING)} or newer",
        )
    oldest = min(known, key=lambda one: one.version or CONFIGURABLE)
    version = oldest.version or CONFIGURABLE
    said, upgrade = f"{oldest} is {dotted(version)}", f"upgrade it to {dotted(PACKING)} or newer"
    if version < CONFIGURABLE:
        return problem(f"{said}: it knows no named configurations", upgrade)
    if version < WITH_MPS:
        return warning(f"{said}: it knows no MPS, so that GPUs can only be time-sliced", upgrade)
    if version < PACKING:
        return warning(
            f"{said}: it spreads the replicas of a node over its GPUs instead of filling one after the other", upgrade
        )
    return ok(f"{said}: it has all that is used")


def _config_manager(facts: Facts) -> Answer | None:
    plugin = facts.settings.device_plugin
    here = _where_expected(facts, DEVICE_PLUGIN)
    if not here:
        return None
    install = (
        f"install the plugin with named configurations (config.name={plugin.config_map}; see docs/how-to/install.md)"
    )
    for one in here:
        if not one.has_config_manager:
            return problem(f"{one} has no config-manager: nodes cannot be switched by label", install)
        if one.config_label is not None and one.config_label != plugin.config_label:
            return problem(
                f"the config-manager of {one} obeys the label {one.config_label}, and the operator sets {plugin.config_label}",
                f"set config.devicePlugin.configLabel={one.config_label} in the operator's chart",
            )
        if plugin.config_map not in one.config_maps:
            mounted = ", ".join(sorted(one.config_maps)) or "none"
            return problem(
                f"{one} does not read ConfigMap {plugin.config_map} (it mounts: {mounted})",
                "set config.devicePlugin.configMap in the operator's chart to the one with the configurations",
            )
    return ok(f"it obeys {plugin.config_label} and reads {plugin.config_map}")


def _plugin_config(facts: Facts) -> Answer | None:
    plugin, data = facts.settings.device_plugin, facts.plugin_config
    name = f"ConfigMap {plugin.namespace}/{plugin.config_map}"
    if not _needs_plugin(facts):
        return None
    if isinstance(data, Unseen):
        return warning(f"{name} is not seen: no right to {data.right}", ASK)
    if data is None:
        return problem(
            f"{name} does not exist", "make it with a key `default` that says `version: v1`; see docs/how-to/install.md"
        )
    # An empty text is `version: v1` to the plugin.
    broken = sorted(key for key, text in data.items() if text.strip() and class_of_config(text) is None)
    used = [key for key in broken if key in _keys_in_use(facts)]
    if used:
        return problem(f"{name}: {some(used)}, which nodes use, is no configuration of the device plugin", "correct it")
    if broken:
        return warning(f"{name}: {some(broken)} is no configuration of the device plugin", "correct it, or remove it")
    return (
        _default_config(facts, name, data)
        or _bases(facts, name, data)
        or ok(f"{name} has {len(data)} that can be read")
    )


def _default_config(facts: Facts, name: str, data: Mapping[str, str]) -> Answer | None:
    """What is wrong with the configuration of nodes without a label."""
    wanted = next((one.default_key for one in _where_expected(facts, DEVICE_PLUGIN) if one.default_key), "")
    if wanted and wanted not in data:
        return problem(
            f"{name} has no key {wanted}, which nodes without a label take", f"add {wanted}, with `version: v1` in it"
        )
    lone = lone_key(_where_expected(facts, DEVICE_PLUGIN), data)
    if lone is not None:
        return problem(
            f"{name} has the one key {lone}, which nodes without a label take only while it is the only one: none can be added",
            f"make it the plugin's default (Helm value config.default={lone})",
        )
    if not data:
        return warning(
            f"{name} is empty: nodes without a label have no configuration",
            "add a key `default` that says `version: v1`",
        )
    return None


def _bases(facts: Facts, name: str, data: Mapping[str, str]) -> Answer | None:
    """What nodes have without the operator, which makes its own from that. NB: where others share GPUs, theirs is used as it is."""
    used = {key: data[key] for key in _keys_in_use(facts) & data.keys() if key is not None and not is_ours(key)}
    faults = {key: fault_of_base(text) for key, text in used.items() if class_of_config(text) == UNSHARED}
    unfit = sorted(f"{key} {fault}" for key, fault in faults.items() if fault is not None)
    if not unfit:
        return None
    return problem(
        f"{name}: no other configuration can be built on {some(unfit)}", "correct it: its nodes are not changed"
    )


def _mps(facts: Facts) -> Answer | None:
    if not _needs_plugin(facts) or isinstance(facts.daemon_sets, Unseen):
        return None
    wishes = () if isinstance(facts.wishes, Unseen) else facts.wishes
    modes = {mode for mode, strategy in STRATEGIES.items() if strategy.daemon is MPS_DAEMON}
    demanding = sorted(wish.name for wish in wishes if wish.mode in modes)
    here = _where_expected(facts, MPS_DAEMON.part)
    if here:
        answers = (_signal(one, demanding) for one in here)
        return next((one for one in answers if one is not None), ok(", ".join(map(str, here))))
    remedy = "install it with NVIDIA's chart (device plugin 0.15 or newer), or choose spec.sharing.mode: TimeSlicing"
    if demanding:
        return problem(f"no DaemonSet of the {MPS_DAEMON.title}, which {some(demanding)} requests", remedy)
    return warning(
        f"no DaemonSet of the {MPS_DAEMON.title}: a pack that was measured best under MPS never starts", remedy
    )


def _signal(daemon_set: DaemonSet, demanding: list[str]) -> Answer | None:
    """Why an MPS daemon does not hear of its configuration, which the operator chooses by the node's label."""
    fault, doubt = fault_of(daemon_set.config_manager), doubt_of(daemon_set.config_manager)
    if fault is not None and demanding:
        return problem(
            f"{daemon_set} does not hold MPS, which {some(demanding)} requests: {fault.because}", fault.remedy
        )
    if fault is not None:
        otherwise = "so Auto serves another mode"
        return warning(f"{daemon_set} does not hold MPS, {otherwise}: {fault.because}", fault.remedy)
    if doubt is not None:
        return warning(
            f"whether {daemon_set} holds MPS is not known: its config-manager {doubt} ({daemon_set.image or '?'})",
            f"see that it is older than {dotted(FORGETFUL_SINCE)} or newer than {dotted(FORGETFUL_UNTIL)}",
        )
    return None


STACK_CHECKS: tuple[tuple[str, Check], ...] = (
    ("Device plugin", _plugin),
    ("Plugin version", _plugin_version),
    ("Config-manager", _config_manager),
    ("Configurations", _plugin_config),
    ("MPS daemon", _mps),
)


def _needs_plugin(facts: Facts) -> bool:
    """Whether the operator partitions nodes: one that serves named namespaces sees none."""
    return not facts.settings.namespaces


def _where_expected(facts: Facts, part: str) -> tuple[DaemonSet, ...]:
    if not _needs_plugin(facts):
        return ()
    return tuple(one for one in facts.daemons(part) if one.namespace == facts.settings.device_plugin.namespace)


def _keys_in_use(facts: Facts) -> frozenset[str | None]:
    """Keys that the labels of nodes name, and keys that nodes without a label take."""
    defaults = (one.default_key for one in _where_expected(facts, DEVICE_PLUGIN))
    nodes = () if isinstance(facts.nodes, Unseen) else facts.nodes
    return frozenset((*defaults, *(node.state.requested_config for node in nodes)))
