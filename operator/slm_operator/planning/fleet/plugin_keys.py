"""Our keys in the device plugin's ConfigMap: added when a node needs one, collected when none has for a while.

One write a pass for all nodes. A key is never edited (its name contains the hash of its content), and never removed while
any node of the cluster names it, owes it to somebody as a former value, or is about to be switched to it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.api.conditions import moment
from slm_operator.partitioning.plugin_config import is_ours
from slm_operator.planning.actions import PatchConfig
from slm_operator.planning.fleet.node.step import seconds_since

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.watch.records import ConfigMapRecord

UNUSED_SECONDS = 600.0
"""How long a key stays after a node has named it last.

NB: a config-manager that restarts, or waits to be restarted, looks for the key that it read last, and ends for good without it.
"""


def keys_patch(
    config: ConfigMapRecord,
    needed: Mapping[str, str],
    spare: Collection[str] | None,
    now: datetime,
    *,
    in_trouble: bool,
) -> PatchConfig | None:
    """The one write that the ConfigMap needs now.

    `needed`: key to text. `spare`: keys that nothing needs; None: that is not known now. `in_trouble`: what may still read them waits to run, so they stay.
    """
    stamps = config.meta.annotations
    add = {key: text for key, text in needed.items() if key not in config.data}
    # NB: with a clock that was set back since, a stamp would count for nothing until the clock is past it, however far that is.
    fresh = [key for key in needed if key in add or seconds_since(stamps.get(_added(key)), now) < 0]
    since = {key: moment(stamps.get(_unused(key))) for key in spare or () if key not in needed}
    left = [key for key, at in since.items() if at is None or at > now]
    again = [key for key in _with_unused_stamp(config) if key not in since] if spare is not None else []
    long_ago = now - timedelta(seconds=UNUSED_SECONDS)
    remove = tuple(key for key, at in since.items() if at is not None and at < long_ago and not in_trouble)
    because = (
        ("nodes need", fresh),
        ("no node names any more, for now,", left),
        ("nodes name once more", again),
        ("for long no node has named", remove),
    )
    said = [f"{what} {', '.join(keys)}" for what, keys in because if keys]
    if not said:
        return None
    return PatchConfig(
        config_map=config.meta.key,
        resource_version=config.meta.resource_version,
        add=add,
        remove=remove,
        annotations=dict.fromkeys((*map(_added, fresh), *map(_unused, left)), now.isoformat())
        | dict.fromkeys((*map(_unused, again), *(stamp(key) for key in remove for stamp in (_added, _unused)))),
        because=" and ".join(said),
    )


def keys_in_use(states: Iterable[NodeState], wanted: Iterable[str], everywhere: frozenset[str]) -> frozenset[str]:
    """Keys that may not go: named by a node, owed to one, or wanted by somebody."""
    named = {key for state in states for key in (state.requested_config, state.former) if key is not None}
    return everywhere | named | set(wanted)


def spare_keys(config: ConfigMapRecord, used: frozenset[str]) -> tuple[str, ...]:
    """Keys of ours that nothing needs. NB: a key without our stamp is not known to be ours, whatever its name."""
    return tuple(
        key
        for key in sorted(config.data)
        if is_ours(key) and key not in used and _added(key) in config.meta.annotations
    )


def _with_unused_stamp(config: ConfigMapRecord) -> list[str]:
    prefix = names.KEY_UNUSED_ANNOTATION_PREFIX
    return sorted(name.removeprefix(prefix) for name in config.meta.annotations if name.startswith(prefix))


def _added(key: str) -> str:
    return f"{names.KEY_ADDED_ANNOTATION_PREFIX}{key}"


def _unused(key: str) -> str:
    return f"{names.KEY_UNUSED_ANNOTATION_PREFIX}{key}"
