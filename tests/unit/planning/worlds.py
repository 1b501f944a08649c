"""Small worlds for planning tests: records by name, a document with a known answer, and a way to play a node's story."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from slm_core.convert import MeasuredOn, from_csv
from slm_core.measurements import Engine, Gpu, MeasurementDocument, SharingMode
from slm_operator.api import names
from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.manifests.metadata import job_name
from slm_operator.manifests.profile import profile_name, profile_spec
from slm_operator.partitioning.base import SliceClass
from slm_operator.planning.actions import Action, Evict, PatchConfig, PatchNode
from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.views import Demand, DeploymentView, FleetView
from slm_operator.settings import Settings
from slm_operator.watch.records import (
    ConfigMapRecord,
    DaemonPodRecord,
    DeploymentRecord,
    JobRecord,
    Key,
    Meta,
    NodeRecord,
    Owner,
    PodRecord,
    ProfileRecord,
    Taint,
    WorkloadRecord,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = Settings()
MPS_2 = SliceClass(mode=SharingMode.MPS, engines_per_gpu=2)
MPS_3 = SliceClass(mode=SharingMode.MPS, engines_per_gpu=3)
MPS_4 = SliceClass(mode=SharingMode.MPS, engines_per_gpu=4)
WHOLE = SliceClass(mode=SharingMode.EXCLUSIVE, engines_per_gpu=1)
DATA = Path(__file__).parents[2] / "data" / "memory-gap-h100"


def meta(name: str, namespace: str = "team", **more: Any) -> Meta:
    return Meta(key=Key(namespace, name), uid=f"uid-{name}", resource_version="1", generation=1, **more)


def deployment(name: str = "chat", spec: dict[str, Any] | None = None, **more: Any) -> DeploymentRecord:
    body = {"model": {"uri": "pvc://models/opt"}} | (spec or {})
    return DeploymentRecord(meta=meta(name), spec=SLMDeploymentSpec.model_validate(body), **more)


def seen(record: DeploymentRecord, profile: ProfileRecord | None, **more: Any) -> DeploymentView:
    """A deployment with its profile and the advice on it, as they are gathered."""
    given = {"advice": advice_of(record, profile)} | more
    return DeploymentView(deployment=record, profile=profile, **given)


@cache
def document(model: str = "opt-1.3b") -> MeasurementDocument:
    on = MeasuredOn(gpu=Gpu(product="NVIDIA-H100-80GB-HBM3", memory_bytes=80 << 30), engine=Engine(version="0.6.2"))
    return from_csv((DATA / "batch_sweep.csv").read_text(), model=model, on=on, source="batch_sweep.csv")


def profile(record: DeploymentRecord, measured: MeasurementDocument | None = None, **more: Any) -> ProfileRecord:
    assert record.spec is not None
    return ProfileRecord(
        meta=meta(profile_name(record.spec)),
        spec=profile_spec(record.spec),
        measurements=measured,
        imported=measured is not None,
        **more,
    )


def node(
    name: str = "gpu-1",
    *,
    gpus: int = 1,
    slice_class: SliceClass = WHOLE,
    labels: dict[str, str] | None = None,
    **more: Any,
) -> NodeRecord:
    own = {names.OPT_IN_LABEL: "true"} | feature_labels(gpus, slice_class) | (labels or {})
    return NodeRecord(meta=meta(name, "", labels=own), ready=True, allocatable=slots(gpus, slice_class), **more)


def feature_labels(gpus: int, slice_class: SliceClass) -> dict[str, str]:
    strategy = {"Exclusive": "none", "TimeSlicing": "time-slicing", "MPS": "mps"}[slice_class.mode]
    return {
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.count": str(gpus),
        "nvidia.com/gpu.memory": "81920",
        "nvidia.com/gpu.compute.major": "9",
        "nvidia.com/gpu.replicas": str(slice_class.engines_per_gpu),
        "nvidia.com/gpu.sharing-strategy": strategy,
    }


def slots(gpus: int, slice_class: SliceClass) -> dict[str, int]:
    shared = slice_class.mode is not SharingMode.EXCLUSIVE
    return {
        names.NVIDIA_GPU: 0 if shared else gpus,
        names.NVIDIA_SHARED_GPU: gpus * slice_class.engines_per_gpu if shared else 0,
    }


def plugin_pods(node_name: str, *, config_manager: bool = True) -> tuple[DaemonPodRecord, ...]:
    containers = ("nvidia-device-plugin", "config-manager") if config_manager else ("nvidia-device-plugin",)
    return (daemon("device-plugin", node_name, containers=containers),)


def daemon(part: str, node_name: str, **more: Any) -> DaemonPodRecord:
    return DaemonPodRecord(
        **{"meta": meta(f"{part}-{node_name}", "nv"), "node": node_name, "part": part, "ready": True, **more}
    )


TEMPLATE_HASH = "5f4d"


def replica(name: str, node_name: str | None = "gpu-1", of: str = "chat", namespace: str = "team") -> PodRecord:
    labels = {names.DEPLOYMENT_LABEL: of, "pod-template-hash": TEMPLATE_HASH}
    made_by = Owner("ReplicaSet", f"{of}-{TEMPLATE_HASH}", f"uid-{of}-{TEMPLATE_HASH}")
    return PodRecord(
        meta=meta(name, namespace, labels=labels, owners=(made_by,)),
        node=node_name,
        phase="Running",
        gpu_requests={names.NVIDIA_SHARED_GPU: 1},
    )


def foreign(name: str, node_name: str = "gpu-1") -> PodRecord:
    return PodRecord(meta=meta(name, "others"), node=node_name, phase="Running", gpu_requests={names.NVIDIA_GPU: 1})


def config_map(**data: str) -> ConfigMapRecord:
    return ConfigMapRecord(
        meta=meta("nvidia-device-plugin-configs", "nvidia-device-plugin"), data={"default": "version: v1"} | data
    )


def demand(
    name: str = "chat", slice_class: SliceClass = MPS_2, replicas: int = 2, namespace: str = "team", **more: Any
) -> Demand:
    return Demand(
        deployment=Key(namespace, name),
        uid=f"uid-{name}",
        slice_class=slice_class,
        replicas=replicas,
        product=None,
        **more,
    )


def fleet(
    *demands: Demand,
    nodes: tuple[NodeRecord, ...],
    pods: tuple[PodRecord, ...] = (),
    quota: int | None = None,
    **more: Any,
) -> FleetView:
    """A fleet with the pods that are given, and what is missing to each demand's replicas waiting for a node.

    `quota`: so many pods may wait for each demand.
    """
    pods = (*pods, *(pod for one in demands for pod in _waiting(one, pods, quota)))
    daemons = tuple(pod for n in nodes for pod in plugin_pods(n.meta.key.name))
    return FleetView(
        **({"demands": demands, "nodes": nodes, "pods": pods, "config_map": config_map(), "daemons": daemons} | more)
    )


def _waiting(one: Demand, pods: tuple[PodRecord, ...], quota: int | None) -> tuple[PodRecord, ...]:
    namespace, name = one.deployment
    missing = one.replicas - sum((pod.meta.key.namespace, pod.replica_of) == (namespace, name) for pod in pods)
    count = missing if quota is None else min(missing, quota)
    return tuple(replace(replica(f"{name}-waits-{i}", None, name, namespace), phase="Pending") for i in range(count))


def play(view: FleetView, action: Action) -> FleetView:
    """The world after one action, with a device plugin that converges at once and evictions that succeed at once."""
    match action:
        case PatchNode():
            nodes = tuple(_patched(n, action) if n.meta.key.name == action.node else n for n in view.nodes)
            return _with_mps_daemons(replace(view, nodes=nodes))
        case PatchConfig():
            old = view.config_map
            assert old is not None
            assert not set(action.add) & set(old.data), "a key was edited"
            data = {key: text for key, text in (old.data | dict(action.add)).items() if key not in action.remove}
            return replace(view, config_map=ConfigMapRecord(meta=_annotated(old.meta, action.annotations), data=data))
        case Evict():
            stay = tuple(pod for pod in view.pods if pod.meta.key != action.pod)
            gone = (pod for pod in view.pods if pod.meta.key == action.pod)
            again = (replace(pod, node=None, phase="Pending", ready=False) for pod in gone)
            return replace(view, pods=(*stay, *again))
        case _:
            return view


def _patched(record: NodeRecord, action: PatchNode) -> NodeRecord:
    changed = replace(record, meta=_annotated(_labelled(record.meta, action.labels), action.annotations))
    if action.taints is not None:
        changed = replace(changed, taints=action.taints)
    key = SETTINGS.device_plugin.config_label
    if key not in action.labels:
        return changed
    slice_class = _class_of(action.labels[key])
    gpus = int(record.meta.labels["nvidia.com/gpu.count"])
    return replace(
        changed, meta=_labelled(changed.meta, feature_labels(gpus, slice_class)), allocatable=slots(gpus, slice_class)
    )


def _with_mps_daemons(view: FleetView) -> FleetView:
    """NB: NVIDIA's MPS daemon cannot come while our taint is there; without it nothing is allocatable."""
    nodes, daemons = [], [one for one in view.daemons if one.part != "mps-control-daemon"]
    there = {one.node for one in view.daemons if one.part == "mps-control-daemon"}
    for one in view.nodes:
        name, gpus = one.meta.key.name, int(one.meta.labels["nvidia.com/gpu.count"])
        slice_class = _class_of(one.meta.labels.get(SETTINGS.device_plugin.config_label))
        if slice_class.mode is not SharingMode.MPS:
            nodes.append(one)
            continue
        runs = name in there or not tainted(one)
        daemons += [daemon("mps-control-daemon", name)] if runs else []
        nodes.append(
            replace(one, allocatable=slots(gpus, slice_class) | ({} if runs else {names.NVIDIA_SHARED_GPU: 0}))
        )
    return replace(view, nodes=tuple(nodes), daemons=tuple(daemons))


