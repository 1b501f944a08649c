"""Configurations of NVIDIA's device plugin, one immutable key for each slice class and configuration that a node has without us.

Only a change of the node's label loads a configuration, new content under an old key is never read, and a key in use
must not go: so the key's name contains the hash of its content. A file replaces all that the plugin's administrator has set (driver
root, device lists, MIG, feature discovery), so what a node has without us is the base of ours. Format: k8s-device-plugin, api/config/v1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

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
_STANZAS = frozenset(one.stanza for one in STRATEGIES.values())
_MOST_SAID = 120
"""Characters of what others wrote that stand in a message."""


BARE = "version: v1\n"
"""What an empty file is to the plugin."""
MOST_CHARACTERS, MOST_REPLICAS = 64 << 10, 1000
"""Of somebody's configuration: reading YAML takes seconds a megabyte, and no GPU has so many replicas."""


class Base(NamedTuple):
    """The configuration that a node has without us: ours for it are made from it."""

    key: str = _DEFAULT_KEY
    text: str = BARE
    fault: str | None = None
    """Why none can be made from it, as the rest of a sentence that begins with the key."""


NO_BASE = Base()
"""Where nobody has configured anything."""


@lru_cache(maxsize=1024)  # bounded, because texts are anybody's
def plugin_config(wanted: SliceClass, base: str = BARE) -> str:
    """The configuration file of a class: all that `base` says, but for sharing and for which GPU is filled first.

    Raises ValueError where none can be made from it, with the rest of a sentence that begins with its key.
    """
    body = _body(base)
    flags = _mapping(body.get("flags"), "flags")
    plugin = _mapping(flags.get("plugin"), "flags.plugin") | {"sharedDevicesAllocationPolicy": "packed"}
    body = {"version": "v1"} | body | {"version": "v1", "flags": flags | {"plugin": plugin}}
    if not wanted.is_whole:
        body["sharing"] = {
            STRATEGIES[wanted.mode].stanza: {
                "renameByDefault": True,  # published as nvidia.com/gpu.shared: nobody else takes a slice by accident
                "failRequestsGreaterThanOne": True,
                "resources": [{"name": names.NVIDIA_GPU, "replicas": wanted.engines_per_gpu}],
            }
        }
    try:
        return yaml.safe_dump(body, sort_keys=False)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


@lru_cache(maxsize=1024)
def config_key(wanted: SliceClass, base: str = BARE) -> str:
    """Key of that configuration in the plugin's ConfigMap. Raises ValueError as `plugin_config` does."""
    return f"{names.CONFIG_KEY_PREFIX}{wanted.label}-{digest(plugin_config(wanted, base), 8)}"


@lru_cache(maxsize=256)
def fault_of_base(text: str) -> str | None:
    """Why no configuration of ours can be made from somebody's, as the rest of a sentence that begins with its key."""
    try:
        return None if len(plugin_config(UNSHARED, text)) <= MOST_CHARACTERS // 2 else "is too long"
    except ValueError as error:
        return str(error)


def _body(text: str) -> dict[str, Any]:
    """What a configuration says, but for sharing, which must be nobody's."""
    if len(text) > MOST_CHARACTERS // 2:
        raise ValueError("is too long")
    try:
        read = decode_yaml(text)
    except ValueError as error:
        raise ValueError(f"cannot be read ({str(error)[:_MOST_SAID]})") from None
    body = _mapping(read, "its text")
    version = body.get("version") or "v1"
    if version != "v1":
        raise ValueError(f"has version {str(version)[:_MOST_SAID]}, and v1 is the one that is known")
    sharing = _mapping(body.pop("sharing", None), "sharing")
    theirs = sorted(str(name)[:_MOST_SAID] for name, one in sharing.items() if not _shares_nothing(name, one))
    if theirs:
        raise ValueError(f"has GPUs shared already (sharing.{theirs[0]}), which is its owner's to say")
    return body


def _mapping(value: object, what: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"cannot be read ({what} is no mapping)")  # noqa: TRY004 - it is a text's fault
    return dict(value)


def _shares_nothing(name: object, strategy: object) -> bool:
    if isinstance(strategy, dict) and name in _STANZAS:
        return not strategy.get("resources")
    return not strategy


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


def key_taken(requested: str | None, managers: Sequence[Defaults], texts: Mapping[str, str]) -> str:
    """The key that a node takes: the one that its label names, or one of those for nodes without a label."""
    return requested or _default_key(managers) or lone_key(managers, texts) or _DEFAULT_KEY


def configured_class(
    requested: str | None, managers: Sequence[Defaults], texts: Mapping[str, str]
) -> SliceClass | None:
    """The class that a node must show by its label, `requested`, and the texts of the plugin's ConfigMap. None when nobody can say.

    NB: a key of ours that somebody removed may be loaded all the same; its name says what it was.
    """
    key = key_taken(requested, managers, texts)
    text = texts.get(key)
    return class_of_key(key) or (class_of_config(text) if text is not None else None)


def base_of(owed: str | None, managers: Sequence[Defaults], texts: Mapping[str, str]) -> Base:
    """The configuration that a node has without us: the one of the label that its owner has set, `owed`, or that of none."""
    key = key_taken(owed, managers, texts)
    text = texts.get(key)
    if text is not None:
        return Base(key, text, fault_of_base(text))
    is_said = owed is not None or _default_key(managers) is not None
    return Base(key, BARE, "is not there" if is_said else None)


def _default_key(managers: Sequence[Defaults]) -> str | None:
    return next((one.default_key for one in managers if one.default_key), None)
