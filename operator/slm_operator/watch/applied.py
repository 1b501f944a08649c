"""What we applied to an object, and whether somebody else has changed that since, read off the object itself.

The API server keeps, for each writer, the set of fields it owns (`metadata.managedFields`). When another writer changes
one of ours, it leaves our set: so the digest of our set is a fingerprint that changes exactly when our fields were
taken. The executor compares it with the one its own last apply returned, and needs no reads to skip a write.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.decoding import decode
from slm_operator.watch.projection import Raw, meta_of

if TYPE_CHECKING:
    from slm_operator.watch.records import Meta

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation of `kubectl apply` without --server-side, and of Argo CD: the manifest as it was applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedRecord:
    """An object of a kind that we apply."""

    meta: Meta
    applied: str | None = None
    """Hash of the manifest that was applied last, from our annotation."""
    fingerprint: str | None = None
    """Digest of the fields that we own. None: none."""
    touched: bool = False
    """Somebody else wrote its spec or data at or after our last apply. Used after a restart, when no fingerprint is known."""


def owned(raw: Raw) -> OwnedRecord:
    """The record of any object."""
    meta = meta_of(raw)
    entries = [one for one in raw["metadata"].get("managedFields") or () if not one.get("subresource")]
    ours = next((one for one in entries if one.get("manager") == names.FIELD_MANAGER and _is_apply(one)), None)
    if ours is None:
        return OwnedRecord(meta=meta, applied=meta.annotations.get(names.APPLIED_ANNOTATION))
    since = ours.get("time") or ""
    return OwnedRecord(
        meta=meta,
        applied=meta.annotations.get(names.APPLIED_ANNOTATION),
        fingerprint=_digest(ours.get("fieldsV1")),
        touched=any(
            one is not ours
            and (one.get("time") or "") >= since
            and not {"f:spec", "f:data", "f:stringData"}.isdisjoint(one.get("fieldsV1") or ())
            for one in entries
        ),
    )


def own_replicas(raw: Raw) -> int | None:
    """`spec.replicas` of an SLMDeployment if the number is ours alone: nobody else owns the field, or asks for it.

    NB: what writes another number takes the field from us, but need not become its owner (`/scale` of a custom resource). What
    writes the same number takes nothing: an apply on the server's side owns it beside us, one on the client's side shows in
    its annotation alone, and `kubectl scale` in nothing.
    """
    replicas = (raw.get("spec") or {}).get("replicas")
    owners = {
        (entry.get("manager"), entry.get("operation"))
        for entry in raw["metadata"].get("managedFields") or ()
        if "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or ())
    }
    is_ours = owners == {(names.REPLICAS_MANAGER, "Apply")} and replicas != _replicas_in_manifest(raw)
    return replicas if is_ours else None


def _replicas_in_manifest(raw: Raw) -> object:
    text = (raw["metadata"].get("annotations") or {}).get(LAST_APPLIED) or ""
    if '"replicas"' not in text:
        return None
    try:
        spec = decode(text)["spec"]
        return spec.get("replicas")
    except (ValueError, TypeError, KeyError, AttributeError):  # anybody may write anything there
        return None


def _is_apply(entry: Raw) -> bool:
    return entry.get("operation") == "Apply"


def _digest(fields: object) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