def _class_of(key: str | None) -> SliceClass:
    for slice_class in (MPS_2, MPS_3, MPS_4):
        if key is not None and key.startswith(f"{names.CONFIG_KEY_PREFIX}{slice_class.label}-"):
            return slice_class
    return WHOLE


def _labelled(old: Meta, changes: Any) -> Meta:
    labels = {name: value for name, value in (dict(old.labels) | dict(changes)).items() if value is not None}
    return replace(old, labels=labels, resource_version=str(int(old.resource_version) + 1))


def _annotated(old: Meta, changes: Any) -> Meta:
    return replace(
        old,
        annotations={
            name: value for name, value in (dict(old.annotations) | dict(changes)).items() if value is not None
        },
    )


def tainted(record: NodeRecord) -> bool:
    return Taint(key=names.CHANGING_TAINT) in record.taints


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def workload(name: str, *, replicas: int, ready: int) -> WorkloadRecord:
    return WorkloadRecord(
        meta=meta(name, owners=(Owner(names.DEPLOYMENT_KIND, name, f"uid-{name}"),)),
        observed_generation=1,
        replicas=replicas,
        existing=replicas,
        updated=replicas,
        ready=ready,
        available=ready,
    )


def job(of: ProfileRecord, **more: Any) -> JobRecord:
    """The Job that measures a profile, a moment old."""
    made_by = Owner(names.PROFILE_KIND, of.meta.key.name, of.meta.uid)
    head = Meta(key=Key(of.meta.key.namespace, job_name(of)), uid=f"job-{of.meta.uid}", owners=(made_by,))
    return JobRecord(**({"meta": head, "active": 1, "created": NOW.isoformat()} | more))


