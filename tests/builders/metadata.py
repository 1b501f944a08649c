"""What every object has: as the API server gives it, and as the watch keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.watch.records import Key, Meta

if TYPE_CHECKING:
    from slm_operator.watch.records import Owner

Raw = dict[str, Any]


def manifest(kind: str, name: str, spec: Raw, **head: Any) -> Raw:
    """An object of ours as somebody applies it. `head` adds to its metadata."""
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name} | head, "spec": spec}


def raw_meta(
    name: str,
    namespace: str = "team",
    *,
    uid: str = "",
    version: int = 1,
    generation: int = 1,
    owners: tuple[Owner, ...] = (),
    **more: Any,
) -> Raw:
    """`metadata`. An object of the cluster has the empty namespace. `more`: labels, annotations, managedFields ..."""
    where = {"namespace": namespace} if namespace else {}
    made = {"uid": uid or f"uid-{name}", "resourceVersion": str(version), "generation": generation}
    by = {"ownerReferences": [one._asdict() for one in owners]} if owners else {}
    return {"name": name, **where, **made, **by, **more}


def meta(name: str, namespace: str = "team", **more: Any) -> Meta:
    """The same in a record. `more`: its other fields."""
    head: Raw = {"uid": f"uid-{name}", "resource_version": "1", "generation": 1}
    return Meta(**({"key": Key(namespace, name)} | head | more))


def page(kind: str, *items: Raw, version: int = 100, more: bool = False) -> Raw:
    """A page of a list, the last one unless there is `more`."""
    metadata = {"resourceVersion": str(version)} | ({"continue": "next"} if more else {})
    return {"kind": f"{kind}List", "metadata": metadata, "items": list(items)}
