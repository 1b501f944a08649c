"""Events tell the story that conditions only show the end of: one for every condition that changed its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.planning.actions import EmitEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.watch.records import Meta

_SUMMARIES = frozenset({Condition.RECONCILING, Condition.STALLED})


def transition_events(kind: str, meta: Meta, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[EmitEvent, ...]:
    """Events for every step whose reason differs from the former status, and for Ready when its status does."""
    before = {condition["type"]: condition for condition in old.get("conditions", ())}
    stalled = any(condition["type"] == Condition.STALLED for condition in new["conditions"])
    return tuple(
        EmitEvent(
            api_version=names.API_VERSION,
            kind=kind,
            key=meta.key,
            uid=meta.uid,
            type="Warning" if stalled and condition["status"] == "False" else "Normal",
            reason=condition["reason"],
            message=condition["message"],
        )
        for condition in new["conditions"]
        if condition["type"] not in _SUMMARIES and _is_news(condition, before.get(condition["type"], {}))
    )


def _is_news(condition: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    if condition["reason"] == Reason.WAITING:
        return False
    if condition["type"] == Condition.READY:
        return bool(condition["status"] == "True" and before.get("status") != "True")
    return bool(condition["reason"] != before.get("reason"))
