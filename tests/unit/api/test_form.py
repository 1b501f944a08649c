"""Texts with a form: what is taken, and that who misses it reads the form and not an expression."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from slm_operator.api.base import Hostname, NamespaceName, ObjectName, ServiceName
from slm_operator.api.crd import KINDS, Kind, definition

NAMES: tuple[tuple[Any, str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ObjectName,
        "the name of an object",
        ("a", "hf-token", "v1.models"),
        ("", "My Profile", "-a", "a-", "a..b", "a_b"),
    ),
    (NamespaceName, "the name of a namespace", ("team-a", "1"), ("team.a", "Team", "")),
    (ServiceName, "the name of a Service", ("picker", "p-1"), ("picker.svc", "picker_1")),
    (Hostname, "a host is", ("chat.example.com", "*.example.com", "chat"), ("*", "*.", "Chat.com", "a.*.com", "a b")),
)


@pytest.mark.parametrize(("form", "message", "taken", "refused"), NAMES, ids=[message for _, message, *_ in NAMES])
def test_name_forms_take_and_refuse(form: Any, message: str, taken: tuple[str, ...], refused: tuple[str, ...]) -> None:
    named = TypeAdapter[str](form)
    assert [named.validate_python(text) for text in taken] == [*taken]
    for text in refused:
        with pytest.raises(ValidationError, match=message):
            named.validate_python(text)


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from parts(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from parts(part)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_no_field_is_refused_by_an_expression_alone(kind: Kind) -> None:
    schema = definition(kind)["spec"]["versions"][0]["schema"]
    spec = schema["openAPIV3Schema"]["properties"]["spec"]  # status is written by the operator, which no message helps
    assert [part for part in parts(spec) if isinstance(part.get("pattern"), str)] == []
    rules = [rule for part in parts(schema) for rule in part.get("x-kubernetes-validations", ())]
    assert any("matches" in rule["rule"] for rule in rules)
    assert all(rule["message"] for rule in rules)


SIZED = {"string": "maxLength", "array": "maxItems"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_text_and_list_of_a_spec_has_a_bound(kind: Kind) -> None:
    schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    sized = [part for part in parts(schema) if part.get("type") in SIZED and "enum" not in part]
    assert len(sized) > 20
    assert [part for part in sized if SIZED[part["type"]] not in part] == []
