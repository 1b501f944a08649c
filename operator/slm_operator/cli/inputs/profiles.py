"""SLMProfiles as `kubectl slm profile list|prune` speaks of them: what is measured, who uses it, and whether it may go.

Reads raw objects field by field, so that one measured by another version is listed too. Pure: time is a parameter. Must
never call a profile prunable that a person made or imported, nor one that any SLMDeployment here names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.planning.profile.retention import counted_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    Raw = Mapping[str, Any]

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownProfile:
    """One SLMProfile."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    phase: str
    model: str
    product: str
    points: int
    created: str
    """RFC 3339, by the API server."""
    measured_at: str
    """RFC 3339; empty: not said."""
    used_by: tuple[str, ...]
    """SLMDeployments that name it; of a library's also those of other namespaces, as far as they were listed."""
    unused_since: str
    """RFC 3339, by the operator; empty: it is used, or no operator has looked yet."""
    gpu_seconds: float | None
    is_operators: bool
    """Made by the operator: neither by a person nor imported."""
    deleting: bool


def known_profiles(profiles: Iterable[Raw], deployments: Iterable[Raw]) -> tuple[KnownProfile, ...]:
    """Profiles by namespace and name, with the deployments that name them."""
    users: dict[tuple[str, str], list[str]] = {}
    for raw in deployments:
        namespace, name = raw["metadata"].get("namespace") or "", raw["metadata"]["name"]
        for of, profile in _named_by(raw, namespace):
            users.setdefault((of, profile), []).append(name if of == namespace else f"{namespace}/{name}")
    found = (_known(raw, users) for raw in profiles)
    return tuple(sorted(found, key=lambda one: (one.namespace, one.name)))


def prunable(profiles: Iterable[KnownProfile], unused_days: float, now: datetime) -> tuple[KnownProfile, ...]:
    """Those that the operator made and that nobody has used for so long, the ones that cost least first."""
    found = [one for one in profiles if _may_go(one) and _unused_seconds(one, now) >= unused_days * DAY_SECONDS]
    return tuple(sorted(found, key=lambda one: one.gpu_seconds or 0.0))


def rested_on(deployment: Raw, namespace: str) -> tuple[str, str] | None:
    """Namespace, which may be a library's, and name of the profile that a deployment of this namespace rests on; None: none yet."""
    used = _part(deployment, "status", "profile")
    name = used.get("name")
    return (str(used.get("namespace") or namespace), name) if name and isinstance(name, str) else None


def _named_by(deployment: Raw, namespace: str) -> set[tuple[str, str]]:
    """Namespaces and names of the profiles that a deployment measures, serves from, or is pinned to: while it is measured anew, two."""
    spec, status = _part(deployment, "spec"), _part(deployment, "status")
    named = (
        rested_on(deployment, namespace) or (namespace, None),
        (namespace, _part(status, "advice", "profileRef").get("name")),
        (namespace, _part(spec, "profiling", "profileRef").get("name")),
    )
    return {(of, str(name)) for of, name in named if name}


def _known(raw: Raw, users: Mapping[tuple[str, str], Sequence[str]]) -> KnownProfile:
    meta, spec, status = raw["metadata"], _part(raw, "spec"), _part(raw, "status")
    imported = spec.get("measurements") is not None
    document = _part(spec if imported else status, "measurements")
    namespace, name = meta.get("namespace") or "", meta["name"]
    gpu, points = _part(document, "gpu"), document.get("points")
    spent = _number(status.get("gpuSeconds"))
    return KnownProfile(
        namespace=namespace,
        name=name,
        uid=meta.get("uid") or "",
        resource_version=meta.get("resourceVersion") or "",
        phase=str(status.get("phase") or "Pending"),
        model=str(_part(spec, "model").get("uri") or ""),
        product=str(gpu.get("product") or status.get("product") or _part(spec, "gpu").get("product") or ""),
        points=len(points) if isinstance(points, list) else 0,
        created=str(meta.get("creationTimestamp") or ""),
        measured_at=str(document.get("measuredAt") or ""),
        used_by=tuple(sorted(users.get((namespace, name), ()))),
        unused_since=str(status.get("unusedSince") or ""),
        gpu_seconds=_number(_part(document, "cost").get("gpuSeconds")) if spent is None else spent,
        is_operators=not imported and _part(meta, "labels").get(names.MANAGED_BY_LABEL) == names.MANAGED_BY,
        deleting=bool(meta.get("deletionTimestamp")),
    )


def _part(raw: Raw, *path: str) -> Raw:
    """An object inside; empty where it is not there."""
    inside: Any = raw
    for name in path:
        inside = inside.get(name) if isinstance(inside, dict) else None
    return inside if isinstance(inside, dict) else {}


def _number(value: Any) -> float | None:
    """A figure; None where it is none."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _may_go(profile: KnownProfile) -> bool:
    return profile.is_operators and not profile.used_by and not profile.deleting


def _unused_seconds(profile: KnownProfile, now: datetime) -> float:
    """As the operator counts, and by its word only: without one nobody knows who uses it."""
    since = counted_from(profile.unused_since, profile.created)
    return -1.0 if since is None else (now - since).total_seconds()
