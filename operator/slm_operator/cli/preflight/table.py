"""What a cluster must have before a small language model can be served from shared GPUs, as a table of pure checks.

The order is the one in which one would install. Each check answers, or says nothing (None) where another one has said
it already or where it does not apply. Must never ask the cluster: `gather` does. Source of the rules about NVIDIA's
stack: docs/gpu-sharing.md; of the versions: k8s-device-plugin, CHANGELOG.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.cli.preflight.facts import Unseen
from slm_operator.cli.preflight.findings import Answer, Finding, ok, problem, warning
from slm_operator.cli.preflight.nodes import NODE_CHECKS
from slm_operator.cli.preflight.stack import DEVICE_PLUGIN, MPS_DAEMON, version_of
from slm_operator.manifests.plugin_config import class_of_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from slm_operator.cli.preflight.facts import Facts
    from slm_operator.cli.preflight.stack import DaemonSet

    Check = Callable[[Facts], Answer | None]

OLDEST_KUBERNETES = (1, 32, 0)
CONFIGURABLE = (0, 12, 0)
"""First device plugin with named configurations, renaming and the config-manager."""
WITH_MPS = (0, 15, 0)
PACKING = (0, 20, 0)
"""First device plugin that fills one GPU before the next (sharedDevicesAllocationPolicy); older ones ignore the flag."""
ASK = "ask whoever runs the cluster for this right, or to run this command"


def preflight(facts: Facts) -> tuple[Finding, ...]:
    """Every check's findings: those about the cluster, then those about the nodes that opted in."""
    answers = ((name, check(facts)) for name, check in CHECKS)
    findings = [Finding(check=name, answer=answer) for name, answer in answers if answer is not None]
    for name, look in NODE_CHECKS:
        same: dict[Answer, list[str]] = {}
        for node in facts.opted_in:
            answer = look(node, facts)
            if answer is not None:
                same.setdefault(answer, []).append(node.state.name)
        findings += [Finding(check=name, answer=answer, nodes=tuple(on)) for answer, on in same.items()]
    return tuple(findings)


def _kubernetes(facts: Facts) -> Answer:
    version = version_of(facts.server)
    if version is None:
        return warning(
            f"the API server says it is {facts.server or '?'}", f"see that it is {_dotted(OLDEST_KUBERNETES)} or newer"
        )
    if version < OLDEST_KUBERNETES:
        return problem(f"the API server is {facts.server}", f"upgrade to {_dotted(OLDEST_KUBERNETES)} or newer")
    return ok(f"the API server is {facts.server}")


def _kinds(facts: Facts) -> Answer:
    if facts.missing_kinds:
        return problem(f"{' and '.join(facts.missing_kinds)} not known here", "install the chart slm-operator")
    return ok(f"{names.API_VERSION} is served")


def _schema(facts: Facts) -> Answer | None:
    schema = facts.schema
    if facts.missing_kinds:
        return None
    if isinstance(schema, Unseen):
        return warning(f"whether the CRDs are of this version is not known: no right to {schema.right}", ASK)
    if schema.lacking:
        return problem(
            f"the CRDs are older than this command: they lack {_some(schema.lacking)}",
            "helm upgrade the chart, or kubectl apply --server-side -f crds/",
        )
    if schema.unknown:
        return warning(
            f"the CRDs are newer than this command: it does not know {_some(schema.unknown)}",
            "install kubectl-slm of the operator's version",
        )
    return ok("every field is as this command knows it")


def _operator(facts: Facts) -> Answer:
    found = facts.operators
    if isinstance(found, Unseen):
        return warning(f"not seen: no right to {found.right}", ASK)
    if not found:
        return problem("no Deployment of the operator", "install the chart slm-operator")
    if len(found) > 1:
        where = ", ".join(f"{one.namespace}/{one.name}" for one in found)
        return warning(f"installed {len(found)} times: {where}", "keep one of them that serves all namespaces")
    (one,) = found
    said = f"{one.ready} of {one.wanted} ready in namespace {one.namespace}, version {one.version}"
    if one.ready == 0:
        return problem(said, f"read its log: kubectl logs -n {one.namespace} deploy/{one.name}")
    return ok(said)


def _lease(facts: Facts) -> Answer | None:
    lease = facts.lease
    if isinstance(facts.operators, Unseen) or not facts.operators:
        return None
    at = facts.operators[0]
    if isinstance(lease, Unseen):
        return warning(f"whether an operator acts is not known: no right to {lease.right}", ASK)
    read = f"read the operator's log: kubectl logs -n {at.namespace} deploy/{at.name}"
    if lease is None:
        return problem(f"no Lease in namespace {at.namespace}: no operator has ever acted", read)
    if not lease.holder:
        return problem("the Lease is held by nobody: no operator acts", read)
    if not lease.renewing:
        since = f"{lease.age_seconds:.0f} s ago"
        return problem(f"{lease.holder} holds the Lease and renewed it last {since}: no operator acts", read)
    return ok(f"{lease.holder} acts")


def _settings(facts: Facts) -> Answer:
    if facts.settings_doubt:
        return warning(f"{facts.settings_doubt}: the defaults are assumed below", "helm get values tells what was set")
    plugin = facts.settings.device_plugin
    scope = ", ".join(facts.settings.namespaces) or "all namespaces"
    return ok(f"serves {scope}; the device plugin's ConfigMap is {plugin.namespace}/{plugin.config_map}")


