"""Hypothesis strategies over our CRDs: mostly what the schema allows, sometimes with one thing wrong.

Own code, because hypothesis-jsonschema knows neither structural schemas' flags nor what a pod template looks like.
"""

from __future__ import annotations

import copy
import re
import string
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]
LETTERS = string.ascii_letters + string.digits + "-_./:= äß水\u0007"
TEXT = st.text(LETTERS, max_size=12)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(-1e6, 1e6), TEXT)
JUNK = st.recursive(
    SCALAR, lambda part: st.lists(part, max_size=3) | st.dictionaries(TEXT, part, max_size=3), max_leaves=6
)
DIGEST = "sha256:" + "0a" * 32


def mostly(good: tuple[Any, ...], bad: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """Seeds of which one in five or so is refused."""
    return st.integers(0, 4).flatmap(lambda draw: st.sampled_from(good if draw else bad))


URIS = mostly(
    (
        "hf://facebook/opt-125m",
        "hf://gpt2",
        "pvc://models/opt-1.3b",
        "s3://bucket/model",
        "oci://registry/image:tag",
        f"oci://registry.example:5000/image@{DIGEST}#folder",
        "/models/opt",
    ),
    (
        "hf://meta-llama/Llama-3.2-1B:main",
        "hf://org/name@rev",
        "hf://org/na me",
        "hf://a/b/c",
        "pvc://My_Models/opt",
        "s3://B/opt",
        "oci://Registry/Image",
        "ftp://x/y",
    ),
)
DATASETS = mostly(("pvc://data/chats.json", "/data/chats.json"), ("pvc://Data/chats.json", "chats.json"))
FLAGS = st.sampled_from((
    "--enforce-eager", "--max-num-seqs=4", "--max_num_seqs", "--dtype", "--seed", "7", "", "-", "--", "-tp", "-n2", "-dc",
    "--max-num-seq", "--seed 7", "-O3", "-1.5", "--hf-overrides.a_b", "--=", "-.", "-tp=2", "-pp", "-q", "--config=/c.yaml",
    "--tensor-parallel-si", "--data-parallel-size",
))  # fmt: skip
"""The engine's own spellings too: prefixes and short names."""
NAMES = mostly(
    ("fuzzed", "a.b", "a-b", "qwen2.5-3b", f"{'x' * 60}.y", "x" * 253, "chat-x0123456789"),
    ("4b-chat", "Chat", "a_b", "a.", "x" * 254),
)
"""Names of objects."""
_TOLERATION = mostly(
    (
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "pool", "value": "gpu"},
        {"key": "pool", "operator": "Equal", "value": ""},
        {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
    ),
    (
        {"key": "a", "operater": "Exists"},
        {"key": "a", "operator": "Lt", "value": "5"},
        {"operator": "Exists"},
        {"value": "a"},
        {"key": "a", "operator": "Exists", "value": "b"},
        {"key": "a", "tolerationSeconds": 5},
        {"key": "slm-operator.io/changing", "operator": "Exists"},
        {"key": "a b"},
    ),
)
_SOURCE = mostly(
    (
        {"secretKeyRef": {"name": "s", "key": "k", "optional": True}},
        {"configMapKeyRef": {"name": "c", "key": "k"}},
        {"fieldRef": {"fieldPath": "metadata.labels['a']"}},
        {"resourceFieldRef": {"resource": "limits.cpu", "divisor": 1}},
        {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}},
    ),
    (
        {},
        {"secretKeyReff": {"name": "s", "key": "k"}},
        {"secretKeyRef": {"name": "s", "keey": "k"}},
        {"secretKeyRef": {"name": "s", "key": "k"}, "fieldRef": {"fieldPath": "metadata.name"}},
        {"fieldRef": {"fieldPath": "metadata.nam"}},
        {"resourceFieldRef": {"resource": "cpu"}},
    ),
)

