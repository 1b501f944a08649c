"""Former names of fields and values: each is answered by one that the API has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.api.crd import KINDS
from slm_operator.cli.inputs.admission import former_names
from slm_operator.cli.inputs.admission.answer import schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator

Schema = dict[str, Any]


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
    for name, part in schema.get("items", schema).get("properties", {}).items():
        yield from fields(part, f"{path}.{name}")


FIELDS = dict(field for kind in KINDS for field in fields(schema_of(kind.kind)["properties"]["spec"], "spec"))


@pytest.mark.parametrize("old", former_names.RENAMED)
def test_renamed_field_is_in_the_api_by_its_new_name_only(old: str) -> None:
    assert old not in FIELDS
    assert [now for now in former_names.RENAMED[old].now if now not in FIELDS] == []


@pytest.mark.parametrize("path", former_names.VALUES)
def test_renamed_value_is_in_the_api_by_its_new_word_only(path: str) -> None:
    words = former_names.VALUES[path]
    assert words.keys().isdisjoint(FIELDS[path]["enum"])
    assert set(words.values()) <= set(FIELDS[path]["enum"])