def _may_deploy(facts: Facts) -> Answer:
    right = "create slmdeployments"
    if right in facts.rights_missing:
        return problem(
            f"you may not create an SLMDeployment in namespace {facts.namespace}",
            f"ask for the right to {right} there, or give another -n",
        )
    return ok(f"you may create an SLMDeployment in namespace {facts.namespace}")


def _may_look(facts: Facts) -> Answer:
    lacking = [
        f"{right} (for {use})" for right, use in facts.rights_missing.items() if right != "create slmdeployments"
    ]
    if lacking:
        return warning(f"you may not {', '.join(lacking)}", ASK)
    return ok("you may look at all that these commands show")


def _opt_in(facts: Facts) -> Answer | None:
    if isinstance(facts.nodes, Unseen):
        return warning(f"nodes are not seen: no right to {facts.nodes.right}", ASK)
    with_gpus = [node.state.name for node in facts.nodes if node.state.gpus or _offers(node.state.node.allocatable)]
    if not with_gpus and not facts.opted_in:
        return problem(
            "no node offers an NVIDIA GPU", "install NVIDIA's GPU Operator, or its device plugin with feature discovery"
        )
    if not facts.opted_in:
        return problem(
            f"none of {len(with_gpus)} GPU nodes opted in: nothing is measured and nothing is served",
            f"kubectl label node {with_gpus[0]} {names.OPT_IN_LABEL}=true",
        )
    gpus = sum(node.state.gpus for node in facts.opted_in)
    return ok(f"{len(facts.opted_in)} of {len(with_gpus)} GPU nodes, with {gpus} GPUs")


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
    return ok(", ".join(f"{one}, {one.ready} of {one.wanted} ready" for one in here))


def _plugin_version(facts: Facts) -> Answer | None:
    here = _where_expected(facts, DEVICE_PLUGIN)
    if not here:
        return None
    known = [one for one in here if one.version is not None]
    if len(known) < len(here):
        unknown = next(one for one in here if one.version is None)
        return warning(
            f"the version of {unknown} is not known from its image {unknown.image or '?'}",
            f"see that it is {_dotted(PACKING)} or newer",
        )
    oldest = min(known, key=lambda one: one.version or CONFIGURABLE)
    version = oldest.version or CONFIGURABLE
    said, upgrade = f"{oldest} is {_dotted(version)}", f"upgrade it to {_dotted(PACKING)} or newer"
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
    install = f"install the plugin with named configurations (config.name={plugin.config_map}; see docs/install.md)"
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
            f"{name} does not exist", "make it with a key `default` that says `version: v1`; see docs/install.md"
        )
    broken = sorted(key for key, text in data.items() if class_of_config(text) is None)
    if broken:
        return problem(f"{name}: {_some(broken)} is no configuration of the device plugin", "correct it, or remove it")
    wanted = next((one.default_key for one in _where_expected(facts, DEVICE_PLUGIN) if one.default_key), "")
    if wanted and wanted not in data:
        return problem(
            f"{name} has no key {wanted}, which nodes without a label take", f"add {wanted}, with `version: v1` in it"
        )
    if not data:
        return warning(
            f"{name} is empty: nodes without a label have no configuration",
            "add a key `default` that says `version: v1`",
        )
    return ok(f"{name} has {len(data)} that can be read")


def _mps(facts: Facts) -> Answer | None:
    if not _needs_plugin(facts) or isinstance(facts.daemon_sets, Unseen):
        return None
    if _where_expected(facts, MPS_DAEMON):
        return ok(", ".join(map(str, _where_expected(facts, MPS_DAEMON))))
    wishes = () if isinstance(facts.wishes, Unseen) else facts.wishes
    demanding = sorted(wish.name for wish in wishes if wish.mode == "MPS")
    mend = "install it with NVIDIA's chart (device plugin 0.15 or newer), or choose spec.sharing.mode: TimeSlicing"
    if demanding:
        return problem(f"no DaemonSet of the MPS control daemon, which {_some(demanding)} asks for", mend)
    return warning("no DaemonSet of the MPS control daemon: a pack that was measured best under MPS never starts", mend)


CHECKS: tuple[tuple[str, Check], ...] = (
    ("Kubernetes", _kubernetes),
    ("API", _kinds),
    ("CRDs", _schema),
    ("Operator", _operator),
    ("Lease", _lease),
    ("Settings", _settings),
    ("Right to deploy", _may_deploy),
    ("Rights to look", _may_look),
    ("Opt-in", _opt_in),
    ("Device plugin", _plugin),
    ("Plugin version", _plugin_version),
    ("Config-manager", _config_manager),
    ("Configurations", _plugin_config),
    ("MPS daemon", _mps),
)


def _needs_plugin(facts: Facts) -> bool:
    """Whether the operator cuts nodes: one that serves named namespaces sees none."""
    return not facts.settings.namespaces


def _where_expected(facts: Facts, part: str) -> tuple[DaemonSet, ...]:
    if not _needs_plugin(facts):
        return ()
    return tuple(one for one in facts.daemons(part) if one.namespace == facts.settings.device_plugin.namespace)


def _offers(allocatable: object) -> bool:
    return isinstance(allocatable, dict) and any(
        allocatable.get(name) for name in (names.NVIDIA_GPU, names.NVIDIA_SHARED_GPU)
    )


def _dotted(version: Iterable[int]) -> str:
    return ".".join(map(str, version))


def _some(things: Iterable[str]) -> str:
    every = list(things)
    return ", ".join(every[:3]) + (f" and {len(every) - 3} more" if len(every) > 3 else "")
