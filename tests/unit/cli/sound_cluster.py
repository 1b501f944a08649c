"""A cluster in which `kubectl slm check` finds nothing to remedy, to be changed case by case."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_operator.cli.preflight.facts import Facts, Installed, LeaseSeen, Node
from slm_operator.cli.preflight.stack import DaemonSet, daemon_set
from slm_operator.planning.fleet.node.annotations import failures_in
from slm_operator.planning.fleet.node.state import NodeState
from slm_operator.planning.fleet.node.states import is_opted_in
from slm_operator.planning.fleet.tolerations import Toleration
from slm_operator.settings import Settings
from slm_operator.watch.projection import node as node_record
from slm_operator.watch.records import Cause, DaemonPodRecord

from tests import builders as build
from tests.standin.deployment import objects as objects_of
from tests.unit.cli import cluster_objects as objects

if TYPE_CHECKING:
    from tests.standin.releases import Release

DEFAULTS = Settings()
GPU_TOLERATION = (Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),)
SHARED = {"nvidia.com/gpu": "0", "nvidia.com/gpu.shared": "32"}
CUT = {"nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.sharing-strategy": "mps"}


def plugin_pod(part: str = "device-plugin", *, ready: bool = True, waiting: str | None = None) -> DaemonPodRecord:
    return build.daemon(part, "gpu-1", ready=ready, waiting=Cause(waiting) if waiting else None)


def node(
    labels: dict[str, str] | None = None,
    allocatable: dict[str, str] | None = None,
    *,
    without: tuple[str, ...] = (),
    spec: dict[str, Any] | None = None,
    ready: str = "True",
    annotations: dict[str, str] | None = None,
    daemons: tuple[DaemonPodRecord, ...] = (plugin_pod(),),
    kubelet: str = "v1.34.2",
    name: str = "gpu-1",
    settings: Settings = DEFAULTS,
) -> Node:
    reported = {
        name: value for name, value in (objects.H100 | build.OPTED_IN | (labels or {})).items() if name not in without
    }
    raw = build.raw_node(
        name, labels=reported, allocatable=allocatable or build.slots(8), spec=spec, annotations=annotations or {}
    )
    raw["status"]["conditions"][0]["status"] = ready
    record = node_record(raw)
    state = NodeState(
        node=record,
        opted_in=is_opted_in(record, settings),
        requested_config=record.meta.labels.get("nvidia.com/device-plugin.config"),
        daemons=daemons,
        failures=failures_in(record.meta.annotations.get("slm-operator.io/change-failed")),
    )
    return Node(state=state, kubelet=kubelet)


def tainted(key: str, effect: str = "NoSchedule", name: str = "gpu-1") -> Node:
    return node(spec={"taints": [{"key": key, "effect": effect}]}, name=name)


def daemon(part: str = "device-plugin", **changed: Any) -> DaemonSet:
    whole = DaemonSet(
        namespace="nvidia-device-plugin",
        name=part,
        part=part,
        image="nvcr.io/nvidia/k8s-device-plugin:v0.20.0",
        version=(0, 20, 0),
        has_config_manager=True,
        config_label="nvidia.com/device-plugin.config",
        default_key="default",
        config_maps=frozenset({"nvidia-device-plugin-configs"}),
        tolerations=GPU_TOLERATION,
        ready=1,
        wanted=1,
    )
    return replace(whole, **changed)


def stack(release: Release) -> tuple[DaemonSet, ...]:
    """NVIDIA's DaemonSets as a release has them."""
    raws = (one for one in objects_of(image=release.image, release=release) if one["kind"] == "DaemonSet")
    found = tuple(one for one in map(daemon_set, raws) if one is not None)
    return tuple(replace(one, ready=1, wanted=1) for one in found)


STACK = (daemon(), daemon("mps-control-daemon"), daemon("gpu-feature-discovery"))
OPERATOR = Installed(
    namespace="slm-system", name="slm-operator", wanted=2, ready=2, version="0.1.0", settings_map="slm-operator"
)
SOUND = Facts(
    namespace="team",
    server="v1.34.2",
    operators=(OPERATOR,),
    lease=LeaseSeen(holder="slm-operator-0", age_seconds=1, renewing=True),
    nodes=(node(),),
    daemon_sets=STACK,
    plugin_config={"default": "version: v1"},
)
