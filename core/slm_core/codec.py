"""JSON of the measurement document, both ways, with errors that name the field.

Exists because the runtime cannot count on pydantic inside an engine image, and because a document from a file deserves
a sentence ("points[2].itlMs.meanMs: ...") and never a traceback. Assumes the types of `document` use only scalars,
enums, tuples, optionals and dataclasses. Must never repair a value silently.
"""

from __future__ import annotations

import types
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from slm_core.measurements import MOST_ITEMS, MOST_TEXT, SCHEMA, MeasurementDocument, camel

T = TypeVar("T")

LARGEST = 1 << 53
"""No figure of a measurement is larger, and JSON numbers beyond it are not exact."""


class DocumentError(ValueError):
    """A document that cannot be read. The message names the field and the remedy."""


def to_json(value: object) -> Any:
    """Plain JSON values of a document or any part of it. Absent optionals are left out, defaults are written."""
    if is_dataclass(value) and not isinstance(value, type):
        named = ((camel(f.name), getattr(value, f.name)) for f in fields(value))
        return {name: to_json(item) for name, item in named if item is not None}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, StrEnum) else value


def parse_document(raw: object) -> MeasurementDocument:
    """Read a whole document. Raises DocumentError."""
    if not isinstance(raw, dict):
        raise DocumentError(
            f"the document is a {type(raw).__name__}, not an object: give the output of `slm_runtime profile`"
        )
    _refuse_unknown(raw.get("schema"))
    # NB: v1 is the first. A reader of v2 turns a document of v1 into one of v2 here, as JSON, before its fields are read.
    return parse(MeasurementDocument, raw, "")


def _refuse_unknown(schema: object) -> None:
    if schema == SCHEMA:
        return
    family, _, known = SCHEMA.rpartition("/v")
    version = schema.removeprefix(f"{family}/v") if isinstance(schema, str) else ""
    if (
        version != schema
        and version.isascii()
        and version.isdigit()
        and len(version) < 10
        and int(version) > int(known)
    ):
        raise DocumentError(
            f"schema: {shown(schema)} is newer than {SCHEMA}, the newest that this version reads: upgrade the operator "
            "and kubectl slm, or export the profile with an older version of them"
        )
    raise DocumentError(
        f"schema: {shown(schema)} is not {SCHEMA}: measure again, or convert the file with a runtime that knows it"
    )


@cache  # NB: annotations are text, and reading them was four fifths of the time of a document
def _hints_of(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def parse(kind: type[T], raw: object, path: str) -> T:
    """Read `raw` as a dataclass of this document. `path` is where it stands, for messages. Raises DocumentError."""
    if not isinstance(raw, dict):
        raise DocumentError(f"{path or 'document'}: expected an object, found {shown(raw)}")
    known = {camel(f.name): f for f in fields(kind)}  # type: ignore[arg-type]
    for name in raw:
        if name not in known:
            raise DocumentError(f"{_at(path, str(name))}: no such field; known are {', '.join(sorted(known))}")
    hints = _hints_of(kind)  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, f in known.items():
        if raw.get(name) is not None:
            values[f.name] = _value(hints[f.name], raw[name], _at(path, name))
        elif f.default is MISSING and f.default_factory is MISSING:
            raise DocumentError(f"{_at(path, name)}: missing")
    return kind(**values)


def _value(hint: Any, raw: object, path: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _value(next(arg for arg in get_args(hint) if arg is not type(None)), raw, path)
    if origin is tuple:
        if not isinstance(raw, (list, tuple)):
            raise DocumentError(f"{path}: expected a list, found {shown(raw)}")
        most = MOST_ITEMS[path.rpartition(".")[2]]
        if len(raw) > most:
            raise DocumentError(f"{path}: {len(raw)} items are more than {most}: keep those that matter")
        return tuple(_value(get_args(hint)[0], item, f"{path}[{i}]") for i, item in enumerate(raw))
    if is_dataclass(hint):
        return parse(hint, raw, path)  # type: ignore[arg-type]
    if issubclass(hint, StrEnum):
        try:
            return hint(raw)
        except ValueError:
            raise DocumentError(f"{path}: {shown(raw)} is none of {', '.join(hint)}") from None
    return _scalar(hint, raw, path)


def _scalar(hint: type, raw: object, path: str) -> object:
    if hint in (int, float) and isinstance(raw, (int, float)) and not isinstance(raw, bool):
        if not 0 <= raw <= LARGEST:  # NB: refuses NaN as well
            raise DocumentError(
                f"{path}: {shown(raw)} is not a finite number from 0 to {LARGEST}: remove the point or measure it again"
            )
        if hint is float:
            return float(raw)
        if float(raw).is_integer():
            return int(raw)
    elif isinstance(raw, str) and hint is str and len(raw) > MOST_TEXT:
        raise DocumentError(f"{path}: {len(raw)} characters are more than {MOST_TEXT}: shorten it")
    elif hint in (str, bool) and isinstance(raw, hint):
        return raw
    raise DocumentError(f"{path}: expected {hint.__name__}, found {shown(raw)}")


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def shown(raw: object) -> str:
    """A value in a message, in at most 40 characters."""
    text = repr(raw)
    return text if len(text) <= 40 else f"{text[:37]}..."
