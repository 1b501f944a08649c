"""Our keys in the device plugin's ConfigMap: added when a node needs one, collected when none has for a while.

One write a pass for all nodes. A key is never edited (its name contains the hash of its content), and never removed while
any node of the cluster names it, owes it to somebody as a former value, or is about to be switched to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.partitioning.plugin_config import config_key, is_ours, plugin_config
from slm_operator.planning.actions import PatchConfig
from slm_operator.planning.fleet.node.step import seconds_since

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from slm_operator.partitioning.base import SliceClass
    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.watch.records import ConfigMapRecord

UNUSED_SECONDS = 600.0
"""How long a key stays at least: it may be wanted again, and nobody is hurt by one."""


def keys_patch(
    config: ConfigMapRecord, needed: Iterable[SliceClass], used: frozenset[str] | None, now: datetime
) -> PatchConfig | None:
    """The one write that the ConfigMap needs now. `used` None collects nothing."""
    wanted = {config_key(one): plugin_config(one) for one in needed}
    add = {key: text for key, text in wanted.items() if key not in config.data}
    spare = [key for key in spare_keys(config, used) if key not in wanted] if used is not None else []
    fresh = [key for key in wanted if key in add or _age(config, key, now) < 0]
    # NB: the clock was set back since. Left alone, the key would stay until the clock is past its stamp, however far that is.
    ahead = [key for key in spare if _age(config, key, now) < 0]
    remove = tuple(key for key in spare if _age(config, key, now) > UNUSED_SECONDS)
    if not fresh and not ahead and not remove:
        return None
    because = [f"nodes need {', '.join(fresh)}"] if fresh else []
    because += [f"the clock was set back since {', '.join(ahead)} was added"] if ahead else []
    because += [f"no node has used {', '.join(remove)}"] if remove else []
    return PatchConfig(
        config_map=config.meta.key,
        resource_version=config.meta.resource_version,
        add=add,
        remove=remove,
        annotations={_stamp(key): now.isoformat() for key in (*fresh, *ahead)} | dict.fromkeys(map(_stamp, remove)),
        because=" and ".join(because),
    )


def keys_in_use(
    states: Iterable[NodeState], wanted: Iterable[SliceClass], everywhere: frozenset[str]
) -> frozenset[str]:
    """Keys that may not go: named by a node, owed to one, or wanted by somebody."""
    named = {key for state in states for key in (state.requested_config, state.former) if key is not None}
    return everywhere | named | {config_key(one) for one in wanted}


def spare_keys(config: ConfigMapRecord, used: frozenset[str]) -> tuple[str, ...]:
    """Keys of ours that nothing needs. NB: a key without our stamp is not known to be ours, whatever its name."""
    return tuple(
        key
        for key in sorted(config.data)
        if is_ours(key) and key not in used and _stamp(key) in config.meta.annotations
    )


def _age(config: ConfigMapRecord, key: str, now: datetime) -> float:
    return seconds_since(config.meta.annotations.get(_stamp(key)), now)


def _stamp(key: str) -> str:
    return f"{names.KEY_ADDED_ANNOTATION_PREFIX}{key}"
