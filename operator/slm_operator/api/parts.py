"""Parts that both kinds share: model, engine, workload, SLO, and the base that makes field docstrings descriptions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError, core_schema
from slm_core import tuning
from slm_core.engines.base import Owner
from slm_core.engines.registry import ENGINES
from slm_core.measurements import camel

from slm_operator.api import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

MAX_BYTES = 1 << 50

_OWNERS = {
    Owner.MODEL: "spec.model.uri",
    Owner.SERVED_NAME: "spec.model.name",
    Owner.REVISION: "spec.model.revision",
    Owner.REMOTE_CODE: "spec.model.remoteCode",
    Owner.MAX_MODEL_LEN: "spec.engine.maxModelLen",
    Owner.DTYPE: "spec.engine.dtype",
    Owner.ADVICE: "the advice",
    Owner.OPERATOR: "the operator",
    Owner.ONE_GPU: "the operator: an engine has one GPU or a share of it",
}
OWNED_FLAGS = {flag: _OWNERS[owner] for engine in ENGINES for flag, owner in engine.owned_flags.items()}
"""Flags of engines that the operator sets, and from what. Given by hand they would contradict what was measured."""


def within(bounds: tuning.Bounds) -> Any:
    """The bounds of a number, for its schema."""
    return Field(gt=bounds.above, ge=bounds.least, lt=bounds.below, le=bounds.most)


SET = {"x-kubernetes-list-type": "set"}
ATOMIC = {"x-kubernetes-list-type": "atomic"}


def map_by(key: str) -> dict[str, Any]:
    """What makes a list one that several may apply to, each its own items."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


Text = Annotated[str, Field(max_length=1024)]
Name = Annotated[str, Field(max_length=253)]
"""The name of an object, in status: the API server has taken it already."""
Product = Annotated[str, Field(min_length=1, max_length=63)]
LabelMap = Annotated[dict[str, Annotated[str, Field(max_length=253)]], Field(max_length=32)]
MOST_LEVELS = 64
"""Deepest nesting of a raw object. A pod template has about fifteen levels."""


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


def cel(rule: str, message: str, *, field: str | None = None) -> dict[str, str]:
    """One CEL rule of a CRD schema. `message` names the remedy."""
    return {"rule": rule, "message": message} | ({"fieldPath": field} if field else {})


TOLERATES_CHANGES = (
    f"it tolerates {names.CHANGING_TAINT}, by which a node is closed while its GPUs are repartitioned: give the toleration the "
    "key of the taint that is meant, nvidia.com/gpu for instance"
)


def tolerates_changes(toleration: Mapping[str, object]) -> bool:
    """Whether a pod with it would come back to a node that it must leave, and hold up the change for ever."""
    key, effect = (toleration.get(name) or "" for name in ("key", "effect"))
    of_it = key == names.CHANGING_TAINT or (key == "" and toleration.get("operator") == "Exists")
    return of_it and effect in {"", "NoSchedule"}


