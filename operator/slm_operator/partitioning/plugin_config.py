"""Configurations of NVIDIA's device plugin, one immutable key for each slice class.

Only a change of the node's label loads a configuration, new content under an old key is never read, and a key in use
must not go: so the key's name contains the hash of its content. Format: k8s-device-plugin, api/config/v1.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from slm_operator.api import names
from slm_operator.digest import digest
from slm_operator.partitioning.base import UNSHARED, SliceClass, class_of_label
from slm_operator.partitioning.node_slices import STRATEGIES
from slm_operator.yaml_decoding import decode_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DOMAIN = "nvidia.com/"
_DEFAULT_KEY = "default"
"""What a config-manager takes by its fallback `named`, when nothing else is said."""


@cache
def plugin_config(wanted: SliceClass) -> str:
    """The configuration file of a class."""
    flags: dict[str, Any] = {"plugin": {"sharedDevicesAllocationPolicy": "packed"}}
    body: dict[str, Any] = {"version": "v1", "flags": flags}
    if not wanted.is_whole:
        body["sharing"] = {
            STRATEGIES[wanted.mode].stanza: {
                "renameByDefault": True,  # published as nvidia.com/gpu.shared: nobody else takes a slice by accident
                "failRequestsGreaterThanOne": True,
                "resources": [{"name": names.NVIDIA_GPU, "replicas": wanted.engines_per_gpu}],
            }
        }
    return yaml.safe_dump(body, sort_keys=False)


@cache
def config_key(wanted: SliceClass) -> str:
    """Key of that configuration in the plugin's ConfigMap."""
    return f"{names.CONFIG_KEY_PREFIX}{wanted.label}-{digest(plugin_config(wanted), 8)}"


def is_ours(key: str) -> bool:
    """Whether a key is one that some release of the operator wrote."""
    return key.startswith(names.CONFIG_KEY_PREFIX)


def is_key_of(key: str | None, wanted: SliceClass) -> bool:
    """Whether a key of ours is a configuration of that class, whichever release of the operator wrote it."""
    return key is not None and key.startswith(f"{names.CONFIG_KEY_PREFIX}{wanted.label}-")


def class_of_key(key: str | None) -> SliceClass | None:
    """The class that a configuration key of ours is for; None for anybody else's."""
    if key is None or not is_ours(key):
        return None
    return class_of_label(key.removeprefix(names.CONFIG_KEY_PREFIX).rpartition("-")[0])


MOST_CHARACTERS, MOST_REPLICAS = 64 << 10, 1000
"""Of somebody's configuration: reading YAML takes seconds a megabyte, and no GPU has so many replicas."""


@lru_cache(maxsize=256)  # bounded, because texts are anybody's
def class_of_config(text: str) -> SliceClass | None:
    """The class that anybody's configuration file makes of nvidia.com/gpu. None when it cannot be read."""
    try:
        body = decode_yaml(text) if len(text) <= MOST_CHARACTERS else None
        sharing = (body.get("sharing") or {}) if isinstance(body, dict) else None
        if sharing is None:
            return None
        for mode, strategy in STRATEGIES.items():
            for resource in (sharing.get(strategy.stanza) or {}).get("resources") or ():
                if _full_name(resource["name"]) != names.NVIDIA_GPU:
                    continue
                replicas = int(resource["replicas"])
                if replicas > MOST_REPLICAS:
                    return None
                if replicas > 1:
                    return SliceClass(mode=mode, engines_per_gpu=replicas)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return UNSHARED


def _full_name(resource: str) -> str:
    """NB: NVIDIA puts its domain in front of a name without one, here and where it looks for the resource."""
    return resource if resource.startswith(_DOMAIN) else f"{_DOMAIN}{resource}"


class Defaults(Protocol):
    """What decides which configuration a node without the label takes: a plugin's pod, or its DaemonSet."""

    @property
    def default_key(self) -> str:
        """The plugin's default; empty: none."""

    @property
    def takes_lone_key(self) -> bool:
        """Whether, where there is no `default`, the only key that there is counts."""


def lone_key(managers: Sequence[Defaults], texts: Mapping[str, str]) -> str | None:
    """The key that nodes without a label take for no other reason than that it is the only one in the ConfigMap."""
    chosen = _DEFAULT_KEY in texts or any(one.default_key for one in managers)
    falls_back = any(one.takes_lone_key for one in managers)
    return next(iter(texts)) if len(texts) == 1 and falls_back and not chosen else None


def configured_class(
    requested: str | None, managers: Sequence[Defaults], texts: Mapping[str, str]
) -> SliceClass | None:
    """The class that a node must show by its label, `requested`, and the texts of the plugin's ConfigMap. None when nobody can say.

    NB: a key of ours that somebody removed may be loaded all the same; its name says what it was.
    """
    default = next((one.default_key for one in managers if one.default_key), None)
    key = requested or default or lone_key(managers, texts) or _DEFAULT_KEY
    text = texts.get(key)
    return class_of_key(key) or (class_of_config(text) if text is not None else None)
