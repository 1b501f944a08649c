"""A user's podTemplate merged over the operator's, by the rules of strategic merge.

Lists whose items have a name are merged by it (Kubernetes' patchMergeKey); other lists replace; null removes. Fields
that the operator owns are refused by name instead of being overwritten in silence.
"""

from __future__ import annotations

from typing import Any

from slm_operator.api import names
from slm_operator.manifests.engine import CONTAINER

# Kubernetes API, core/v1 types.go: patchMergeKey of each list in a pod.
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
_APPENDED = frozenset({"tolerations"})

_OWNED_IN_ENGINE = {
    "image": "spec.engine.image",
    "command": "spec.engine.command",
    "args": "spec.engine.args",
    "ports": "the operator",
    "startupProbe": "the operator",
    "readinessProbe": "the operator",
    "livenessProbe": "the operator",
    "lifecycle": "the operator",
}
_OWNED_IN_POD = {
    "restartPolicy": "the operator",
    "terminationGracePeriodSeconds": "the operator",
}


def refused_fields(overlay: dict[str, Any]) -> tuple[str, ...]:
    """Sentences that name each field of the overlay which the operator owns, and what replaces it."""
    spec = overlay.get("spec") or {}
    if not isinstance(spec, dict):
        return ("spec.podTemplate.spec is not an object",)
    found = [f"spec.podTemplate.spec.{name} is set by {by}" for name, by in _OWNED_IN_POD.items() if name in spec]
    for container in spec.get("containers") or []:
        if not isinstance(container, dict) or "name" not in container:
            return ("every item of spec.podTemplate.spec.containers needs a name",)
        if container["name"] != CONTAINER:
            continue
        where = f"spec.podTemplate.spec.containers[name={CONTAINER}]"
        found += [f"{where}.{name} is set by {by}" for name, by in _OWNED_IN_ENGINE.items() if name in container]
        asked = {name for part in ("requests", "limits") for name in (container.get("resources") or {}).get(part) or {}}
        found += [
            f"{where}.resources: {name} is set by the operator"
            for name in sorted(asked)
            if name.startswith("nvidia.com/")
        ]
    labels = (overlay.get("metadata") or {}).get("labels") or {}
    found += [
        f"spec.podTemplate.metadata.labels: {name} is the operator's" for name in labels if name.startswith(names.GROUP)
    ]
    return tuple(found)


def merge(base: Any, over: Any, field: str = "") -> Any:
    """`over` merged onto `base`. Neither is changed."""
    if isinstance(base, dict) and isinstance(over, dict):
        merged = {name: merge(base.get(name), value, name) for name, value in over.items() if value is not None}
        return {name: value for name, value in base.items() if name not in over} | merged
    if isinstance(base, list) and isinstance(over, list):
        if field in _APPENDED:
            return base + [item for item in over if item not in base]
        if field in _MERGE_KEYS:
            return _merge_named(base, over, _MERGE_KEYS[field])
    return over


def _merge_named(base: list[Any], over: list[Any], key: str) -> list[Any]:
    theirs = {item.get(key): item for item in over if isinstance(item, dict)}
    kept = [merge(item, theirs.pop(item.get(key))) if item.get(key) in theirs else item for item in base]
    return kept + list(theirs.values())
