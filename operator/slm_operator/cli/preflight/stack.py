"""NVIDIA's DaemonSets as values: which part, which version, how it is configured, what it tolerates.

Recognised by the names of their containers, which the GPU Operator and the plugin's own chart share with few
exceptions; names and labels of the DaemonSets differ by installation. Sources: k8s-device-plugin, deployments/helm;
gpu-operator, assets/. Assumes nothing about who wrote an object: any field may be missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slm_operator.partitioning.config_manager import config_manager_in
from slm_operator.partitioning.node_slices import CONFIG_MANAGERS, PARTS
from slm_operator.planning.fleet.tolerations import tolerations_of
from slm_operator.version import version_of, version_of_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slm_operator.partitioning.config_manager import ConfigManager
    from slm_operator.planning.fleet.tolerations import Toleration
    from slm_operator.version import Version

FEATURE_DISCOVERY = "gpu-feature-discovery"

_PARTS = {
    **PARTS,
    "gpu-feature-discovery-ctr": FEATURE_DISCOVERY,
    "gpu-feature-discovery": FEATURE_DISCOVERY,
}


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
    config_manager: ConfigManager | None = None
    """Whom its config-manager notifies, and whether that arrives."""
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
    version = version_of_image(image) or version_of(labels.get("app.kubernetes.io/version") or "")
    beside = config_manager_in(containers)
    return DaemonSet(
        namespace=meta.get("namespace") or "",
        name=meta["name"],
        part=_PARTS[main["name"]],
        image=image,
        version=version,
        has_config_manager=manager is not None,
        config_label=environment.get("NODE_LABEL") or None,
        default_key=environment.get("DEFAULT_CONFIG") or "",
        takes_lone_key="single" in (environment.get("FALLBACK_STRATEGIES") or "").split(","),
        config_maps=frozenset(_config_maps(pod.get("volumes") or ())),
        config_manager=replace(beside, version=beside.version or version) if beside is not None else None,
        tolerations=tolerations_of(pod.get("tolerations") or ()),
        ready=status.get("numberReady") or 0,
        wanted=status.get("desiredNumberScheduled") or 0,
    )


def _config_maps(volumes: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for volume in volumes:
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            if source.get("configMap"):
                yield str(source["configMap"].get("name") or "")
