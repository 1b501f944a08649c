"""What one node that opted in must have: pure checks, asked of each such node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.engines.registry import default

from slm_operator.api import names
from slm_operator.cli.preflight.facts import Unseen
from slm_operator.cli.preflight.findings import Answer, ok, problem, some, warning
from slm_operator.partitioning.base import UNSHARED
from slm_operator.partitioning.discovery import (
    COUNT_LABEL,
    DRIVER_LABEL,
    DRIVER_UPGRADE_LABEL,
    MEMORY_LABEL,
    PRODUCT_LABEL,
    newest_cuda,
)
from slm_operator.partitioning.node_slices import (
    DEVICE_PLUGIN,
    NODE_SLICES,
    REPLICAS_LABEL,
    STRATEGY_LABEL,
    daemon_of,
)
from slm_operator.planning.fleet.tolerations import is_for_long, tolerates, tolerations_of
from slm_operator.version import dotted, version_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_operator.cli.preflight.facts import Facts, Node
    from slm_operator.watch.records import Taint

    NodeCheck = Callable[[Node, Facts], Answer | None]

OLDEST_KUBERNETES = (1, 32, 0)
"""API server and kubelets."""
DISCOVERED = (PRODUCT_LABEL, COUNT_LABEL, MEMORY_LABEL, REPLICAS_LABEL, STRATEGY_LABEL)
"""Labels by which planning knows what a node has and how it is partitioned."""


def _usable(node: Node, _facts: Facts) -> Answer:
    record = node.state.node
    if not record.ready:
        return problem("not ready", "see kubectl describe node")
    if node.state.upgrading is not None:
        return warning(
            f"the GPU Operator upgrades its driver ({DRIVER_UPGRADE_LABEL}={node.state.upgrading}): it is not changed",
            "wait until that is done; upgrade-failed waits for you",
        )
    if record.unschedulable:
        return warning("cordoned: nothing is placed there", "kubectl uncordon it, or take the opt-in label away")
    return ok("ready")


def _kubelet(node: Node, _facts: Facts) -> Answer:
    version, oldest = version_of(node.kubelet), dotted(OLDEST_KUBERNETES)
    if version is None:
        return warning(f"the kubelet says it is {node.kubelet or '?'}", f"see that it is {oldest} or newer")
    if version < OLDEST_KUBERNETES:
        return problem(f"the kubelet is {node.kubelet}", f"upgrade it to {oldest} or newer")
    return ok(f"the kubelet is {node.kubelet}")


def _discovery(node: Node, _facts: Facts) -> Answer:
    lacking = [label for label in DISCOVERED if label not in node.state.node.meta.labels]
    if lacking:
        return problem(
            f"no label {', '.join(lacking)}",
            "run GPU feature discovery there (gfd.enabled=true in the plugin's chart; on by default in the GPU Operator)",
        )
    return ok("feature discovery says what the GPUs are and how they are partitioned")


def _driver(node: Node, facts: Facts) -> Answer | None:
    """The default image is built for one version of CUDA, and a driver runs that of its time and older ones."""
    labels, engine = node.state.node.meta.labels, default()
    newest = newest_cuda(labels)
    if newest is None:
        return None
    said = f"driver {labels.get(DRIVER_LABEL, '?')} runs CUDA {dotted(newest)}"
    if newest[0] >= engine.image_cuda[0]:  # NB: minor versions of CUDA are compatible, both ways
        return ok(said)
    wishes = () if isinstance(facts.wishes, Unseen) else facts.wishes
    demanding = sorted(wish.name for wish in wishes if wish.image == engine.image)
    finding, who = (problem, f", which {some(demanding)} uses,") if demanding else (warning, "")
    return finding(
        f"{said} and older: the default image {engine.image}{who} is built for CUDA {dotted(engine.image_cuda)}",
        f"upgrade the driver, or set spec.engine.image to a build for CUDA {dotted(newest)}",
    )


def _whole(node: Node, facts: Facts) -> Answer:
    parts = node.state.parts
    if parts is not None and parts.for_good:
        return problem(
            f"{parts.what} ({parts.evidence}): the operator leaves the node alone",
            f"{parts.remedy}, or take {facts.settings.nodes.opt_in_label} away",
        )
    return ok("nothing but the device plugin divides them")


def _plugin_pod(node: Node, facts: Facts) -> Answer | None:
    if facts.settings.namespaces or not facts.plugin_pods_seen or not facts.daemons(DEVICE_PLUGIN):
        return None
    pods = [one for one in node.state.daemons if one.part == DEVICE_PLUGIN]
    if not pods:
        return problem(
            f"no pod of the device plugin in namespace {facts.settings.device_plugin.namespace}",
            "see the DaemonSet's node selector and tolerations",
        )
    if not any(pod.ready for pod in pods):
        waits = pods[0].waiting or "it is not ready"
        return problem(
            f"the device plugin's pod does not run: {waits}", "read its log; a configuration key may be gone"
        )
    return ok("the device plugin runs")


def _requested_config(node: Node, facts: Facts) -> Answer | None:
    """NB: a label that names a missing key crash-loops the config-manager at its next start (#364)."""
    requested, data = node.state.requested_config, facts.plugin_config
    if requested is None or data is None or isinstance(data, Unseen):
        return None
    plugin = facts.settings.device_plugin
    if requested not in data:
        return problem(
            f"its label {plugin.config_label}={requested} names no key of ConfigMap {plugin.config_map}",
            "put the key back, or correct the label",
        )
    if node.state.label_changed_externally:
        return warning(
            f"its label {plugin.config_label}={requested} was set by another party, so the operator leaves the node alone",
            "remove the label to give the node back to the operator",
        )
    return ok("its configuration exists")


def _failed(node: Node, _facts: Facts) -> Answer | None:
    if not node.state.failures:
        return None
    failures = "; ".join(f"{label}: {why}" for label, why in sorted(node.state.failures.items()))
    return problem(
        f"a change was rolled back ({failures}): it is tried once more after the node was away, or with another device plugin",
        f"fix it, then kubectl annotate node NODE {names.CHANGE_FAILED_ANNOTATION}-",
    )


def _allocatable(node: Node, facts: Facts) -> Answer | None:
    state = node.state
    if not state.gpus:
        return None
    if state.changing:
        return warning(f"being changed to {state.purpose or 'another class'}", "wait, or see the node's events")
    seen = state.observed_class or UNSHARED
    if state.parts is not None and state.parts.for_good:
        return None
    if (
        state.parts is not None
        and state.partitioned_externally
        and not state.node.allocatable.get(NODE_SLICES.resource)
    ):
        return warning(
            f"partitioned by another party without renaming: it {state.parts.because}, none of them {NODE_SLICES.resource}",
            "set renameByDefault in its configuration, or give the node back unpartitioned",
        )
    if daemon_of(seen) is not None and not facts.plugin_pods_seen:
        return None
    missing = state.misses(seen) or state.unhealthy(seen)
    if missing is not None:
        return problem(missing, "read the logs of the device plugin and of its config-manager on that node")
    return ok(
        f"{state.gpus} GPUs are allocatable"
        if seen == UNSHARED
        else f"partitioned as {seen.label}, all slices are there"
    )


def _taints_for_nvidia(node: Node, facts: Facts) -> Answer | None:
    kept = {
        f"{one} ({taint.key})"
        for one in (() if isinstance(facts.daemon_sets, Unseen) else facts.daemon_sets)
        if one.namespace == facts.settings.device_plugin.namespace
        for taint in _strange(node)
        if not tolerates(one.tolerations, taint)
    }
    if not kept:
        return None
    return problem(
        f"taints keep NVIDIA's pods away: {', '.join(sorted(kept))}",
        "add the toleration in NVIDIA's chart (tolerations; daemonsets.tolerations in the GPU Operator)",
    )


def _taints_for_replicas(node: Node, facts: Facts) -> Answer | None:
    strange = _strange(node)
    if not strange:
        return ok("no taint keeps replicas away")
    what = ", ".join(sorted(taint.key for taint in strange))
    wishes = () if isinstance(facts.wishes, Unseen) else facts.wishes
    kept = sorted(w.name for w in wishes if not all(tolerates(w.tolerations, taint) for taint in strange))
    by_default = tolerations_of(one.given() for one in facts.settings.defaults.tolerations)
    if wishes and not kept:
        return ok(f"every SLMDeployment tolerates {what}")
    if not wishes and all(tolerates(by_default, taint) for taint in strange):
        return ok(f"replicas tolerate {what} by default")
    who = f" ({some(kept)})" if kept else ""
    return warning(
        f"replicas do not come unless they tolerate {what}{who}",
        f"add {{key: {strange[0].key}, operator: Exists}} to spec.accelerator.tolerations of the deployments that may use it",
    )


def _strange(node: Node) -> list[Taint]:
    """Taints that stay and are not the operator's own."""
    return [taint for taint in node.state.node.taints if is_for_long(taint) and taint.key != names.CHANGING_TAINT]


NODE_CHECKS: tuple[tuple[str, NodeCheck], ...] = (
    ("Node", _usable),
    ("Kubelet", _kubelet),
    ("GPU labels", _discovery),
    ("Driver", _driver),
    ("Whole GPUs", _whole),
    ("Plugin's pod", _plugin_pod),
    ("Node's key", _requested_config),
    ("Former change", _failed),
    ("GPUs", _allocatable),
    ("NVIDIA's taints", _taints_for_nvidia),
    ("Taints", _taints_for_replicas),
)
