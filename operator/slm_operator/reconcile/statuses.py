"""Status as it is compared and written: when a condition changed, and whether anything did.

lastTransitionTime is kept here and nowhere else: planning says what holds, this says since when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


def with_transition_times(status: Mapping[str, Any], seen: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The status to write: a condition whose status did not change keeps its time."""
    before = {one.get("type"): one for one in seen.get("conditions") or ()}
    conditions = []
    for one in status.get("conditions") or ():
        old = before.get(one["type"])
        kept = old is not None and old.get("status") == one["status"] and old.get("lastTransitionTime")
        conditions.append(dict(one) | {"lastTransitionTime": kept or now.strftime("%Y-%m-%dT%H:%M:%SZ")})
    return dict(status) | ({"conditions": conditions} if conditions else {})


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
