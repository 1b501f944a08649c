"""Whether the API that a cluster serves is the one that this command was made for, field by field.

Read from the API server's OpenAPI, which every user may see, and not from the CRDs, which few may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.api.crd import KINDS, definition
from slm_operator.cli.preflight.facts import SchemaSeen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OPENAPI_PATH = f"/openapi/v3/apis/{names.API_VERSION}"
_OURS = ("spec", "status")


def compare(openapi: Mapping[str, Any]) -> SchemaSeen:
    """How the served API differs. A kind that is not served at all is no difference: that is another check's."""
    served = _served(openapi)
    lacking: list[str] = []
    unknown: list[str] = []
    for kind in KINDS:
        if kind.kind not in served:
            continue
        known = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        ours, theirs = fields(known, kind.kind), fields(served[kind.kind], kind.kind)
        lacking += _topmost(ours - theirs)
        unknown += _topmost(theirs - ours)
    return SchemaSeen(lacking=tuple(lacking), unknown=tuple(unknown))


def fields(schema: Mapping[str, Any], kind: str) -> frozenset[str]:
    """Paths of all fields of spec and status: SLMDeployment.spec.engine.env[].name."""
    properties = schema.get("properties") or {}
    return frozenset(
        path
        for part in _OURS
        if part in properties
        for path in (f"{kind}.{part}", *_below(properties[part], f"{kind}.{part}"))
    )


def _below(schema: Mapping[str, Any], at: str) -> Iterator[str]:
    for name, inner in (schema.get("properties") or {}).items():
        yield f"{at}.{name}"
        yield from _below(inner, f"{at}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from _below(schema["items"], f"{at}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _below(schema["additionalProperties"], f"{at}{{}}")


def _topmost(paths: frozenset[str]) -> list[str]:
    """Without the fields below one that is named already."""
    return sorted(path for path in paths if not any(path.startswith((f"{p}.", f"{p}[", f"{p}{{")) for p in paths))


def _served(openapi: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Schemas of our kinds, by kind."""
    schemas = ((openapi.get("components") or {}).get("schemas") or {}).values()
    return {
        found["kind"]: schema
        for schema in schemas
        for found in schema.get("x-kubernetes-group-version-kind") or ()
        if found.get("group") == names.GROUP and found.get("version") == names.VERSION
    }
