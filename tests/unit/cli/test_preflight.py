"""Each check of `kubectl slm check`, answer by answer: what is found, how bad that is, and what fixes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from slm_core.engines.registry import default
from slm_operator.api.crd import KINDS, definition
from slm_operator.cli.preflight.doors import Doors
from slm_operator.cli.preflight.facts import LeaseSeen, Node, SchemaSeen, Unseen, Wish
from slm_operator.cli.preflight.nodes import NODE_CHECKS
from slm_operator.cli.preflight.packs import Autoscaler, PackSeen, autoscalers_in, packs_in
from slm_operator.cli.preflight.schema import compare
from slm_operator.cli.preflight.stack import daemon_set
from slm_operator.cli.preflight.table import CHECKS, preflight
from slm_operator.defaults import Defaults
from slm_operator.partitioning.config_manager import ConfigManager
from slm_operator.settings import DevicePlugin, Nodes, Packs, Settings, Tenancy
from unit.cli import cluster_objects as objects
from unit.cli.sound_cluster import (
    CUT,
    GPU_TOLERATION,
    OPERATOR,
    SHARED,
    SOUND,
    STACK,
    daemon,
    node,
    plugin_pod,
    stack,
    tainted,
)

from tests import builders as build
from tests.standin.releases import CHART, CHART_CORRECTED, GPU_OPERATOR, GPU_OPERATOR_BEFORE

ELSEWHERE = Settings(device_plugin=DevicePlugin(namespace="gpu-operator", config_map="device-plugin-configs"))
NAMESPACED = Settings(namespaces=("team",))
CLOSED = Settings(
    nodes=Nodes(opt_in_label="node-restriction.kubernetes.io/slm"),
    defaults=Defaults(read_only_root_filesystem=True),
    tenancy=Tenancy(max_nodes_per_namespace=1, max_profiles_per_namespace=1),
)
SECURE = {"operators": (replace(OPERATOR, secure_metrics=True),)}
PACK = PackSeen(name="chat", engines=4, supervisor_image="operator:2")
HPA = Autoscaler(name="chat-hpa", target="chat", counts_pods=("Pods",))
PRESENT = Settings(packs=Packs(supervisor_image="operator:2"))
CUDA = "nvidia.com/cuda.runtime-version.full"
RESTRICTED = Settings(nodes=Nodes(opt_in_label="node-restriction.kubernetes.io/slm"))


def plugin(**changed: Any) -> dict[str, Any]:
    return {"daemon_sets": (daemon(**changed), *STACK[1:])}


def on(one: Node) -> dict[str, Any]:
    return {"nodes": (one,)}


# name, check, what is changed in a sound cluster, level, words of the finding, words of the remedy
CASES: list[tuple[str, str, dict[str, Any], str, str, str]] = [
    ("new enough", "Kubernetes", {}, "ok", "v1.34.2", ""),
    ("of a distribution", "Kubernetes", {"server": "v1.32.1+k3s1"}, "ok", "v1.32.1+k3s1", ""),
    ("too old", "Kubernetes", {"server": "v1.31.9"}, "problem", "v1.31.9", "upgrade to 1.32.0"),
    ("says nothing", "Kubernetes", {"server": ""}, "warning", "it is ?", "1.32.0 or newer"),
    ("served", "API", {}, "ok", "slm-operator.io/v1alpha1 is served", ""),
    ("not served", "API", {"missing_kinds": ("SLMProfile",)}, "problem", "SLMProfile not known here", "install the chart"),
    ("the same", "CRDs", {}, "ok", "every field", ""),
    ("older", "CRDs", {"schema": SchemaSeen(lacking=("a", "b", "c", "d"))}, "problem", "they lack a, b, c and 1 more", "helm show crds"),
    ("newer", "CRDs", {"schema": SchemaSeen(unknown=("a",))}, "warning", "it does not know a", "install kubectl-slm"),
    ("unseen", "CRDs", {"schema": Unseen("get it")}, "warning", "no right to get it", "ask"),
    ("runs", "Operator", {}, "ok", "2 of 2 ready in namespace slm-system, version 0.1.0", ""),
    ("absent", "Operator", {"operators": ()}, "problem", "no Deployment", "install the chart"),
    ("down", "Operator", {"operators": (replace(OPERATOR, ready=0),)}, "problem", "0 of 2 ready", "kubectl logs -n slm-system deploy/slm-operator"),
    ("twice", "Operator", {"operators": (OPERATOR, replace(OPERATOR, namespace="b"))}, "warning", "installed 2 times", "keep one"),
    ("unseen", "Operator", {"operators": Unseen("list deployments")}, "warning", "no right to list deployments", "ask"),
    ("renewed", "Lease", {}, "ok", "slm-operator-0 acts", ""),
    ("none", "Lease", {"lease": None}, "problem", "no operator has ever acted", "kubectl logs"),
    ("given up", "Lease", {"lease": LeaseSeen(holder="", age_seconds=9, renewing=False)}, "problem", "held by nobody", "kubectl logs"),
    ("stale", "Lease", {"lease": LeaseSeen(holder="a", age_seconds=90, renewing=False)}, "problem", "a holds the Lease and renewed it last 90 s ago", "kubectl logs"),
    ("unseen", "Lease", {"lease": Unseen("get leases")}, "warning", "no right to get leases", "ask"),
    ("read", "Settings", {}, "ok", "serves all namespaces; the device plugin's ConfigMap is nvidia-device-plugin/nvidia-device-plugin-configs", ""),
    ("of namespaces", "Settings", {"settings": NAMESPACED}, "ok", "serves team", ""),
    ("assumed", "Settings", {"settings_doubt": "they are not seen"}, "warning", "they are not seen: the defaults are assumed", "helm get values"),
    ("there", "Library", {"libraries": {"lib": True, "b": True}}, "ok", "profiles of lib, b are used where a namespace has none", ""),
    ("absent", "Library", {"libraries": {"lib": True, "b": False}}, "warning", "libraryNamespaces names b, which does not exist", "kubectl create namespace b, or take it out"),
    ("not served", "Library", {"libraries": {"team": True, "b": True}, "settings": NAMESPACED}, "warning", "names b, which the operator does not serve", "add it to config.namespaces (team), or take"),
    ("served", "Library", {"libraries": {"team": True}, "settings": NAMESPACED}, "ok", "profiles of team", ""),
    ("unseen", "Library", {"libraries": {"b": Unseen("get namespace b")}}, "warning", "no right to get namespace b", "ask"),
    ("unseen and not served", "Library", {"libraries": {"b": Unseen("get namespace b")}, "settings": NAMESPACED}, "warning", "does not serve", "config.namespaces"),
    ("held", "Right to deploy", {}, "ok", "you may create", ""),
    ("lacking", "Right to deploy", {"rights_missing": {"create slmdeployments": "x"}}, "problem", "you may not create an SLMDeployment in namespace team", "another -n"),
    ("held", "Other rights", {}, "ok", "you have every other right", ""),
    ("lacking", "Other rights", {"rights_missing": {"list nodes": "check", "create slmdeployments": "x"}}, "warning", "you may not list nodes (for check)", "ask"),
    ("one", "Opt-in", {}, "ok", "1 of 1 GPU nodes, with 8 GPUs", ""),
    ("right", "Autoscalers", {"packs": (PACK,), "autoscalers": (replace(HPA, counts_pods=()),)}, "ok", "chat-hpa: their metrics count engines", ""),
    ("wrong", "Autoscalers", {"packs": (PACK,), "autoscalers": (HPA,)}, "warning", "chat-hpa counts pods (Pods), and each pod of chat runs 4 engines", "AverageValue"),
    ("present", "Supervisors", {"packs": (PACK,), "settings": PRESENT}, "ok", "every pack has the supervisor of operator:2", ""),
    ("older", "Supervisors", {"packs": (replace(PACK, supervisor_image="operator:1"),), "settings": PRESENT}, "warning", "chat run a supervisor of another release than operator:2", "next change of their pod"),
    ("nobody", "Opt-in", on(node(without=("slm-operator.io/managed",))), "warning", "none of 1 GPU nodes opted in", "kubectl label node gpu-1 slm-operator.io/managed=true"),
    ("opted in by another word", "Opt-in", on(node({"slm-operator.io/managed": "yes"})), "warning", "none of 1 GPU nodes", "=true"),
    ("no GPU", "Opt-in", {"nodes": ()}, "problem", "no node offers an NVIDIA GPU", "GPU Operator"),
    ("opted in by the default's name", "Opt-in", on(node(settings=RESTRICTED)) | {"settings": RESTRICTED}, "warning", "none of 1 GPU nodes opted in", "kubectl label node gpu-1 node-restriction.kubernetes.io/slm=true"),
    ("opted in by another name", "Opt-in", on(node({"node-restriction.kubernetes.io/slm": "true"}, settings=RESTRICTED)) | {"settings": RESTRICTED}, "ok", "1 of 1 GPU nodes", ""),
    ("opted in without a GPU", "Opt-in", on(node(without=("nvidia.com/gpu.count",), allocatable={"cpu": "4"})), "problem", "no node offers an NVIDIA GPU", "GPU Operator"),
    ("unseen", "Opt-in", {"nodes": Unseen("list nodes")}, "warning", "no right to list nodes", "ask"),
    ("there", "Device plugin", {}, "ok", "nvidia-device-plugin/device-plugin, 1 of 1 ready", ""),
    ("not everywhere", "Device plugin", plugin(ready=1, wanted=3), "warning", "1 of 3 ready", "kubectl get pods -n nvidia-device-plugin"),
    ("absent", "Device plugin", {"daemon_sets": ()}, "problem", "no DaemonSet of NVIDIA's device plugin", "install"),
    ("elsewhere", "Device plugin", {"settings": ELSEWHERE}, "problem", "is in namespace nvidia-device-plugin, and the operator looks in gpu-operator", "config.devicePlugin.namespace=nvidia-device-plugin"),
    ("unseen", "Device plugin", {"daemon_sets": Unseen("list daemonsets")}, "warning", "no right to list daemonsets", "ask"),
    ("packing", "Plugin version", {}, "ok", "is 0.20.0", ""),
    ("cannot pack", "Plugin version", plugin(version=(0, 17, 4)), "warning", "spreads the replicas", "0.20.0"),
    ("cannot MPS", "Plugin version", plugin(version=(0, 14, 5)), "warning", "it knows no MPS", "0.20.0"),
    ("cannot be configured", "Plugin version", plugin(version=(0, 11, 0)), "problem", "no named configurations", "upgrade"),
    ("unknown", "Plugin version", plugin(version=None, image="mirror/plugin@sha256:ab"), "warning", "not known from its image mirror/plugin@sha256:ab", "0.20.0"),
    ("as set", "Config-manager", {}, "ok", "obeys nvidia.com/device-plugin.config and reads nvidia-device-plugin-configs", ""),
    ("absent", "Config-manager", plugin(has_config_manager=False), "problem", "has no config-manager", "config.name=nvidia-device-plugin-configs"),
    ("another label", "Config-manager", plugin(config_label="example.com/config"), "problem", "obeys the label example.com/config", "config.devicePlugin.configLabel=example.com/config"),
    ("another ConfigMap", "Config-manager", plugin(config_maps=frozenset({"theirs"})), "problem", "does not read ConfigMap nvidia-device-plugin-configs (it mounts: theirs)", "config.devicePlugin.configMap"),
    ("readable", "Configurations", {}, "ok", "has 1 that can be read", ""),
    ("absent", "Configurations", {"plugin_config": None}, "problem", "does not exist", "`version: v1`"),
    ("empty text", "Configurations", {"plugin_config": {"default": ""}}, "ok", "has 1 that can be read", ""),
    ("broken, unused", "Configurations", {"plugin_config": {"default": "version: v1", "bad": "a: ["}}, "warning", "bad is no configuration", "correct it"),
    ("default of the future", "Configurations", {"plugin_config": {"default": "version: v2"}}, "problem", "built on default has version v2", "its nodes are not changed"),
    ("shared by its owner", "Configurations", {"plugin_config": {"default": "version: v1", "theirs": "sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}"}}, "ok", "has 2 that can be read", ""),
    ("broken default", "Configurations", {"plugin_config": {"default": "a: ["}}, "problem", "default, which nodes use, is no configuration", "correct it"),
    ("broken, used", "Configurations", on(node({"nvidia.com/device-plugin.config": "bad"})) | {"plugin_config": {"default": "version: v1", "bad": "a: ["}}, "problem", "bad, which nodes use", "correct it"),
    ("without its default", "Configurations", {"plugin_config": {"other": "version: v1"}}, "problem", "has no key default", "add default"),
    ("lone key", "Configurations", plugin(default_key="", takes_lone_key=True) | {"plugin_config": {"halves": "version: v1"}}, "problem", "has the one key halves", "config.default=halves"),
    ("empty", "Configurations", plugin(default_key="") | {"plugin_config": {}}, "warning", "is empty", "add a key"),
    ("unseen", "Configurations", {"plugin_config": Unseen("get configmaps")}, "warning", "no right to get configmaps", "ask"),
    ("there", "MPS daemon", {}, "ok", "nvidia-device-plugin/mps-control-daemon", ""),
    ("absent", "MPS daemon", {"daemon_sets": STACK[:1]}, "warning", "a pack that was measured best under MPS never starts", "TimeSlicing"),
    ("absent and requested", "MPS daemon", {"daemon_sets": STACK[:1], "wishes": (Wish(name="team/opt", mode="MPS"),)}, "problem", "which team/opt requests", "TimeSlicing"),
    ("A: the chart's", "MPS daemon", {"daemon_sets": stack(CHART)}, "warning", "does not hold MPS, so Auto serves another mode: the MPS control daemon's config-manager 0.20.0 signals /usr/bin/mps-control-daemon", "set PROCESS_TO_SIGNAL of its config-manager to mps-control-daemon"),
    ("A, requested", "MPS daemon", {"daemon_sets": stack(CHART), "wishes": (Wish(name="team/opt", mode="MPS"),)}, "problem", "does not hold MPS, which team/opt requests", "0.18.1 or older"),
    ("B: the GPU Operator's", "MPS daemon", {"daemon_sets": stack(GPU_OPERATOR)}, "warning", "loads the default configuration", "devicePlugin.version in the ClusterPolicy"),
    ("C: corrected", "MPS daemon", {"daemon_sets": stack(CHART_CORRECTED)}, "ok", "mps-control-daemon", ""),
    ("E: 0.18.1", "MPS daemon", {"daemon_sets": stack(GPU_OPERATOR_BEFORE)}, "ok", "mps-control-daemon", ""),
    ("by digest, without a label", "MPS daemon", {"daemon_sets": (daemon("mps-control-daemon", image="p@sha256:ab", config_manager=ConfigManager(signals="/a", daemon="a")),)}, "warning", "its config-manager signals /a, and the daemon runs as a, which 0.18.2 to 0.20.0 do not bear, and its image names no release (p@sha256:ab)", "older than 0.18.2 or newer than 0.20.0"),
    ("usable", "Node", {}, "ok", "ready", ""),
    ("not ready", "Node", on(node(ready="False")), "problem", "not ready", "describe"),
    ("cordoned", "Node", on(node(spec={"unschedulable": True})), "warning", "cordoned", "uncordon"),
    ("new enough", "Kubelet", {}, "ok", "v1.34.2", ""),
    ("too old", "Kubelet", on(node(kubelet="v1.30.4-gke.1")), "problem", "v1.30.4-gke.1", "upgrade it to 1.32.0"),
    ("says nothing", "Kubelet", on(node(kubelet="")), "warning", "it is ?", "1.32.0"),
    ("there", "GPU labels", {}, "ok", "feature discovery says", ""),
    ("lacking", "GPU labels", on(node(without=("nvidia.com/gpu.product", "nvidia.com/gpu.memory"))), "problem", "no label nvidia.com/gpu.product, nvidia.com/gpu.memory", "gfd.enabled=true"),
    ("new enough", "Driver", {}, "ok", "driver 580.65.06 runs CUDA 13.0", ""),
    ("newer", "Driver", on(node({CUDA: "13.2"})), "ok", "CUDA 13.2", ""),
    ("old", "Driver", on(node({CUDA: "12.9"})), "warning", "CUDA 12.9 and older", "a build for CUDA 12.9"),
    ("old, other images", "Driver", on(node({CUDA: "12.9"})) | {"wishes": (Wish(name="a/b", mode="Auto", image="own:1"),)}, "warning", "driver 580.65.06 runs CUDA 12.9", "upgrade the driver"),
    ("old, used", "Driver", on(node({CUDA: "12.9"})) | {"wishes": (Wish(name="a/b", mode="Auto", image=default().image),)}, "problem", "which a/b uses, is built for CUDA", "upgrade the driver"),
    ("old, older labels", "Driver", on(node({"nvidia.com/cuda.runtime.major": "12", "nvidia.com/cuda.runtime.minor": "4"}, without=(CUDA,))), "warning", "CUDA 12.4", "upgrade the driver"),
    ("so", "Whole GPUs", {}, "ok", "nothing but the device plugin", ""),
    ("MIG switched off", "Whole GPUs", on(node({"nvidia.com/mig.config": "all-disabled"})), "ok", "nothing but", ""),
    ("MIG", "Whole GPUs", on(node({"nvidia.com/mig.config": "all-1g.10gb"})), "problem", "divided by MIG (nvidia.com/mig.config=all-1g.10gb)", "disable MIG there"),
    ("a cloud's sharing", "Whole GPUs", on(node({"cloud.google.com/gke-gpu-sharing-strategy": "time-sharing"})), "problem", "shared by the cloud", "a node pool without GPU sharing"),
    ("runs", "Plugin's pod", {}, "ok", "runs", ""),
    ("absent", "Plugin's pod", on(node(daemons=())), "problem", "no pod of the device plugin", "node selector"),
    ("crashes", "Plugin's pod", on(node(daemons=(plugin_pod(ready=False, waiting="CrashLoopBackOff"),))), "problem", "CrashLoopBackOff", "read its log"),
    ("there", "Node's key", on(node({"nvidia.com/device-plugin.config": "default"})), "ok", "exists", ""),
    ("gone", "Node's key", on(node({"nvidia.com/device-plugin.config": "gone"})), "problem", "=gone names no key", "put the key back"),
    ("label_changed_externally", "Node's key", on(node({"nvidia.com/device-plugin.config": "default"}, annotations={"slm-operator.io/former-device-plugin-config": "slm-x"})), "warning", "set by another party", "remove the label"),
    ("rolled back", "Former change", on(node(annotations={"slm-operator.io/change-failed": '{"mps-4": "no daemon"}'})), "problem", "rolled back (mps-4: no daemon)", "kubectl annotate node NODE slm-operator.io/change-failed-"),
    ("whole", "GPUs", {}, "ok", "8 GPUs are allocatable", ""),
    ("some missing", "GPUs", on(node(allocatable={"nvidia.com/gpu": "7"})), "problem", "1 of 8 nvidia.com/gpu on node gpu-1 are not healthy", "read the logs"),
    ("slices without a daemon", "GPUs", on(node(CUT | {"slm-operator.io/slice-class": "mps-4", "nvidia.com/device-plugin.config": "slm-mps-4-x"}, SHARED)), "problem", "the MPS control daemon is not ready", "read the logs"),
    ("slices", "GPUs", on(node(CUT, SHARED, daemons=(plugin_pod(), plugin_pod("mps-control-daemon")))), "ok", "partitioned as mps-4, all slices are there", ""),
    ("partitioned by others, not renamed", "GPUs", on(node(CUT, {"nvidia.com/gpu": "32"})), "warning", "without renaming", "renameByDefault"),
    ("more than there are", "GPUs", on(node(allocatable={"nvidia.com/gpu": "32"})), "warning", "it offers 32 nvidia.com/gpu, and nvidia.com/gpu.count is 8", "renameByDefault"),
    ("in a change", "GPUs", on(node(annotations={"slm-operator.io/change-started": "x", "slm-operator.io/changing-to": '{"class": "mps-2", "serves": "team.opt"}'})), "warning", "being changed to mps-2 for team.opt", "wait"),
    ("keeps the plugin away", "NVIDIA's taints", on(tainted("dedicated")), "problem", "nvidia-device-plugin/device-plugin (dedicated)", "tolerations"),
    ("the same", "Defaults", {"wishes": (Wish(name="a/b", mode="Auto"),)}, "ok", "every SLMDeployment has the operator's defaults", ""),
    ("older", "Defaults", {"wishes": (Wish(name="a/b", mode="Auto"), Wish(name="a/c", mode="Auto", older=("engineImage",)))}, "warning", "a/c keep former defaults of the operator (engineImage)", "kubectl slm upgrade c -n a"),
    ("closed", "Doors", {"doors": Doors(), "settings": CLOSED} | SECURE, "ok", "every one that the chart has is closed", ""),
    ("metrics for everybody", "Doors", {"doors": Doors(), "settings": CLOSED}, "ok", "open, each a value of the chart: metrics.secure.enabled (who", ""),
    ("any engine", "Doors", {"doors": Doors(allowed_engines=False), "settings": CLOSED} | SECURE, "ok", "chart: policy.engines.images (what engines may be)", ""),
    ("slices for all", "Doors", {"doors": Doors(allowed_slices=False), "settings": CLOSED} | SECURE, "ok", "chart: policy.slices.enabled (who", ""),
    ("no quota", "Doors", {"doors": Doors(quota=False), "settings": CLOSED} | SECURE, "ok", "chart: quota.namespaces (how many objects", ""),
    ("no shares", "Doors", {"doors": Doors(), "settings": CLOSED.model_copy(update={"tenancy": Tenancy()})} | SECURE, "ok", "chart: config.tenancy.maxNodesPerNamespace (how many nodes are partitioned for one namespace); config.tenancy.maxProfilesPerNamespace (", ""),
    ("in some namespaces", "Doors", {"doors": Doors(admission=False, allowed_engines=False, allowed_slices=False), "settings": NAMESPACED} | SECURE, "ok", "chart: config.defaults.readOnlyRootFilesystem (what engines may write); config.tenancy.maxProfilesPerNamespace", ""),
    ("open by default", "Doors", {"doors": Doors(operators_network=False, engines_network=False)}, "ok", "networkPolicy.engines.namespaces (who may ask engines); metrics.secure.enabled (who may read the operator's figures); config.defaults.readOnlyRootFilesystem", ""),
    ("no policy for the token", "Doors", {"doors": Doors(admission=False), "settings": CLOSED} | SECURE, "ok", "open, each a value of the chart: policy.enabled (what", ""),
    ("unseen", "Doors", {"doors": Unseen("list networkpolicies")}, "warning", "no right to list networkpolicies", "ask whoever"),
    ("none", "Taints", {}, "ok", "no taint", ""),
    ("only preferred", "Taints", on(tainted("dedicated", "PreferNoSchedule")), "ok", "no taint", ""),
    ("of a condition", "Taints", on(tainted("node.kubernetes.io/disk-pressure")), "ok", "no taint", ""),
    ("our own", "Taints", on(tainted("slm-operator.io/changing")), "ok", "no taint", ""),
    ("nobody tolerates", "Taints", on(tainted("dedicated")), "warning", "unless they tolerate dedicated", "{key: dedicated, operator: Exists}"),
    ("by default", "Taints", on(tainted("nvidia.com/gpu")), "ok", "replicas tolerate nvidia.com/gpu by default", ""),
    ("one does not", "Taints", on(tainted("nvidia.com/gpu")) | {"wishes": (Wish(name="a/b", mode="Auto"), Wish(name="a/c", mode="Auto", tolerations=GPU_TOLERATION))}, "warning", "(a/b)", "tolerations"),
    ("all tolerate", "Taints", on(tainted("nvidia.com/gpu")) | {"wishes": (Wish(name="a/c", mode="Auto", tolerations=GPU_TOLERATION),)}, "ok", "every SLMDeployment tolerates nvidia.com/gpu", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "changed", "level", "what", "remedy"), [c[1:] for c in CASES], ids=[f"{c[1]}: {c[0]}" for c in CASES]
)
def test_preflight_check_answers(check: str, changed: dict[str, Any], level: str, what: str, remedy: str) -> None:
    (finding,) = (one for one in preflight(replace(SOUND, **changed)) if one.check == check)
    assert (str(finding.answer.level), finding.nodes) in ((level, ()), (level, ("gpu-1",)))
    assert what in finding.answer.what
    assert remedy in finding.answer.remedy
    assert bool(finding.answer.remedy) == (level != "ok")


# name, check, what is changed: where another check has said it, or where it does not apply
SILENT: list[tuple[str, str, dict[str, Any]]] = [
    ("kinds are missing", "CRDs", {"missing_kinds": ("SLMDeployment",)}),
    ("no operator is known", "Lease", {"operators": ()}),
    ("no plugin is where it is expected", "Plugin version", {"settings": ELSEWHERE}),
    ("no plugin is where it is expected", "Config-manager", {"settings": ELSEWHERE}),
    ("the operator sees no node", "Device plugin", {"settings": NAMESPACED, "daemon_sets": ()}),
    ("the operator sees no node", "Configurations", {"settings": NAMESPACED, "plugin_config": None}),
    ("the operator sees no node", "MPS daemon", {"settings": NAMESPACED, "daemon_sets": ()}),
    ("the plugin's pods are unseen", "Plugin's pod", {"plugin_pods_seen": False} | on(node(daemons=()))),
    ("the plugin's pods are unseen", "GPUs", {"plugin_pods_seen": False} | on(node(CUT | {"slm-operator.io/slice-class": "mps-4"}, SHARED, daemons=()))),
    ("no library is set", "Library", {}),
    ("nobody has looked", "Doors", {}),
    ("no operator is known", "Doors", {"doors": Doors(), "operators": ()}),
    ("nothing is deployed", "Defaults", {}),
    ("settings are unseen", "Defaults", {"settings_doubt": "not seen", "wishes": (Wish(name="a/b", mode="Auto", older=("proxy",)),)}),
    ("deployments are unseen", "Defaults", {"wishes": Unseen("list slmdeployments")}),
    ("no label", "Node's key", {}),
    ("no pack", "Autoscalers", {"autoscalers": (HPA,)}),
    ("unseen", "Autoscalers", {"packs": (PACK,), "autoscalers": Unseen("list horizontalpodautoscalers")}),
    ("no pack", "Supervisors", {}),
    ("the ConfigMap is unseen", "Node's key", on(node({"nvidia.com/device-plugin.config": "gone"})) | {"plugin_config": Unseen("get")}),
    ("the label is away", "Node", on(node(without=("slm-operator.io/managed",)))),
]  # fmt: skip


@pytest.mark.parametrize(("check", "changed"), [c[1:] for c in SILENT], ids=[f"{c[1]}: {c[0]}" for c in SILENT])
def test_preflight_check_says_nothing(check: str, changed: dict[str, Any]) -> None:
    assert check not in {one.check for one in preflight(replace(SOUND, **changed))}


def test_every_check_has_its_cases() -> None:
    every = {name for name, _ in (*CHECKS, *NODE_CHECKS)}
    assert {check for _, check, _, level, *_ in CASES if level != "ok"} == every


IMAGES = [
    ("nvcr.io/nvidia/k8s-device-plugin:v0.20.0", "", (0, 20, 0)),
    ("registry:5000/plugin", "", None),
    ("registry:5000/plugin:v0.18.1@sha256:abc", "", (0, 18, 1)),
    ("nvcr.io/nvidia/k8s-device-plugin@sha256:abc", "0.19.0", (0, 19, 0)),
    ("mirror/plugin:test", "0.20.0", (0, 20, 0)),
    ("mirror/plugin:test", "", None),
]


@pytest.mark.parametrize(("image", "label", "version"), IMAGES)
def test_version_of_a_daemon_set(image: str, label: str, version: tuple[int, int, int] | None) -> None:
    raw = build.raw_daemon_set("p", "nvidia-device-plugin-ctr", image)
    raw["metadata"]["labels"] = {"app.kubernetes.io/version": label}
    found = daemon_set(raw)
    assert found is not None
    assert found.version == version


def test_the_gpu_operator_s_daemon_set() -> None:
    """As gpu-operator has it: other names, and the configurations as a projected volume or none."""
    raw = build.raw_daemon_set("nvidia-device-plugin-daemonset", "nvidia-device-plugin")
    pod = raw["spec"]["template"]["spec"]
    pod["containers"][0]["name"] = "config-manager"
    pod["volumes"] = [{"name": "p", "projected": {"sources": [{"configMap": {"name": "device-plugin-configs"}}]}}]
    found = daemon_set(raw)
    assert found is not None
    assert (found.part, found.has_config_manager, found.config_maps) == (
        "device-plugin",
        True,
        frozenset({"device-plugin-configs"}),
    )
    del pod["containers"][0], pod["volumes"]
    bare = daemon_set(raw)
    assert bare is not None
    assert (bare.has_config_manager, bare.config_label, bare.config_maps) == (False, None, frozenset())


def test_schemas_are_compared_field_by_field() -> None:
    assert compare(objects.OPENAPI) == SchemaSeen()
    assert compare({}) == SchemaSeen()
    known = definition(KINDS[0])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = dict(known["properties"]["spec"]["properties"])
    del spec["sharing"]
    changed = known | {
        "properties": known["properties"] | {"spec": {"properties": spec | {"colour": {"properties": {"hue": {}}}}}}
    }
    openapi = {"components": {"schemas": objects.OPENAPI["components"]["schemas"] | {"SLMDeployment": changed | {
        "x-kubernetes-group-version-kind": [{"group": "slm-operator.io", "version": "v1alpha1", "kind": "SLMDeployment"}]}}}}  # fmt: skip
    assert compare(openapi) == SchemaSeen(
        lacking=("SLMDeployment.spec.sharing",), unknown=("SLMDeployment.spec.colour",)
    )


METRICS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "over pods": ({"type": "Pods", "pods": {"target": {"type": "AverageValue"}}}, ("Pods",)),
    "of a resource": ({"type": "Resource", "resource": {"target": {"type": "Utilization"}}}, ("Resource",)),
    "of an object, by value": ({"type": "Object", "object": {"target": {"type": "Value"}}}, ("Object with a Value",)),
    "of an object, on average": ({"type": "Object", "object": {"target": {"type": "AverageValue"}}}, ()),
    "from outside, on average": ({"type": "External", "external": {"target": {"type": "AverageValue"}}}, ()),
    "nothing that is known": ({"type": "New"}, ()),
}


@pytest.mark.parametrize("case", METRICS)
def test_a_metric_that_counts_pods_is_told_apart(case: str) -> None:
    metric, expected = METRICS[case]
    target = {"kind": "SLMDeployment", "name": "chat"}
    raw = {"metadata": {"name": "chat-hpa"}, "spec": {"scaleTargetRef": target, "metrics": [metric]}}
    (found,) = autoscalers_in([raw])
    assert found == Autoscaler(name="chat-hpa", target="chat", counts_pods=expected)


def test_an_autoscaler_of_something_else_is_not_looked_at() -> None:
    target = {"kind": "Deployment", "name": "chat"}
    assert autoscalers_in([{"metadata": {"name": "a"}, "spec": {"scaleTargetRef": target}}]) == ()


def test_a_deployment_of_single_engines_is_no_pack() -> None:
    assert packs_in([{"metadata": {"name": "chat"}}]) == ()
