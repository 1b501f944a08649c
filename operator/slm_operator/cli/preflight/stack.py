"""NVIDIA's DaemonSets as values: which part, which version, how it is configured, what it tolerates.

Recognised by the names of their containers, which the GPU Operator and the plugin's own chart share with few
exceptions; names and labels of the DaemonSets differ by installation. Sources: k8s-device-plugin, deployments/helm;
gpu-operator, assets/. Assumes nothing about who wrote an object: any field may be missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_operator.partitioning.node_slices import CONFIG_MANAGERS, PARTS
from slm_operator.planning.fleet.tolerations import tolerations_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slm_operator.planning.fleet.tolerations import Toleration

FEATURE_DISCOVERY = "gpu-feature-discovery"

_PARTS = {
    **PARTS,
    "gpu-feature-discovery-ctr": FEATURE_DISCOVERY,
    "gpu-feature-discovery": FEATURE_DISCOVERY,
}
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?![\d.])")

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSet:
    """One DaemonSet of NVIDIA's stack."""

    namespace: str
    name: str
    part: str
    image: str
    version: Version | None
    """From the image's tag, else from the label app.kubernetes.io/version. None: neither tells."""
    has_config_manager: bool = False
    config_label: str | None = None
    """Node label that its config-manager obeys."""
    default_key: str = ""
    """Configuration that its config-manager takes on nodes without that label."""
    takes_lone_key: bool = False
    """Whether it takes the only key that there is, where there is no `default`."""
    config_maps: frozenset[str] = frozenset()
    """ConfigMaps that it mounts."""
    tolerations: tuple[Toleration, ...] = ()
    ready: int = 0
    wanted: int = 0

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def daemon_set(raw: Mapping[str, Any]) -> DaemonSet | None:
    """A DaemonSet of NVIDIA's stack, or None for any other."""
    meta, pod = raw["metadata"], ((raw.get("spec") or {}).get("template") or {}).get("spec") or {}
    containers = pod.get("containers") or ()
    main = next((one for one in containers if one.get("name") in _PARTS), None)
    if main is None:
        return None
    manager = next((one for one in containers if one.get("name") in CONFIG_MANAGERS), None)
    environment = {one.get("name"): one.get("value") or "" for one in (manager or {}).get("env") or ()}
    labels, status = meta.get("labels") or {}, raw.get("status") or {}
    image = str(main.get("image") or "")
    return DaemonSet(
        namespace=meta.get("namespace") or "",
        name=meta["name"],
        part=_PARTS[main["name"]],
        image=image,
        version=version_of(_tag(image)) or version_of(labels.get("app.kubernetes.io/version") or ""),
        has_config_manager=manager is not None,
        config_label=environment.get("NODE_LABEL") or None,
        default_key=environment.get("DEFAULT_CONFIG") or "",
        takes_lone_key="single" in (environment.get("FALLBACK_STRATEGIES") or "").split(","),
        config_maps=frozenset(_config_maps(pod.get("volumes") or ())),
        tolerations=tolerations_of(pod.get("tolerations") or ()),
        ready=status.get("numberReady") or 0,
        wanted=status.get("desiredNumberScheduled") or 0,
    )


def version_of(text: str) -> Version | None:
    """Numbers of a version at the start of a text: v0.20.0-ubi9, 1.34.2+k3s1. None when it does not begin with one."""
    found = _VERSION.match(text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3] or 0))


def _tag(image: str) -> str:
    """What follows the colon of the last part: a registry may have a port, a digest is no tag."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def _config_maps(volumes: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for volume in volumes:
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            if source.get("configMap"):
                yield str(source["configMap"].get("name") or "")