def measuring(of: JobRecord, name: str = "measuring", **more: Any) -> PodRecord:
    """A pod of a profile's Job, running on a whole GPU."""
    made_by = Owner("Job", of.meta.key.name, of.meta.uid)
    labels = {names.PROFILE_LABEL: of.meta.key.name}
    head = Meta(key=Key(of.meta.key.namespace, name), uid=f"uid-{name}", labels=labels, owners=(made_by,))
    running = {"node": "gpu-1", "phase": "Running", "gpu_requests": {names.NVIDIA_GPU: 1}}
    return PodRecord(**({"meta": head} | running | more))


def printed(text: str, at: str = "2026-01-01T00:00:00.000000001Z") -> bytes:
    """A log as the kubelet gives it: each line behind its time."""
    return "".join(f"{at} {line}" for line in text.splitlines(keepends=True)).encode()


def many_packs(count: int) -> DeploymentView:
    """A deployment with one ready replica on each of so many GPUs, as the kubelet tells of them."""
    record = deployment(spec={"replicas": count})
    pods = tuple(
        replace(replica(f"chat-{i}", f"gpu-{i}"), ready=True, resource_health={f"GPU-{i:08d}::0": "Healthy"})
        for i in range(count)
    )
    served = {"workload": workload("chat", replicas=count, ready=count), "pods": pods}
    return seen(record, profile(record, document()), **served)
