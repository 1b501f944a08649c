"""What every type of this API is made of: the base class, rules for admission, and texts with a form.

A rule of the schema is CEL, so that the API server refuses what can never work, and `kubectl slm plan` before it. A rule
has a message that names the remedy; where one field decides, pydantic asks the same of it. Must never know a kind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError, core_schema
from slm_core.measurements import camel

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from slm_core import tuning

SET = {"x-kubernetes-list-type": "set"}
ATOMIC = {"x-kubernetes-list-type": "atomic"}
MOST_LEVELS = 64
"""Deepest nesting of a raw object. A pod template has about fifteen levels."""


def within(bounds: tuning.Bounds) -> Any:
    """The bounds of a number, for its schema."""
    return Field(gt=bounds.above, ge=bounds.least, lt=bounds.below, le=bounds.most)


def map_by(key: str) -> dict[str, Any]:
    """What makes a list one that several may apply to, each its own items."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def cel(rule: str, message: str, *, field: str | None = None) -> dict[str, str]:
    """One CEL rule of a CRD schema. `message` names the remedy."""
    return {"rule": rule, "message": message} | ({"fieldPath": field} if field else {})


class Part(BaseModel):
    """Base of every API type: camelCase in JSON, docstrings as descriptions, frozen once read.

    NB: unknown fields are ignored here, because the API server prunes them and a newer CRD may know more than this
    operator. The command line reads files with `extra="forbid"` instead.
    """

    model_config = ConfigDict(
        alias_generator=camel, populate_by_name=True, frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    def given(self) -> dict[str, Any]:
        """What was given, as JSON has it."""
        dumped: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return dumped


P = TypeVar("P", bound=Part)


def only(kind: type[P], part: Part) -> P:
    """What a part has of the fields of another kind of part, as they stand: it was checked when it was read."""
    fields: dict[str, Any] = {name: getattr(part, name) for name in kind.model_fields}
    return cast("P", kind.model_construct(**fields))


def validations(*rules: dict[str, str]) -> ConfigDict:
    """A model_config that adds CEL rules to the type's schema."""
    extra: dict[str, Any] = {"x-kubernetes-validations": list(rules)}
    return ConfigDict(json_schema_extra=extra)


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a text. Who misses it reads `message`, where a `pattern` of the schema would show an expression.

    `expression` is of the whole text, in what RE2 and Python have in common, without quotes. Give the text a longest
    length too: the API server weighs a rule by it.
    """

    expression: str
    message: str
    only: str = ""
    """Asked only of texts that begin with this."""
    refused: bool = False
    """A text of this form is refused, instead of every other."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        inner = handler(schema)
        rules = inner.get("x-kubernetes-validations", [])
        return inner | {"x-kubernetes-validations": [*rules, cel(self.rule, self.message)]}

    @property
    def rule(self) -> str:
        """The same in CEL."""
        matches = f"{'!' if self.refused else ''}self.matches(r'^({self.expression})$')"
        return f"!self.startsWith('{self.only}') || {matches}" if self.only else matches

    def _checked(self, text: str) -> str:
        # re.ASCII: as in RE2, a blank is one of ASCII's
        matches = re.fullmatch(self.expression, text, re.ASCII) is not None
        if text.startswith(self.only) and matches == self.refused:
            raise PydanticCustomError("form", "{message}", {"message": self.message})
        return text


def _is_deeper(value: dict[str, Any], levels: int) -> bool:
    """Level by level, because to descend is what would end the process."""
    layer: list[dict[str, Any] | list[Any]] = [value]
    for _ in range(levels):
        inside = (inner for one in layer for inner in (one.values() if isinstance(one, dict) else one))
        layer = [inner for inner in inside if isinstance(inner, dict | list)]
    return bool(layer)


def _bounded(value: object) -> object:
    if isinstance(value, dict) and _is_deeper(value, MOST_LEVELS):
        raise PydanticCustomError("depth", "nested deeper than {levels} levels", {"levels": MOST_LEVELS})
    return value


RawObject = Annotated[dict[str, JsonValue], BeforeValidator(_bounded)]
Text = Annotated[str, Field(max_length=1024)]
Name = Annotated[str, Field(max_length=253)]
"""The name of an object, in status: the API server has taken it already."""
Product = Annotated[str, Field(min_length=1, max_length=63)]

LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
_NAMED = "is lower-case letters, digits and '-', with a letter or digit at both ends"
ObjectName = Annotated[
    str, Field(max_length=253), Form(SUBDOMAIN, f"the name of an object {_NAMED}; parts may be joined by '.'")
]
"""The name of an object that a user refers to. A wrong one could never exist: it would be waited for, or fail late."""
NamespaceName = Annotated[str, Field(max_length=63), Form(LABEL, f"the name of a namespace {_NAMED}")]
ServiceName = Annotated[str, Field(max_length=63), Form(LABEL, f"the name of a Service {_NAMED}")]
Hostname = Annotated[
    str,
    Field(max_length=253),
    Form(rf"(\*\.)?{SUBDOMAIN}", "a host is models.example.com, or *.example.com; leave hostnames out for every host"),
]


class NameReference(Part):
    """An object of this namespace."""

    name: ObjectName
    """Its name."""
