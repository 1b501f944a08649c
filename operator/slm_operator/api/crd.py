"""Custom resource definitions, generated from the pydantic types.

Pydantic writes JSON Schema; the API server wants the structural subset of OpenAPI v3 (no $ref, no anyOf with null, no
title). The steps between them are the functions below. Assumes that types are trees: a type that contains itself would
never end. Source of the rules: Kubernetes, "Extend the API with CustomResourceDefinitions", structural schemas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_operator.api.deployment import SLMDeployment
from slm_operator.api.names import DEPLOYMENT_KIND, GROUP, PROFILE_KIND, VERSION
from slm_operator.api.profile import SLMProfile

if TYPE_CHECKING:
    from slm_operator.api.base import Part

Schema = dict[str, Any]

_DROPPED = ("title", "$defs", "additionalProperties", "const")


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column. Priority 1 is shown by -o wide only."""

    name: str
    json_path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of this API."""

    kind: str
    plural: str
    short: str
    model: type[Part]
    columns: tuple[Column, ...]
    scalable: bool = False


_READY = ".status.conditions[?(@.type=='Ready')]"
_SERVED = ".status.advice.configuration"

KINDS = (
    Kind(
        DEPLOYMENT_KIND,
        "slmdeployments",
        "slmd",
        SLMDeployment,
        (
            Column("Model", ".spec.model.uri"),
            Column("Desired", ".spec.replicas", "integer"),
            Column("Available", ".status.readyReplicas", "integer"),
            Column("Ready", f"{_READY}.status"),
            Column("Reason", f"{_READY}.reason"),
            Column("SLO", ".status.conditions[?(@.type=='SLOMet')].status"),
            Column("Phase", ".status.phase"),
            Column("Age", ".metadata.creationTimestamp", "date"),
            Column("Batch", f"{_SERVED}.batchSize", "integer", 1),
            Column("PerGPU", f"{_SERVED}.enginesPerGpu", "integer", 1),
            Column("Mode", f"{_SERVED}.sharingMode", "string", 1),
            Column("Gain", ".status.advice.gain", "number", 1),
            Column("Product", ".status.profile.product", "string", 1),
            Column("Profile", ".status.profile.name", "string", 1),
            Column("URL", ".status.url", "string", 1),
            Column("Message", f"{_READY}.message", "string", 1),
        ),
        scalable=True,
    ),
    Kind(
        PROFILE_KIND,
        "slmprofiles",
        "slmp",
        SLMProfile,
        (
            Column("Model", ".spec.model.uri"),
            Column("Product", ".status.product"),
            Column("Ready", f"{_READY}.status"),
            Column("Reason", f"{_READY}.reason"),
            Column("Progress", ".status.summary"),
            Column("GPU-Seconds", ".status.gpuSeconds", "integer"),
            Column("Phase", ".status.phase"),
            Column("Age", ".metadata.creationTimestamp", "date"),
            Column("Node", ".status.node", "string", 1),
            Column("Message", f"{_READY}.message", "string", 1),
        ),
    ),
)


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind, as a manifest."""
    subresources: dict[str, Any] = {"status": {}}
    if kind.scalable:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["slm"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": _root(kind.model)},
                }
            ],
        },
    }


def structural(schema: Schema) -> Schema:
    """The structural form of a JSON schema that pydantic wrote."""
    return _structural(schema, schema.get("$defs", {}))


def _root(model: type[Part]) -> Schema:
    schema = structural(model.model_json_schema(by_alias=True))
    identity = {
        "apiVersion": {"type": "string", "description": "Version of this API, slm-operator.io/v1alpha1."},
        "kind": {"type": "string", "description": "Kind of this object."},
        "metadata": {"type": "object"},
    }
    # NB: to kstatus (Flux, kubectl wait-like tools) an object without status is healthy: it must not pass for that before
    # the operator has looked at it. No generation is ever -1. Flux's own kinds do the same.
    unseen = {"status": schema["properties"]["status"] | {"default": {"observedGeneration": -1}}}
    return schema | {"properties": identity | schema["properties"] | unseen}


def _column(column: Column) -> dict[str, Any]:
    shown = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    return shown | ({"priority": column.priority} if column.priority else {})


def _structural(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        return _structural(target | {k: v for k, v in schema.items() if k != "$ref"}, definitions)
    if "anyOf" in schema:
        return _optional(schema, definitions)
    if schema.get("type") == "object" and "properties" not in schema:
        return _map(schema, definitions)
    kept = {key: value for key, value in schema.items() if key not in _DROPPED}
    if "const" in schema:
        kept |= {"type": "string", "enum": [schema["const"]]}
    if "properties" in kept:
        if "default" in kept:
            kept["default"] = {}  # its fields have their own defaults; written out, absent ones would be null: refused
        kept["properties"] = {name: _structural(part, definitions) for name, part in kept["properties"].items()}
    if "items" in kept:
        kept["items"] = _structural(kept["items"], definitions)
    return _bounds(kept)


def _optional(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """`X | None` is X that may be absent; its default of null goes."""
    (branch,) = [part for part in schema["anyOf"] if part.get("type") != "null"]
    around = {key: value for key, value in schema.items() if key not in {"anyOf", "default", "title"}}
    return _structural(branch | around, definitions)


def _map(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    values = schema.get("additionalProperties", True)
    if (
        values is True or "$ref" in values
    ):  # a raw Kubernetes object: the API server that receives it in a pod checks it
        kept = {key: value for key, value in schema.items() if key in {"description", "default"}}
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True} | kept
    kept = {key: value for key, value in schema.items() if key not in _DROPPED}
    return kept | {"additionalProperties": _structural(values, definitions)}


def _bounds(schema: Schema) -> Schema:
    """OpenAPI v3.0 writes exclusive bounds as a flag beside the bound."""
    for exclusive, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in schema:
            schema = schema | {plain: schema[exclusive], exclusive: True}
    if schema.get("type") == "integer":
        schema = schema | {"format": "int64"}
    return schema
