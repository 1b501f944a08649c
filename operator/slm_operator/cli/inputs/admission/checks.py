"""An object against its schema: types, bounds, required fields, and lists without doubles.

jsonschema does the walking; added are what OpenAPI v3.0 and Kubernetes have besides, and sentences with a remedy.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from jsonschema import Draft4Validator, ValidationError, validators

from slm_operator.cli.inputs.admission.findings import MOST_SHOWN, Finding, Reason, Schema, below, listed, shown
from slm_operator.cli.inputs.admission.former_names import value_now
from slm_operator.cli.inputs.admission.structure import INT64

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TYPES = {
    "object": "an object",
    "array": "a list",
    "string": "text (in quotes, if it looks like a number)",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


def findings(value: object, schema: Schema) -> list[Finding]:
    """What is wrong with an object that has its defaults."""
    return [_finding(error) for error in _Validator(schema).iter_errors(value)]


def _finding(error: Any) -> Finding:
    path = ""
    for name in error.absolute_path:
        path = below(path, name)
    reason, say = _KEYWORDS.get(str(error.validator), (Reason.BOUND, lambda error, _: error.message))
    return Finding(path, reason, say(error, path))


def _missing(error: Any, _: str) -> str:
    return f"missing: {error.schema['properties'][error.path[-1]].get('description', 'give it')}"


def _enum(error: Any, path: str) -> str:
    given, allowed = error.instance, error.validator_value
    now = value_now(path, given)
    if now is not None:
        return f"{shown(given)} is called {now} now"
    by_small = {str(one).lower(): one for one in allowed}
    close = get_close_matches(given[:MOST_SHOWN].lower(), by_small, n=1) if isinstance(given, str) else ()
    likely = f"; did you mean {by_small[close[0]]}?" if close else ""
    return f"{shown(given)}: give one of {listed(allowed)}{likely}"


def _bound(error: Any, exclusive: str, words: tuple[str, str]) -> str:
    return f"{shown(error.instance)}: give {words[bool(error.schema.get(exclusive))]} {error.validator_value}"


def _count(error: Any, what: str, bound: str) -> str:
    return f"{len(error.instance)} {what}: give at {bound} {error.validator_value}"


_KEYWORDS: dict[str, tuple[Reason, Callable[[Any, str], str]]] = {
    "type": (Reason.TYPE, lambda error, _: f"{shown(error.instance)}: give {_TYPES[error.validator_value]}"),
    "required": (Reason.MISSING, _missing),
    "enum": (Reason.ENUM, _enum),
    "minimum": (Reason.BOUND, lambda error, _: _bound(error, "exclusiveMinimum", ("at least", "more than"))),
    "maximum": (Reason.BOUND, lambda error, _: _bound(error, "exclusiveMaximum", ("at most", "less than"))),
    "minLength": (Reason.BOUND, lambda error, _: _count(error, "characters", "least")),
    "maxLength": (Reason.TOO_LONG, lambda error, _: _count(error, "characters", "most")),
    "minItems": (Reason.BOUND, lambda error, _: _count(error, "items", "least")),
    "maxItems": (Reason.TOO_LONG, lambda error, _: _count(error, "items", "most")),
    "maxProperties": (Reason.TOO_LONG, lambda error, _: _count(error, "entries", "most")),
    "x-kubernetes-list-type": (Reason.DUPLICATE, lambda error, _: error.message),
}


def _type(validator: Any, wanted: str, value: object, schema: Schema) -> Iterator[ValidationError]:
    if not (value is None and schema.get("nullable")):
        yield from Draft4Validator.VALIDATORS["type"](validator, wanted, value, schema)


def _required(_: Any, names: list[str], value: object, _schema: Schema) -> Iterator[ValidationError]:
    """The API server names the field; jsonschema names the object that lacks it."""
    if isinstance(value, dict):
        yield from (ValidationError(f"{name} is missing", path=[name]) for name in names if name not in value)


def _list_type(_: Any, kind: str, items: object, schema: Schema) -> Iterator[ValidationError]:
    """No two alike in a list that is a set, or in one that is a map by some of its fields."""
    if not isinstance(items, list) or kind == "atomic":
        return
    names = schema.get("x-kubernetes-list-map-keys", ())
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        key = [item.get(name) for name in names] if names and isinstance(item, dict) else item
        first = seen.setdefault(json.dumps(key, sort_keys=True), index)
        if first != index:
            what = f"the same {' and '.join(names)}" if names else "the same"
            yield ValidationError(f"{what} as item {first}: remove one of them", path=[index])


def _is_integer(_: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in INT64


_Validator: Any = validators.extend(  # type: ignore[no-untyped-call]
    Draft4Validator,
    validators={"type": _type, "required": _required, "x-kubernetes-list-type": _list_type},
    type_checker=Draft4Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)
