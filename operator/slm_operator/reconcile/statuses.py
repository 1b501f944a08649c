"""Whether a status that was planned is the one that is there.

Assumes that planning keeps a condition's lastTransitionTime while its status stays: else no two would ever be equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def significant(value: Any) -> Any:
    """A value without what means nothing: None, empty lists and empty objects. The API server adds and drops those."""
    if isinstance(value, dict):
        kept = {str(name): significant(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item is not None and item not in ([], {})}
    if isinstance(value, list | tuple):
        return [significant(item) for item in value]
    return value


def same_status(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Whether writing would change nothing."""
    return bool(significant(dict(wanted)) == significant(dict(seen)))


def only_words_moved(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Whether a person would read something new, but no condition, phase or count is another."""
    return bool(significant(_without_words(wanted)) == significant(_without_words(seen)))


def _without_words(status: Mapping[str, Any]) -> dict[str, Any]:
    told = [{"type": one.get("type"), "status": one.get("status")} for one in status.get("conditions") or ()]
    return {**status, "conditions": told}
