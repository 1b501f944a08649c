"""Texts with a form: what is taken, and that whoever misses it is told the form and not an expression."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError
from slm_operator.api.crd import KINDS, Kind, definition
from slm_operator.api.parts import ModelSpec, WorkloadSpec

TAKEN = (
    "hf://facebook/opt-125m",
    "hf://gpt2",
    "pvc://models/a b",
    "s3://bucket/model",
    "oci://r.io/i:tag#sub",
    "/m/opt",
)
REFUSED = (
    "",
    "facebook/opt-125m",
    "ftp://models/opt",
    "hf://",
    "hf:///opt",
    "HF://a/b",
    "./opt",
    "/m/opt one",
    "/m/opt\n",
)


@pytest.mark.parametrize("uri", TAKEN)
def test_a_model_that_is_taken(uri: str) -> None:
    assert ModelSpec(uri=uri).uri == uri


@pytest.mark.parametrize("uri", REFUSED)
def test_a_model_that_is_refused(uri: str) -> None:
    with pytest.raises(ValidationError, match=r"a model is hf://org/name, pvc://claim/path, .* or an absolute path"):
        ModelSpec(uri=uri)


@pytest.mark.parametrize("dataset", ["chats.json", "pvc://claim", "hf://org/chats", "/data/two words"])
def test_a_dataset_that_is_refused(dataset: str) -> None:
    with pytest.raises(ValidationError, match="a dataset is pvc://claim/path, or an absolute path"):
        WorkloadSpec(dataset=dataset)


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
    assert [part for part in parts(schema) if isinstance(part.get("pattern"), str)] == []
    rules = [rule for part in parts(schema) for rule in part.get("x-kubernetes-validations", ())]
    assert len([rule for rule in rules if "matches" in rule["rule"]]) == 2
    assert all(rule["message"] for rule in rules)
