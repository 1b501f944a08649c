"""What the API server makes of an object before it validates it: unknown fields named, nulls dropped, defaults filled in.

Source: Kubernetes, "Extend the API with CustomResourceDefinitions": field pruning, defaulting and nullable.
Must never look into a raw object (x-kubernetes-preserve-unknown-fields): it may be nested thousands of levels deep.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_operator.cli.inputs.admission.findings import Schema, below

if TYPE_CHECKING:
    from collections.abc import Iterator

INT64 = range(-(1 << 63), 1 << 63)
_HALF = re.compile("[\ud800-\udfff]")
"""Of a character beyond 16 bits: no text has one, and Go writes another sign for it."""
_PRESERVES = "x-kubernetes-preserve-unknown-fields"


@dataclass(frozen=True, slots=True)
class Unknown:
    """A field that the schema does not have."""

    parent: str
    name: str
    known: tuple[str, ...]
    """The fields that are there."""

    @property
    def path(self) -> str:
        """Where it is."""
        return below(self.parent, self.name)


def as_sent(value: Any) -> Any:
    """The value as kubectl sends it: it writes JSON, in which 3.0 is 3, and every key is text."""
    if isinstance(value, dict):
        return {_key(name): as_sent(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [as_sent(inner) for inner in value]
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and int(value) in INT64:
        return int(value)
    return value


def unknown_fields(value: object, schema: Schema, path: str = "") -> Iterator[Unknown]:
    """Fields that the API server refuses under strict validation, which is kubectl's default."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_fields(item, schema.get("items", {}), below(path, index))
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        part = _part(schema, name)
        if part is not None:
            yield from unknown_fields(inner, part, below(path, name))
        elif not schema.get(_PRESERVES):
            yield Unknown(parent=path, name=name, known=tuple(schema.get("properties", ())))


def settled(value: Any, schema: Schema) -> Any:
    """The value without unknown fields, without nulls where they mean nothing, and with the defaults."""
    if isinstance(value, list):
        return [settled(item, schema.get("items", {})) for item in value] if "items" in schema else value
    if not isinstance(value, dict):
        return value
    kept = {name: inner for name, inner in value.items() if _is_kept(inner, name, schema)}
    defaults = {
        name: part["default"]
        for name, part in schema.get("properties", {}).items()
        if "default" in part and name not in kept
    }
    whole = kept | defaults
    return {
        name: inner if (part := _part(schema, name)) is None else settled(inner, part) for name, inner in whole.items()
    }


def _part(schema: Schema, name: str) -> Schema | None:
    """The schema of a field, or of an entry of a map."""
    found: Schema | None = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
    return found


def _is_kept(value: object, name: str, schema: Schema) -> bool:
    part = _part(schema, name)
    if part is None:
        return bool(schema.get(_PRESERVES))
    return value is not None or bool(part.get("nullable"))


def _key(name: object) -> str:
    """NB: YAML's `on: 1` has the key True; in JSON it is text."""
    if isinstance(name, bool) or name is None:
        return json.dumps(name)
    return _HALF.sub("\ufffd", str(name))