def _lets_nodes_change(toleration: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if tolerates_changes(toleration):
        raise PydanticCustomError("toleration", "{message}", {"message": TOLERATES_CHANGES})
    return toleration


def _selects_no_marks(selector: dict[str, str]) -> dict[str, str]:
    ours = [key for key in selector if key.startswith(f"{names.GROUP}/")]
    if ours:
        raise PydanticCustomError("marks", "{message}", {"message": f"{ours[0]}: {OUR_MARKS}"})
    return selector


OUR_MARKS = "labels of the operator's are its own way to tell a pod its node: select by a label of yours"
NodeSelector = Annotated[LabelMap, AfterValidator(_selects_no_marks)]
SELECTS_NO_MARKS = cel(
    f"!has(self.nodeSelector) || self.nodeSelector.all(k, !k.startsWith('{names.GROUP}/'))", OUR_MARKS
)

Toleration = Annotated[RawObject, AfterValidator(_lets_nodes_change)]


class Part(BaseModel):
    """Base of every API type: camelCase in JSON, docstrings as descriptions, frozen once read.

    NB: unknown fields are ignored here, because the API server prunes them and a newer CRD may know more than this
    operator. The command line reads files with `extra="forbid"` instead.
    """

    model_config = ConfigDict(
        alias_generator=camel, populate_by_name=True, frozen=True, extra="ignore", use_attribute_docstrings=True
    )


def validations(*rules: dict[str, str]) -> ConfigDict:
    """A model_config that adds CEL rules to the type's schema."""
    extra: dict[str, Any] = {"x-kubernetes-validations": list(rules)}
    return ConfigDict(json_schema_extra=extra)


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a text. A value that does not match is refused with `message`; a `pattern` of the schema would be refused with an expression.

    `expression` is of the whole text, in what RE2 and Python have in common, without quotes. Give the text a longest
    length too: the API server weighs a rule by it.
    """

    expression: str
    message: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        rule = cel(f"self.matches(r'^({self.expression})$')", self.message)
        return handler(schema) | {"x-kubernetes-validations": [rule]}

    def _checked(self, text: str) -> str:
        if re.fullmatch(self.expression, text, re.ASCII) is None:  # as in RE2, a blank is one of ASCII's
            raise PydanticCustomError("form", "{message}", {"message": self.message})
        return text


_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_NAMED = "is lower-case letters, digits and '-', with a letter or digit at both ends"
ObjectName = Annotated[
    str, Field(max_length=253), Form(_SUBDOMAIN, f"the name of an object {_NAMED}; parts may be joined by '.'")
]
"""The name of an object that a user refers to. A wrong one could never exist: it would be waited for, or fail late."""
NamespaceName = Annotated[str, Field(max_length=63), Form(_LABEL, f"the name of a namespace {_NAMED}")]
ServiceName = Annotated[str, Field(max_length=63), Form(_LABEL, f"the name of a Service {_NAMED}")]
Hostname = Annotated[
    str,
    Field(max_length=253),
    Form(rf"(\*\.)?{_SUBDOMAIN}", "a host is models.example.com, or *.example.com; leave hostnames out for every host"),
]


class NameReference(Part):
    """An object of this namespace."""

    name: ObjectName
    """Its name."""


class ModelSpec(Part):
    """Which model to serve, and from where."""

    uri: Annotated[
        str,
        Field(max_length=1024),
        Form(
            r"(hf|pvc|s3|oci)://[^/\s].*|/\S+",
            "a model is hf://org/name, pvc://claim/path, s3://bucket/path, oci://registry/image, or an absolute path "
            "in the engine image",
        ),
    ]
    """Where the model is: hf://org/name, pvc://claim/path, s3://bucket/path, oci://registry/image, or an absolute path in the engine image."""
    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Name under which clients ask for the model. Default: the name of the SLMDeployment."""
    revision: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Commit, tag or digest to serve. Default: what the source calls newest when an engine starts; pin it, so that replicas agree."""
    remote_code: Literal["Never", "Trusted"] = "Never"
    """Trusted: run Python code that comes with the model. It runs with the replica's rights: read it first."""
    credentials_secret_ref: NameReference | None = None
    """Secret with HF_TOKEN, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. It is referenced by pods and never read by the operator."""


_OTHERS_SHARE = (
    "it decides which GPU, or how much of one, an engine has: that is the device plugin's and the operator's to say"
)
_OPENS_DOORS = (
    "it opens endpoints by which every client may stop or empty the engine: use an engine of your own for that"
)

_DOORS = sorted(name for engine in ENGINES for name in engine.refused_variables)


def refused_variable(name: str) -> str | None:
    """Why no container of ours may have an environment variable; None when it may."""
    if name == "NVIDIA_VISIBLE_DEVICES" or name.startswith("CUDA_MPS_"):
        return _OTHERS_SHARE
    return _OPENS_DOORS if name in _DOORS else None


def _taken_variable(name: str) -> str:
    why = refused_variable(name)
    if why is not None:
        raise PydanticCustomError("variable", "{message}", {"message": f"{name}: {why}"})
    return name


class EnvVar(Part):
    """An environment variable of the engine."""

    model_config = validations(
        cel("self.name != 'NVIDIA_VISIBLE_DEVICES' && !self.name.startsWith('CUDA_MPS_')", _OTHERS_SHARE),
        cel(" && ".join(f"self.name != '{name}'" for name in _DOORS), _OPENS_DOORS),
        cel("!(has(self.value) && has(self.valueFrom))", "give value or valueFrom, not both"),
    )
    name: Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_taken_variable)]
    """Name of the variable."""
    value: Annotated[str, Field(max_length=4096)] | None = None
    """Its value."""
    value_from: RawObject | None = None
    """Where the value comes from, as in a container: secretKeyRef, configMapKeyRef, fieldRef."""


