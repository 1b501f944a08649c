"""NVIDIA's device plugin: its daemons' pods, and the ConfigMap that they read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_operator.settings import DevicePlugin
from slm_operator.watch import projection

from tests.builders.metadata import Raw, raw_meta
from tests.builders.pods import raw_pod

if TYPE_CHECKING:
    from slm_operator.watch.records import ConfigMapRecord, DaemonPodRecord

PLUGIN = DevicePlugin()
PART_CONTAINERS = {
    "device-plugin": ("nvidia-device-plugin", "config-manager"),
    "mps-control-daemon": ("mps-control-daemon-ctr",),
}
"""What the containers of each part are called."""


def raw_daemon(part: str, node: str, containers: tuple[str, ...] | None = None) -> Raw:
    """A pod of the stack, ready."""
    named = PART_CONTAINERS[part] if containers is None else containers
    ready = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": name, "ready": True} for name in named],
    }
    raw = raw_pod(f"{part}-{node}", PLUGIN.namespace, node=node, gpus=0, status=ready)
    return raw | {"spec": raw["spec"] | {"containers": [{"name": name} for name in named]}}


def daemon(part: str, node: str, containers: tuple[str, ...] | None = None, **changed: Any) -> DaemonPodRecord:
    record = projection.daemons_of(PLUGIN.namespace)(raw_daemon(part, node, containers))
    assert record is not None
    assert record.part == part
    return replace(record, **changed)


def raw_daemon_set(name: str, container: str, image: str = "nvcr.io/nvidia/k8s-device-plugin:v0.20.0") -> Raw:
    """A DaemonSet of NVIDIA's chart, with named configurations."""
    environment = [
        {"name": "NODE_LABEL", "value": PLUGIN.config_label},
        {"name": "DEFAULT_CONFIG", "value": "default"},
    ]
    pod = {
        "containers": [
            {"name": f"{name}-sidecar", "image": image, "env": environment},
            {"name": container, "image": image},
        ],
        "volumes": [{"name": "available-configs", "configMap": {"name": PLUGIN.config_map}}],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
    return {
        "metadata": raw_meta(name, PLUGIN.namespace, labels={}),
        "spec": {"template": {"spec": pod}},
        "status": {"numberReady": 1, "desiredNumberScheduled": 1},
    }


def plugin_pods(node: str, *, config_manager: bool = True) -> tuple[DaemonPodRecord, ...]:
    """Those of a node on which nothing is shared: the device plugin, with a config-manager beside it or without."""
    containers = PART_CONTAINERS["device-plugin"]
    return (daemon("device-plugin", node, containers if config_manager else containers[:1]),)


def raw_config_map(**data: str) -> Raw:
    """The plugin's ConfigMap: `default`, and the keys that are given."""
    return {"metadata": raw_meta(PLUGIN.config_map, PLUGIN.namespace), "data": {"default": "version: v1"} | data}


def config_map(**data: str) -> ConfigMapRecord:
    return projection.config_map(raw_config_map(**data))
