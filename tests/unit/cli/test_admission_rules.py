"""The CRDs' own rules and schemas, asked offline, mean what they mean to Kubernetes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.api.crd import KINDS
from slm_operator.api.names import DEPLOYMENT_KIND
from slm_operator.cli.inputs.admission import checks, rules
from slm_operator.cli.inputs.admission.answer import schema_of
from slm_operator.cli.inputs.admission.structure import settled

if TYPE_CHECKING:
    from collections.abc import Iterator

Schema = dict[str, Any]


def nodes(schema: Schema) -> Iterator[Schema]:
    yield schema
    parts = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    for part in filter(None, parts):
        yield from nodes(part)


RULES = [
    pytest.param(node, rule["rule"], id=f"{kind.kind}: {rule['message']}"[:90])
    for kind in KINDS
    for node in nodes(schema_of(kind.kind))
    for rule in node.get("x-kubernetes-validations", ())
]
NATIVE = {"startsWith", "endsWith", "contains", "int", "double", "string"}
"""Functions that the library has, and that mean there what they mean to Kubernetes."""


def sample(schema: Schema, *, whole: bool) -> Any:
    """A value that a rule can be asked of: with every field, or with none that may be absent."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("x-kubernetes-int-or-string"):
        return "1"
    if schema is schema_of(DEPLOYMENT_KIND):
        return {"metadata": {"name": "chat"}, "spec": sample(schema["properties"]["spec"], whole=whole)}
    if schema.get("type") == "object":
        names = schema.get("properties", {}) if whole else schema.get("required", ())
        fields = {name: sample(schema["properties"][name], whole=whole) for name in names}
        entries = schema.get("additionalProperties")
        return fields | ({"a": sample(entries, whole=whole)} if whole and entries else {})
    if schema.get("type") == "array":
        return [sample(schema["items"], whole=whole)] if whole else []
    return {"string": "--a=b", "integer": 2, "number": 2.5, "boolean": True}[schema["type"]]


@pytest.mark.parametrize(("node", "rule"), RULES)
def test_every_rule_has_a_value_for_every_object(node: Schema, rule: str) -> None:
    asks = rules.program(rule)
    named = {name for name in asks.functions() if name.isalnum()}
    assert named <= NATIVE | set(rules.FUNCTIONS)
    for whole in (True, False):
        me = rules.typed(settled(sample(node, whole=whole), node), node)
        assert isinstance(asks.execute(rules.context(me, oldSelf=me)), bool)


# What Kubernetes means by rules and schemas, on schemas of our own.


def refused(schema: Schema, value: Any) -> list[str]:
    kept = settled(value, schema)
    return [finding.path for finding in (*checks.findings(kept, schema), *rules.findings(kept, schema))]


def ruled(rule: str, **schema: Any) -> Schema:
    return schema | {"x-kubernetes-validations": [{"rule": rule, "message": "no"}]}


@pytest.mark.parametrize(
    ("rule", "value", "holds"),
    [
        pytest.param(r"self.matches(r'^\S+$')", "a\u00a0b", True, id="a blank is one of ASCII's"),
        pytest.param(r"self.matches('^a$')", "a\n", False, id="an end is the end of the text"),
        pytest.param(r"self.matches('b')", "abc", True, id="a match is anywhere"),
        pytest.param(r"self.matches('^\\$$')", "$", True, id="a sign of money is one"),
        pytest.param("self != 'matches(x)'", "matches(x)", False, id="a text is not renamed"),
        pytest.param("self.split('=')[0].replace('_', '-') == '--a-b'", "--a_b=c", True, id="of a flag"),
        pytest.param("self.split('=')[1] == ''", "abc", False, id="what has no value refuses"),
    ],
)  # fmt: skip
def test_a_rule_of_text_means_what_kubernetes_means(rule: str, value: str, *, holds: bool) -> None:
    assert refused(ruled(rule, type="string"), value) == ([] if holds else [""])


def test_number_has_its_schemas_type_however_it_is_written() -> None:
    half = ruled("self.x / 2.0 == 1.5", type="object", properties={"x": {"type": "number"}})
    assert refused(half, {"x": 3}) == []


def test_a_field_whose_name_is_a_word_of_cel_is_escaped() -> None:
    schema = ruled("self.__namespace__ == 'a'", type="object", properties={"namespace": {"type": "string"}})
    assert refused(schema, {"namespace": "a"}) == []
    assert refused(schema, {"namespace": "b"}) == [""]


def test_a_rule_of_the_object_speaks_of_the_field_that_it_names() -> None:
    rule = {"rule": "self.a.b.matches('^[a-z]')", "message": "a letter first", "fieldPath": ".a.b"}
    inner = {"type": "object", "properties": {"b": {"type": "string"}}}
    schema = {"type": "object", "properties": {"a": inner}, "x-kubernetes-validations": [rule]}
    assert refused(schema, {"a": {"b": "4b"}}) == ["a.b"]


def test_a_rule_of_a_change_is_not_asked_of_a_new_object() -> None:
    assert refused(ruled("self == oldSelf", type="string"), "a") == []


def test_an_entry_of_a_map_is_named_by_its_key() -> None:
    schema = {"type": "object", "additionalProperties": ruled("self != 'b'", type="string")}
    assert refused(schema, {"x": "a", "y": "b"}) == ["[y]"]


def test_a_rule_sees_the_defaults() -> None:
    assert (
        refused(ruled("self.x == 'a'", type="object", properties={"x": {"type": "string", "default": "a"}}), {}) == []
    )


def test_a_raw_object_is_not_looked_into_by_a_rule() -> None:
    deep: Any = {}
    for _ in range(500):
        deep = {"a": deep}
    raw = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    assert refused(ruled("has(self.x)", type="object", properties={"x": raw}), {"x": deep}) == []


NAMED: Schema = {"type": "object", "properties": {"name": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "items", "paths"),
    [
        pytest.param({"x-kubernetes-list-type": "set", "items": {"type": "string"}}, ["a", "b", "a"], ["[2]"], id="a set"),
        pytest.param({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": NAMED}, [{"name": "a"}, {"name": "a"}], ["[1]"], id="a map"),
        pytest.param({"x-kubernetes-list-type": "atomic", "items": {"type": "string"}}, ["a", "a"], [], id="atomic"),
        pytest.param({"items": {"type": "string"}}, ["a", "a"], [], id="nothing said"),
        pytest.param({"items": {"type": "string", "nullable": True}}, [None], [], id="a null that may be"),
        pytest.param({"items": {"type": "string"}}, [None], ["[0]"], id="a null that may not be"),
    ],
)  # fmt: skip
def test_a_list_is_checked_as_its_type_says(schema: Schema, items: list[Any], paths: list[str]) -> None:
    assert refused({"type": "array"} | schema, items) == paths
