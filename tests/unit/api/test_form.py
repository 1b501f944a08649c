"""Texts with a form: what is taken, and that whoever misses it sees the form and not an expression."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from slm_operator.api.crd import KINDS, Kind, definition
from slm_operator.api.parts import (
    EngineSpec,
    Hostname,
    ModelSpec,
    NamespaceName,
    ObjectName,
    ServiceName,
    WorkloadSpec,
)

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


@pytest.mark.parametrize("image", ["", "vllm/vllm openai", "vllm/vllm-openai:v1 "])
def test_an_image_that_is_refused(image: str) -> None:
    with pytest.raises(ValidationError, match="an image is registry/name:tag or registry/name@digest"):
        EngineSpec(image=image)


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
def test_names(form: Any, message: str, taken: tuple[str, ...], refused: tuple[str, ...]) -> None:
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
