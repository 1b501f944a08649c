"""A status as its CRD takes it, whatever texts of others went into its sentences, with nothing in it that a terminal obeys.

A refused status says nothing at all, so a text or a list that is longer than its bound is cut to it. The bounds are read
off the API's own types. Types, and words that are chosen from a list, are the planners' own: what comes from outside is
typed where it is read (`profile_log`, the records). Must never change what fits.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.api.crd import structural
from slm_operator.api.profile import SLMProfileStatus
from slm_operator.api.status import SLMDeploymentStatus
from slm_operator.planning.actions import WriteStatus
from slm_operator.visible import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.api.base import Part
    from slm_operator.watch.records import Meta

Schema = dict[str, Any]

_TYPES: dict[str, type[Part]] = {names.DEPLOYMENT_KIND: SLMDeploymentStatus, names.PROFILE_KIND: SLMProfileStatus}


def write_status(kind: str, meta: Meta, status: Mapping[str, Any], because: str) -> WriteStatus:
    """The action that writes a status of one of our kinds, cut to its bounds."""
    return WriteStatus(
        api_version=names.API_VERSION,
        kind=kind,
        key=meta.key,
        uid=meta.uid,
        status=_fitted(status, _bounds_of(kind)),
        because=because,
    )


@cache
def _bounds_of(kind: str) -> Schema:
    return _only_bounds(structural(_TYPES[kind].model_json_schema(by_alias=True)))


def _only_bounds(schema: Schema) -> Schema:
    """What of a schema bounds a length."""
    if not schema:
        return {}
    inner = {name: _only_bounds(part) for name, part in schema.get("properties", {}).items()}
    bounds = {
        "maxLength": schema.get("maxLength"),
        "maxItems": schema.get("maxItems"),
        "items": _only_bounds(schema.get("items", {})),
        "properties": {name: part for name, part in inner.items() if part},
    }
    return {name: bound for name, bound in bounds.items() if bound}


def _fitted(value: Any, bounds: Schema) -> Any:
    if not bounds:
        return value
    if isinstance(value, str):
        text = visible(value)
        most = bounds.get("maxLength", len(text))
        return text if len(text) <= most else f"{text[: most - 1]}…"
    if isinstance(value, list | tuple):
        return [_fitted(one, bounds.get("items", {})) for one in value[: bounds.get("maxItems")]]
    if isinstance(value, dict):
        inside = bounds.get("properties", {})
        return {name: _fitted(one, inside[name]) if name in inside else one for name, one in value.items()}
    return value
