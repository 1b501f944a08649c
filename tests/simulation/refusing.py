"""What an API server answers other than yes, and the checks by which it comes to that."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from slm_operator.kube.transport import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.watch.records import Key

    from .objects import Raw

_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class RefusedError(Exception):
    """An answer other than yes."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def refusal(status: int, message: str, retry_after: str | None = None) -> Answer:
    """Such an answer."""
    body = json.dumps({"kind": "Status", "code": status, "message": message}).encode()
    return Answer(status=status, body=body, retry_after=retry_after)


def check_version(meta: Raw, version: int) -> None:
    """That nobody wrote since, if that was asked."""
    asked = meta.get("resourceVersion")
    if asked is not None and asked != str(version):
        raise RefusedError(409, "the object has been modified; please apply your changes to the latest version")


def found(one: Any, key: Key, options: Raw) -> Any:
    """The object, if it is there and the one that is meant."""
    if one is None:
        raise RefusedError(404, f"{key} not found")
    if options["preconditions"]["uid"] != one.uid:
        raise RefusedError(409, f"{key}: the UID in the precondition does not match")
    return one


def check_manifest(manifest: Raw) -> None:
    meta = manifest["metadata"]
    if manifest["kind"] == "Service" and _DNS_LABEL.fullmatch(meta["name"]) is None:
        raise RefusedError(422, f"metadata.name: {meta['name']} is no DNS label")
    check_labels(meta.get("labels") or {})
    if manifest["spec"].get("replicas", 0) < 0 or manifest["spec"].get("maxUnavailable", 0) < 0:
        raise RefusedError(422, "spec: must be greater than or equal to 0")


def check_conditions(status: Raw) -> None:
    """That each type is there once: they are a list that is a map by type."""
    types = [one["type"] for one in status.get("conditions") or ()]
    twice = sorted({one for one in types if types.count(one) > 1})
    if twice:
        raise RefusedError(422, f"status.conditions: duplicate entries for key [type={twice[0]!r}]")


def check_labels(labels: Mapping[str, str | None]) -> None:
    bad = [value for value in labels.values() if value is not None and _VALUE.fullmatch(value) is None]
    if bad:
        raise RefusedError(422, f"metadata.labels: invalid value {bad[0]!r}")
