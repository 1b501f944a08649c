"""`kubectl slm plan` refuses what an API server would, with every finding. tests/control_plane/test_admission.py asks a real one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.api.crd import KINDS
from slm_operator.api.names import DEPLOYMENT_KIND
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs import kubectl_yaml
from slm_operator.cli.inputs.admission import checks, former_names, rules
from slm_operator.cli.inputs.admission.answer import MOST, asked, schema_of
from slm_operator.cli.inputs.admission.structure import as_sent, settled
from slm_operator.cli.inputs.manifests import deployment
from slm_operator.cli.main import main
from unit.cli.admission_cases import BEYOND, CASES, DEPLOYMENT, SCALARS, Case, args, merged, spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MINIMAL = Case("minimal", {}).manifest()
Schema = dict[str, Any]


@pytest.mark.parametrize("case", [case for case in CASES if case.kind == DEPLOYMENT], ids=lambda case: case.name)
def test_plan_answers_as_the_table_says(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "slmd.json"
    file.write_text(json.dumps(case.manifest()))
    if case.refused is None:
        deployment(str(file))
        return
    with pytest.raises(Refused) as refusal:
        deployment(str(file))
    lines = str(refusal.value).splitlines()
    assert any(line.startswith(f"{file}: {case.refused}") and case.says in line for line in lines), lines


@pytest.mark.parametrize("case", [case for case in CASES if case.kind != DEPLOYMENT], ids=lambda case: case.name)
def test_other_kinds_are_answered_as_the_table_says(case: Case) -> None:
    lines = asked(case.manifest(), case.kind).sentences()
    if case.refused is None:
        assert lines == []
    else:
        assert any(line.startswith(case.refused) and case.says in line for line in lines), lines


@pytest.mark.parametrize("case", BEYOND, ids=lambda case: case.name)
def test_plan_refuses_what_only_the_operator_can_see(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "slmd.json"
    file.write_text(json.dumps(case.manifest()))
    assert asked(case.manifest(), case.kind).findings == ()
    with pytest.raises(Refused, match=case.says):
        deployment(str(file))


def test_plan_prints_every_finding_on_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "slmd.json"
    wrong = merged(spec(replicas=-1, enginee={}), args("--model=a"))
    file.write_text(json.dumps(merged(MINIMAL, wrong)))
    assert main(["plan", "-f", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    paths = ["spec.enginee", "spec.replicas", "spec.engine"]
    assert len(lines) == len(paths)
    assert [path in line for path, line in zip(paths, lines, strict=True)] == [True] * len(paths)


def test_findings_are_bounded_and_the_rest_is_counted() -> None:
    said = asked(merged(MINIMAL, args(*range(64))), DEPLOYMENT_KIND).sentences()
    assert len(said) == MOST + 2
    assert said[MOST:] == ["and 44 more", "some rules are asked only once these fields are correct"]


def test_very_many_mistakes_are_counted_and_some_are_said() -> None:
    fields = {f"{name}{'x' * 1000}": [] for name in range(20_000)}
    said = asked(merged(MINIMAL, {"spec": {"engine": fields}}), DEPLOYMENT_KIND).sentences()
    assert said[MOST:] == ["and 19980 more"]
    assert max(map(len, said)) < 500


def test_a_long_value_is_shown_in_part() -> None:
    (said,) = asked(merged(MINIMAL, spec(advisor={"objective": "x" * 10_000})), DEPLOYMENT_KIND).sentences()[:-1]
    assert len(said) < 200


# The rules of our CRDs.


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
        pytest.param("size(self) == 3 && self.size() == 3", "äö水", True, id="a size counts characters"),
        pytest.param("self != 'size(x)'", "size(x)", False, id="a text is not renamed"),
        pytest.param("self.find('[0-9]+') == '12'", "a12b", True, id="find"),
        pytest.param("self.find('x') == ''", "a", True, id="find nothing"),
        pytest.param("self.findAll('[0-9]', 2) == ['1', '2']", "123", True, id="find all, at most two"),
        pytest.param("self.split('=')[0].replace('_', '-').lowerAscii() == '--a-b'", "--A_B=c", True, id="of a flag"),
        pytest.param("self.substring(2, 4) == 'cd' && self.indexOf('c') == 2", "abcde", True, id="a part of a text"),
        pytest.param("self.trim().charAt(0) == 'a'", " a ", True, id="trimmed"),
        pytest.param("self.substring(9) == ''", "abc", False, id="what has no value refuses"),
    ],
)  # fmt: skip
def test_a_rule_of_text_means_what_kubernetes_means(rule: str, value: str, *, holds: bool) -> None:
    assert refused(ruled(rule, type="string"), value) == ([] if holds else [""])


def test_a_number_is_what_its_schema_says_and_not_how_it_is_written() -> None:
    half = ruled("self.x / 2.0 == 1.5", type="object", properties={"x": {"type": "number"}})
    assert refused(half, {"x": 3}) == []


def test_a_field_whose_name_is_a_word_of_cel_is_escaped() -> None:
    schema = ruled("self.__namespace__ == 'a'", type="object", properties={"namespace": {"type": "string"}})
    assert refused(schema, {"namespace": "a"}) == []
    assert refused(schema, {"namespace": "b"}) == [""]


def test_a_rule_of_the_object_speaks_of_the_field_that_it_names() -> None:
    rule = {"rule": "self.metadata.name.matches('^[a-z]')", "message": "a letter first", "fieldPath": ".metadata.name"}
    name = {"type": "object", "properties": {"name": {"type": "string"}}}
    schema = {"type": "object", "properties": {"metadata": name}, "x-kubernetes-validations": [rule]}
    assert refused(schema, {"metadata": {"name": "4b"}}) == ["metadata.name"]


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


# Former names.


def test_a_field_by_its_former_name_is_answered_with_todays() -> None:
    for old, renamed in former_names.RENAMED.items():
        said = former_names.name_now(old)
        assert said is not None
        assert all(now in said for now in renamed.now)


def test_a_former_name_in_a_list_is_known_without_its_index() -> None:
    assert former_names.value_now("spec.sharing.mode", "None") == "Exclusive"
    assert former_names.value_now("spec.sharing.mode", "MPS") is None
    assert former_names.name_now("spec.engine.args[0]") is None


def test_no_former_name_is_one_of_today() -> None:
    now = {path for renamed in former_names.RENAMED.values() for path in renamed.now}
    assert now.isdisjoint(former_names.RENAMED)
    assert all(words.keys().isdisjoint(words.values()) for words in former_names.VALUES.values())


def fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from fields(part, f"{path}.{name}")


FIELDS = dict(field for kind in KINDS for field in fields(schema_of(kind.kind)["properties"]["spec"], "spec"))


@pytest.mark.parametrize("old", former_names.RENAMED)
def test_of_a_renamed_field_the_api_has_only_the_name_of_today(old: str) -> None:
    assert old not in FIELDS
    assert [now for now in former_names.RENAMED[old].now if now not in FIELDS] == []


@pytest.mark.parametrize("path", former_names.VALUES)
def test_of_a_renamed_value_the_api_has_only_the_word_of_today(path: str) -> None:
    words = former_names.VALUES[path]
    assert words.keys().isdisjoint(FIELDS[path]["enum"])
    assert set(words.values()) <= set(FIELDS[path]["enum"])


# YAML.


def test_yaml_has_the_scalars_of_kubectl() -> None:
    text = "\n".join(f"- {written}" for written in SCALARS)
    assert as_sent(kubectl_yaml.yaml.load(text, kubectl_yaml.Loader)) == list(SCALARS.values())


def test_yaml_that_is_written_is_read_the_same_by_both_readers() -> None:
    texts = [*SCALARS, *map(str, SCALARS.values()), "12e4", "a: b", "- a"]
    written = kubectl_yaml.yaml.dump(texts + list(SCALARS.values()), Dumper=kubectl_yaml.Dumper)
    for reader in (kubectl_yaml.Loader, kubectl_yaml.yaml.SafeLoader):
        assert kubectl_yaml.yaml.load(written, reader) == texts + list(SCALARS.values())


@pytest.mark.parametrize("text", ["!!set {a}", "!!binary aGk=", "!!python/object:a.B {}", "{[1]: a}"])
def test_yaml_that_json_cannot_say_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "slmd.yaml").write_text(f"a: {text}")
    with pytest.raises(Refused, match="neither JSON nor YAML"):
        deployment(str(tmp_path / "slmd.yaml"))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 400])
def test_a_number_that_json_does_not_have_is_refused(number: str, tmp_path: Path) -> None:
    file = tmp_path / "slmd.json"
    file.write_text(json.dumps(merged(MINIMAL, spec(profiling={"maxGpuMinutes": "X"}))).replace('"X"', number))
    with pytest.raises(Refused, match=r"spec\.profiling\.maxGpuMinutes: no number that JSON has"):
        deployment(str(file))
