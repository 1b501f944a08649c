"""The pods that golden files pin: one for each engine, sharing mode and model source that differs in a pod."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from slm_core.engines.registry import default
from slm_core.measurements import SharingMode
from slm_operator.api import names
from slm_operator.digest import digest
from slm_operator.manifests.profile import Preference, Where, profile_job
from slm_operator.manifests.replicas import (
    Nodes,
    disruption_budget,
    pod_template,
    replicas,
    served_pack,
    service,
)
from slm_operator.manifests.router import Router
from slm_operator.manifests.routing import http_route, inference_pool
from slm_operator.manifests.served import PackMeans
from slm_operator.partitioning.base import SliceClass
from slm_operator.partitioning.plugin_config import config_key, plugin_config
from slm_operator.settings import Profiling, Settings
from slm_operator.watch.records import ProfileRecord

from tests import builders as build

SPECS: dict[str, tuple[dict[str, Any], SharingMode, int]] = {
    "vllm-whole-gpu": (
        {"model": {"uri": "hf://facebook/opt-125m", "credentialsSecretRef": {"name": "hub"}}},
        SharingMode.EXCLUSIVE,
        1,
    ),
    "vllm-mps": (
        {
            "model": {"uri": "pvc://models/opt-1.3b", "name": "opt"},
            "accelerator": {"products": ["NVIDIA-H100-80GB-HBM3"]},
        },
        SharingMode.MPS,
        4,
    ),
    "vllm-time-slicing-shared": (
        {"model": {"uri": "oci://registry.example/models/opt:1"}, "sharing": {"tenancy": "Shared"}},
        SharingMode.TIME_SLICING,
        2,
    ),
    "vllm-from-bucket": (
        {
            "model": {"uri": "s3://models/opt-1.3b", "credentialsSecretRef": {"name": "bucket"}},
            "engine": {"env": [{"name": "AWS_ENDPOINT_URL", "value": "http://minio.storage:9000"}]},
        },
        SharingMode.MPS,
        2,
    ),
    "vllm-hub-cache-of-the-node": (
        {
            "model": {"uri": "hf://facebook/opt-1.3b", "revision": "3f5c25d0bc631cb57ac65913f76e22c2dfb61d62"},
            "engine": {"env": [{"name": "HF_HOME", "value": "/hub"}]},
            "podTemplate": {
                "spec": {
                    "containers": [{"name": "engine", "volumeMounts": [{"name": "hub", "mountPath": "/hub"}]}],
                    "volumes": [{"name": "hub", "persistentVolumeClaim": {"claimName": "hub-cache"}}],
                }
            },
        },
        SharingMode.TIME_SLICING,
        4,
    ),
    "overlay": (
        {
            "model": {"uri": "/models/opt"},
            "engine": {
                "args": ["--enforce-eager"],
                "env": [{"name": "HOME", "value": "/home/me"}],
                "maxModelLen": 2048,
            },
            "podTemplate": {
                "metadata": {"annotations": {"team": "a"}},
                "spec": {
                    "priorityClassName": "serving",
                    "tolerations": [{"key": "gpu", "operator": "Exists"}],
                    "containers": [
                        {
                            "name": "engine",
                            "resources": {"limits": {"cpu": "4"}},
                            "volumeMounts": [{"name": "x", "mountPath": "/x"}],
                        },
                        {"name": "sidecar", "image": "busybox"},
                    ],
                    "volumes": [{"name": "x", "emptyDir": {}}],
                },
            },
        },
        SharingMode.MPS,
        2,
    ),
}

BOUND: dict[str, tuple[dict[str, Any], SharingMode, int]] = {
    "bound-whole-gpu": (
        {
            "model": {"uri": "hf://facebook/opt-125m"},
            "podTemplate": {
                "spec": {
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [
                                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}
                                ]
                            }
                        }
                    }
                }
            },
        },
        SharingMode.EXCLUSIVE,
        1,
    ),
    "bound-mps": ({"model": {"uri": "hf://facebook/opt-125m"}}, SharingMode.MPS, 2),
}
"""Bound to what was measured, which spec does not name. The others are as earlier versions made them."""

ROUTER = Router(
    port=8000,
    status_port=8001,
    agent_port=8002,
    metrics_port=8003,
    engine_ports=(8101, 8102, 8103, 8104),
    most_in_flight=64,
    paths=default().paths,
)


def golden() -> dict[str, list[dict[str, Any]]]:
    """File name to manifests."""
    files = {name: _serving(*case) for name, case in SPECS.items()}
    files["vllm-pack-in-a-pod"] = _pack()
    files |= {name: _serving(*case, product="NVIDIA-L4", bound=True) for name, case in BOUND.items()}
    files["template-hashes"] = [{name: digest(made[0]["spec"]["template"]) for name, made in files.items()}]
    files["profile-job"] = [_profile_job()]
    files["routing"] = _routing()
    classes = [SliceClass(mode=mode, engines_per_gpu=4) for mode in (SharingMode.MPS, SharingMode.TIME_SLICING)]
    files["plugin-config"] = [{"key": config_key(c), "config": plugin_config(c)} for c in classes]
    return files


def template_of(spec: dict[str, Any], mode: SharingMode, per_gpu: int) -> dict[str, Any]:
    """A replica's pod template."""
    record, nodes = build.deployment(spec=spec), Nodes(opt_in_label=names.OPT_IN_LABEL, bound=False)
    return pod_template(record, build.spec_of(record), build.serving(mode, per_gpu), nodes)


