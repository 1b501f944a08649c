"""What the API server itself checks of metadata, for every kind.

Source: Kubernetes, ObjectMeta in apimachinery, and "Object Names and IDs". Namespaces are the request's to check.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from slm_operator.api.base import SUBDOMAIN
from slm_operator.cli.inputs.admission.findings import Finding, Reason, Schema, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_TEXTS: Schema = {"type": "object", "additionalProperties": _TEXT | {"default": ""}}
_FLAG: Schema = {"type": "boolean"}


def _fields(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


_OWNER = _fields(
    apiVersion=_TEXT, kind=_TEXT, name=_TEXT, uid=_TEXT, controller=_FLAG, blockOwnerDeletion=_FLAG,
)  # fmt: skip
_MANAGED = _fields(
    manager=_TEXT, operation=_TEXT, apiVersion=_TEXT, time=_TEXT, fieldsType=_TEXT, subresource=_TEXT,
    fieldsV1={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
)  # fmt: skip
SCHEMA: Schema = _fields(
    name=_TEXT, generateName=_TEXT, namespace=_TEXT, selfLink=_TEXT, uid=_TEXT, resourceVersion=_TEXT,
    creationTimestamp=_TEXT, deletionTimestamp=_TEXT, generation=_WHOLE, deletionGracePeriodSeconds=_WHOLE,
    labels=_TEXTS, annotations=_TEXTS, finalizers={"type": "array", "items": _TEXT},
    ownerReferences={"type": "array", "items": _OWNER}, managedFields={"type": "array", "items": _MANAGED},
)  # fmt: skip
"""ObjectMeta as a structural schema. A CRD says only that metadata is an object."""

_SUBDOMAIN = re.compile(SUBDOMAIN)
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_NAMED = "is lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part"
_KEYED = "is letters, digits, '-', '_' and '.', with a letter or digit at both ends, at most 63 characters"
_MOST_NAME, _MOST_LABEL, _MOST_ANNOTATIONS = 253, 63, 256 << 10
_GENERATED = "xxxxx"
"""Stands for the five letters that the API server draws."""


def named(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata with the name that the object would have: rules of a kind are asked of it."""
    prefix = metadata.get("generateName")
    if metadata.get("name") or not prefix:
        return metadata
    return metadata | {"name": prefix[: _MOST_LABEL - len(_GENERATED)] + _GENERATED}


def findings(metadata: dict[str, Any]) -> Iterator[Finding]:
    """What is wrong with the metadata of an object whose types are right."""
    yield from _names(metadata)
    for key, value in metadata.get("labels", {}).items():
        yield from _key("metadata.labels", key)
        if value and not _is_qualified(value):
            yield Finding("metadata.labels", Reason.NAME, f"{shown(value)}: the value of a label is empty, or {_KEYED}")
    annotations = metadata.get("annotations", {})
    for key in annotations:
        yield from _key("metadata.annotations", key.lower())
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > _MOST_ANNOTATIONS:
        yield Finding("metadata.annotations", Reason.TOO_LONG, f"{size} bytes: give at most {_MOST_ANNOTATIONS}")
    for key in metadata.get("finalizers", ()):
        yield from _key("metadata.finalizers", key)
    for owner in metadata.get("ownerReferences", ()):
        lacking = [name for name in ("apiVersion", "kind", "name", "uid") if not owner.get(name)]
        yield from (Finding(f"metadata.ownerReferences.{name}", Reason.BOUND, "missing: give it") for name in lacking)


def _names(metadata: dict[str, Any]) -> Iterator[Finding]:
    name, prefix = metadata.get("name", ""), metadata.get("generateName", "")
    if not name and not prefix:
        yield Finding("metadata.name", Reason.MISSING, "missing: give the object a name")
        return
    if not _is_subdomain(named(metadata)["name"]):
        wrong = shown(name or prefix)
        yield Finding("metadata.name", Reason.NAME, f"{wrong}: a name {_NAMED}, at most {_MOST_NAME} characters")
    # NB: a dash at the end may be, and the letter before it the API server does not look at.
    if prefix and not _is_subdomain(f"{prefix[:-2]}a" if len(prefix) > 1 and prefix.endswith("-") else prefix):
        yield Finding("metadata.generateName", Reason.NAME, f"{shown(prefix)}: a name {_NAMED}")


def _is_subdomain(name: str) -> bool:
    return len(name) <= _MOST_NAME and _SUBDOMAIN.fullmatch(name) is not None


def _is_qualified(name: str) -> bool:
    return len(name) <= _MOST_LABEL and _QUALIFIED.fullmatch(name) is not None


def _key(path: str, key: str) -> Iterator[Finding]:
    prefix, slash, name = key.rpartition("/")
    if not _is_qualified(name) or (slash and not _is_subdomain(prefix)):
        may = "before a '/' it may have a domain, example.com/key"
        yield Finding(path, Reason.NAME, f"{shown(key)}: a key {_KEYED}; {may}")