_OWNED_LIST = "[" + ", ".join(f"'{flag}'" for flag in OWNED_FLAGS) + "]"


class EngineSpec(Part):
    """The engine that serves the model."""

    model_config = validations(
        cel(
            f"!has(self.args) || self.args.all(a, !(a.split('=')[0].replace('_', '-') in {_OWNED_LIST}))",
            "args holds a flag that the operator owns (it follows from spec or from the advice): remove it; "
            "docs/api.md lists the owned flags and the fields that replace them",
        ),
    )
    image: Annotated[
        str,
        Field(max_length=512),
        Form(r"[!-~]+", "an image is registry/name:tag or registry/name@digest, without blanks"),
    ] = ENGINES[0].image
    """Container image of the engine. The profile is measured in this very image."""
    command: Annotated[list[Text], Field(max_length=16)] | None = None
    """Command that starts the OpenAI-compatible server; the operator appends its flags. Default: python3 -m vllm.entrypoints.openai.api_server."""
    args: Annotated[list[Text], Field(max_length=64)] = []
    """Further arguments for the engine, for measuring and for serving alike."""
    env: Annotated[list[EnvVar], Field(max_length=64, json_schema_extra=map_by("name"))] = []
    """Environment of the engine by name, for measuring and for serving alike."""
    max_model_len: Annotated[int, Field(ge=16, le=10_000_000)] | None = None
    """Longest sequence in tokens, prompt and output together. Default: the model's own limit."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Data type of weights and activations."""


class WorkloadSpec(Part):
    """The load to measure and to decide for."""

    model_config = validations(
        cel(
            "!(has(self.concurrencyPerGpu) && has(self.requestsPerSecondPerGpu))",
            "give concurrencyPerGpu or requestsPerSecondPerGpu, not both: one follows from the other",
        ),
    )
    input_tokens: Annotated[int, within(tuning.INPUT_TOKENS)] = tuning.INPUT_TOKENS.default
    """Mean prompt length in tokens. Ignored when a dataset is named."""
    output_tokens: Annotated[int, within(tuning.OUTPUT_TOKENS)] = tuning.OUTPUT_TOKENS.default
    """Mean output length in tokens. Ignored when a dataset is named."""
    dataset: (
        Annotated[
            str,
            Field(max_length=1024),
            Form(r"pvc://[^/\s]+/.+|/\S+", "a dataset is pvc://claim/path, or an absolute path in the engine image"),
        ]
        | None
    ) = None
    """ShareGPT-style JSON whose lengths are used: pvc://claim/path, or a path in the engine image."""
    concurrency_per_gpu: Annotated[int, within(tuning.CONCURRENCY)] | None = None
    """Requests in flight, per GPU, to decide for. Default: full batches, which is where packs win; with thin traffic they lose."""
    requests_per_second_per_gpu: Annotated[float, within(tuning.REQUESTS_PER_SECOND)] | None = None
    """Requests per second, per GPU, to decide for, instead of concurrencyPerGpu."""