_CONTAINER = st.fixed_dictionaries(
    {"name": st.sampled_from(("engine", "sidecar")) | JUNK},
    optional={
        "image": JUNK,
        "resources": st.fixed_dictionaries({}, optional={"limits": st.dictionaries(TEXT, TEXT, max_size=2) | JUNK})
        | JUNK,
        "env": st.lists(st.fixed_dictionaries({"name": TEXT, "value": TEXT}) | JUNK, max_size=2) | JUNK,
        "volumeMounts": st.lists(st.fixed_dictionaries({"name": TEXT, "mountPath": TEXT}) | JUNK, max_size=2) | JUNK,
        "securityContext": JUNK,
    },
)
POD_TEMPLATE = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({}, optional={"labels": st.dictionaries(TEXT, TEXT, max_size=2) | JUNK})
        | JUNK,
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "containers": st.lists(_CONTAINER | JUNK, max_size=2) | JUNK,
                "volumes": st.lists(st.fixed_dictionaries({"name": TEXT, "emptyDir": st.just({})}) | JUNK, max_size=2),
                "tolerations": JUNK,
                "nodeSelector": JUNK,
                "restartPolicy": JUNK,
                "hostNetwork": st.booleans(),
            },
        )
        | JUNK,
    },
)
KNOWN = {
    "uri": URIS,
    "dataset": DATASETS,
    "args": st.lists(FLAGS, max_size=3),
    "podTemplate": POD_TEMPLATE,
    "tolerations": st.lists(_TOLERATION, max_size=2).map(copy.deepcopy),
    "valueFrom": _SOURCE.map(copy.deepcopy),
}
FORMED = (
    "chat",
    "hf-token",
    "1",
    "x" * 63,
    "v1.models",
    "chat.example.com",
    "*.example.com",
    f"registry/image@{DIGEST}",
)
"""Texts of every form. NB: Hypothesis makes them from an expression too, and takes as long for that as for all the rest."""
_FORM = re.compile(r"self\.matches\(r'\^(?P<of>.*)\$'\)")
"""A rule for the form of a text, as `slm_operator.api.parts.Form` writes it."""


def allowed(schema: Schema, name: str = "") -> st.SearchStrategy[Any]:
    """Values that a structural schema allows; of its CEL rules only those of the names in KNOWN are known."""
    if name in KNOWN:
        return KNOWN[name]
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _OF_TYPE.get(schema.get("type", ""), _text)(schema)


def _object(schema: Schema) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        values = allowed(schema["additionalProperties"]) if "additionalProperties" in schema else JUNK
        return st.dictionaries(TEXT, values, max_size=2)
    parts = {key: allowed(part, key) for key, part in schema["properties"].items()}
    required = {key: parts.pop(key) for key in schema.get("required", ())}
    return st.fixed_dictionaries(required, optional=parts)


def _array(schema: Schema) -> st.SearchStrategy[Any]:
    return st.lists(allowed(schema["items"]), max_size=min(3, schema.get("maxItems", 3)))


def _integer(schema: Schema) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum", 0), schema.get("maximum", 2**31)
    return st.sampled_from((low, high)) | st.integers(low, min(high, low + 64))


def _text(schema: Schema) -> st.SearchStrategy[Any]:
    """Any letters, or what has the form that a rule of the field asks for."""
    rules = [rule["rule"] for rule in schema.get("x-kubernetes-validations", ())]
    for form in filter(None, map(_FORM.fullmatch, rules)):
        return st.sampled_from([text for text in FORMED if re.fullmatch(form["of"], text)])
    return st.text(LETTERS, min_size=schema.get("minLength", 0), max_size=min(16, schema.get("maxLength", 16)))


def _numbers(schema: Schema) -> st.SearchStrategy[float]:
    low, high = schema.get("minimum", 0), schema.get("maximum", 1e9)
    return st.floats(
        low,
        high,
        exclude_min=bool(schema.get("exclusiveMinimum")),
        exclude_max=bool(schema.get("exclusiveMaximum")),
        allow_nan=False,
        allow_subnormal=False,
    )


_OF_TYPE = {
    "object": _object,
    "array": _array,
    "integer": _integer,
    "number": _numbers,
    "boolean": lambda _: st.booleans(),
}


@st.composite
def specs(draw: st.DrawFn, schema: Schema) -> Any:
    """A spec; one time in three something in it is not what the schema wants."""
    spec = draw(allowed(schema))
    return _broken(draw, copy.deepcopy(spec)) if draw(st.integers(0, 2)) == 0 else spec


def _broken(draw: st.DrawFn, spec: dict[str, Any]) -> dict[str, Any]:
    """One field of the spec, at some depth, made junk, removed, or accompanied by one that nobody knows."""
    place = spec
    while True:
        if not place:
            place["unknown"] = draw(JUNK)
            return spec
        name = draw(st.sampled_from(sorted(place)))
        inside = place[name]
        for one in inside if isinstance(inside, list) else (inside,):
            if isinstance(one, dict) and one and draw(st.booleans()):
                place = one
                break
        else:
            return _spoilt(draw, spec, place, name)


def _spoilt(draw: st.DrawFn, spec: dict[str, Any], place: dict[str, Any], name: str) -> dict[str, Any]:
    match draw(st.sampled_from(("junk", "gone", "unknown"))):
        case "junk":
            place[name] = draw(JUNK)
        case "gone":
            del place[name]
        case _:
            place[f"{name}X"] = place[name]
    return spec