def _serving(spec: dict[str, Any], mode: SharingMode, per_gpu: int, **bound: Any) -> list[dict[str, Any]]:
    record, serving = build.deployment(spec=spec), build.serving(mode, per_gpu)
    made_from = {"product": build.spec_of(record).accelerator.product} | bound
    fleet = build.replica_fleet(serving, per_gpu, "opt-12345678", **made_from)
    return [
        replicas(record, build.spec_of(record), serving, fleet),
        service(record),
        disruption_budget(record),
    ]


def _pack() -> list[dict[str, Any]]:
    spec = {"model": {"uri": "hf://facebook/opt-1.3b", "credentialsSecretRef": {"name": "hub"}}}
    record, serving = build.deployment(spec=spec), build.pack_serving(SharingMode.MPS, 4)
    means = PackMeans(
        supervisor_image="ghcr.io/slm/operator@sha256:0a", router_image="docker.io/library/haproxy@sha256:0b"
    )
    pack = served_pack(record, build.spec_of(record), serving, means, None)
    fleet = build.replica_fleet(serving, 2, "opt-12345678", spare_slot=True)
    fleet = replace(fleet, served=fleet.served.model_copy(update={"pack": pack}))
    return [replicas(record, build.spec_of(record), serving, fleet)]


def _routing() -> list[dict[str, Any]]:
    asked = {
        "gatewayRef": {"name": "inference", "namespace": "infra"},
        "endpointPickerRef": {"name": "chat-epp"},
        "hostnames": ["chat.example.com"],
    }
    record = build.deployment(spec={"model": {"uri": "hf://facebook/opt-125m"}, "routing": asked})
    routing = build.spec_of(record).routing
    assert routing is not None
    return [inference_pool(record, routing), http_route(record, routing)]


def _profile_job() -> dict[str, Any]:
    spec = build.profile_spec(
        {
            "model": {"uri": "pvc://models/opt-1.3b", "revision": "abc", "remoteCode": "Trusted"},
            "gpu": {"product": "NVIDIA-H100-80GB-HBM3"},
            "workload": {"dataset": "pvc://data/sharegpt.json", "concurrencyPerGpu": 64},
            "search": {
                "slo": {"itl": {"maxFactor": 2, "statistic": "P90"}, "ttft": {"maxMs": 500, "statistic": "P90"}},
                "mode": "MPS",
                "enginesPerGpu": 2,
            },
        }
    )
    record = ProfileRecord(meta=build.meta("opt-1-3b-12345678", uid="uid-profile"), spec=spec)
    free = (Preference(weight=100, hostnames=("gpu-1", "gpu-3")), Preference(weight=50, hostnames=("gpu-2",)))
    where = Where(opt_in_label=names.OPT_IN_LABEL, preferred=free)
    return profile_job(record, spec, Settings(profiling=Profiling(image="slm-operator:0.1.0")), where)
