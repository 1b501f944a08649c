"""Configurations of NVIDIA's device plugin, one immutable key for each slice class.

Only a change of the node's label loads a configuration, new content under an old key is never read, and a key in use
must not go: so the key's name contains the hash of its content. Format: k8s-device-plugin, api/config/v1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import yaml
from slm_core.measurements import SharingMode

from slm_operator.api import names
from slm_operator.manifests.metadata import digest

_STRATEGY = {SharingMode.MPS: "mps", SharingMode.TIME_SLICING: "timeSlicing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceClass:
    """(mode, R): how a node's GPUs are cut. One engine a GPU is (None, 1), an unshared node."""

    mode: SharingMode
    replicas_per_gpu: int

    @property
    def label(self) -> str:
        """Value of the slice-class label: mps-4, time-slicing-2, none."""
        words = {
            "None": "none",
            "TimeSlicing": f"time-slicing-{self.replicas_per_gpu}",
            "MPS": f"mps-{self.replicas_per_gpu}",
        }
        return words[self.mode]


@cache
def plugin_config(wanted: SliceClass) -> str:
    """The configuration file of a class."""
    flags: dict[str, Any] = {"plugin": {"sharedDevicesAllocationPolicy": "packed"}}
    body: dict[str, Any] = {"version": "v1", "flags": flags}
    if wanted.mode is not SharingMode.NONE:
        body["sharing"] = {
            _STRATEGY[wanted.mode]: {
                "renameByDefault": True,  # published as nvidia.com/gpu.shared: nobody else takes a slice by accident
                "failRequestsGreaterThanOne": True,
                "resources": [{"name": names.NVIDIA_GPU, "replicas": wanted.replicas_per_gpu}],
            }
        }
    return yaml.safe_dump(body, sort_keys=False)


@cache
def config_key(wanted: SliceClass) -> str:
    """Key of that configuration in the plugin's ConfigMap."""
    return f"{names.CONFIG_KEY_PREFIX}{wanted.label}-{digest(plugin_config(wanted), 8)}"


def is_key_of(key: str | None, wanted: SliceClass) -> bool:
    """Whether a key of ours is a configuration of that class, whichever release of the operator wrote it."""
    return key is not None and key.startswith(f"{names.CONFIG_KEY_PREFIX}{wanted.label}-")


MOST_CHARACTERS, MOST_REPLICAS = 64 << 10, 1000
"""Of somebody's configuration: reading YAML takes seconds a megabyte, and no GPU has so many replicas."""


@lru_cache(maxsize=256)  # bounded, because texts are anybody's
def class_of_config(text: str) -> SliceClass | None:
    """The class that anybody's configuration file makes of nvidia.com/gpu. None when it cannot be read."""
    try:
        body = yaml.safe_load(text) if len(text) <= MOST_CHARACTERS else None
        sharing = (body.get("sharing") or {}) if isinstance(body, dict) else None
        if sharing is None:
            return None
        for mode, field in _STRATEGY.items():
            for resource in (sharing.get(field) or {}).get("resources") or ():
                if resource["name"] != names.NVIDIA_GPU:
                    continue
                replicas = int(resource["replicas"])
                if replicas > MOST_REPLICAS:
                    return None
                if replicas > 1:
                    return SliceClass(mode=mode, replicas_per_gpu=replicas)
    except (yaml.YAMLError, ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return SliceClass(mode=SharingMode.NONE, replicas_per_gpu=1)
