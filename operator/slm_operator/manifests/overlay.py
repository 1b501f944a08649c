"""A user's podTemplate merged over the operator's, by the rules of strategic merge.

Lists whose items have a name are merged by it (Kubernetes' patchMergeKey); other lists replace; null removes. Fields
that the operator owns are refused by name instead of being overwritten in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.api.kubernetes import TOLERATES_CHANGES, tolerates_changes
from slm_operator.api.parts import refused_variable
from slm_operator.manifests.engine import CONTAINER, ENGINE_UID, container_security, pod_security

if TYPE_CHECKING:
    from collections.abc import Iterator

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
RUNTIME_CONTAINER = "runtime"
"""The init container of profile pods, which brings what measures. One of a user's would be merged into it."""
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
    "activeDeadlineSeconds": "the operator",
}


_PARTS = {
    "podTemplate": ("metadata", "spec"),
    "metadata": ("labels", "annotations"),
    "spec": ("nodeSelector", "tolerations", *_MERGE_KEYS),
    "containers": ("env", "volumeMounts", "ports", "resources"),
    "initContainers": ("env", "volumeMounts", "ports", "resources"),
    "resources": ("limits", "requests"),
}
"""What is looked into below each field, so that its shape matters here. The rest is the API server's to check."""
_NEEDED = frozenset({"metadata", "spec", "containers", "nodeSelector"})
"""Fields that null would remove, and the replica with them."""


def refused_fields(overlay: dict[str, Any], opt_in_label: str = names.OPT_IN_LABEL) -> tuple[str, ...]:
    """Sentences that name each field of the overlay which is misshapen or the operator's, and what replaces it."""
    return tuple(_misshapen(overlay, "podTemplate", "spec.podTemplate")) or tuple(_owned(overlay, opt_in_label))


def _misshapen(value: Any, field: str, where: str) -> Iterator[str]:
    if value is None:
        if field in _NEEDED:
            yield f"{where} cannot be removed"
    elif field in _MERGE_KEYS or field in _APPENDED:
        yield from _misshapen_list(value, field, where)
    elif not isinstance(value, dict):
        yield f"{where} is not an object"
    else:
        for part in _PARTS.get(field, ()):
            if part in value:
                yield from _misshapen(value[part], part, f"{where}.{part}")


def _misshapen_list(value: Any, field: str, where: str) -> Iterator[str]:
    key = _MERGE_KEYS.get(field)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        yield f"{where} is not a list of objects"
    elif key is not None and not all(isinstance(item.get(key), str | int) for item in value):
        yield f"every item of {where} needs a {key}"
    else:
        for number, item in enumerate(value):
            for part in _PARTS.get(field, ()):
                if part in item:
                    yield from _misshapen(item[part], part, f"{where}[{number}].{part}")


def _owned(overlay: dict[str, Any], opt_in_label: str) -> Iterator[str]:
    spec: dict[str, Any] = overlay.get("spec", {})
    yield from (f"spec.podTemplate.spec.{name} is set by {by}" for name, by in _OWNED_IN_POD.items() if name in spec)
    for number, toleration in enumerate(spec.get("tolerations") or ()):
        yield from _hold_a_change_up(toleration, f"spec.podTemplate.spec.tolerations[{number}]")
    metadata = overlay.get("metadata", {})
    if "finalizers" in metadata:
        yield "spec.podTemplate.metadata.finalizers would keep replicas that have ended: remove it"
    for part in ("containers", "initContainers"):
        for container in spec.get(part) or ():
            where = f"spec.podTemplate.spec.{part}[name={container['name']}]"
            if part == "containers" and container["name"] == CONTAINER:
                yield from _owned_in_engine(container, where)
            if part == "initContainers" and container["name"] == RUNTIME_CONTAINER:
                yield f"{where} is the operator's: give your container another name"
            yield from _owned_in_any(container, where)
    for place, names_there in (
        ("metadata.labels", metadata.get("labels")),
        ("metadata.annotations", metadata.get("annotations")),
        ("spec.nodeSelector", spec.get("nodeSelector")),
    ):
        for name in names_there or ():
            if name.startswith(f"{names.GROUP}/") or (place == "spec.nodeSelector" and name == opt_in_label):
                yield f"spec.podTemplate.{place}: {name} is the operator's"


def _hold_a_change_up(toleration: dict[str, Any], where: str) -> Iterator[str]:
    if tolerates_changes(toleration):
        yield f"{where}: {TOLERATES_CHANGES}"


def _owned_in_engine(container: dict[str, Any], where: str) -> Iterator[str]:
    yield from (f"{where}.{name} is set by {by}" for name, by in _OWNED_IN_ENGINE.items() if name in container)


def _owned_in_any(container: dict[str, Any], where: str) -> Iterator[str]:
    """GPUs, of every container: placement counts one slice a pod, and who sees more of a GPU takes it from the other pods there."""
    for variable in container.get("env") or ():
        why = refused_variable(str(variable["name"]))
        if why is not None:
            yield f"{where}.env: {variable['name']}: {why}"
    resources = container.get("resources") or {}
    asked = {name for part in ("requests", "limits") for name in resources.get(part) or ()}
    for name in sorted(asked):
        if name.startswith("nvidia.com/"):
            yield f"{where}.resources: {name} is set by the operator"


def refused_user(overlay: dict[str, Any]) -> str | None:
    """Why engines with an overlay, whose fields are not refused, may not share a GPU by MPS; None when they may.

    NB: an MPS server serves one user at a time (docs/gpu-sharing.md, 14). Another user's engine would wait, without a word,
    until all others on the node have ended, and a roll from one user to another would wait for itself.
    """
    own = {"name": CONTAINER, "securityContext": container_security()}
    pod = merge({"securityContext": pod_security(), "containers": [own]}, overlay.get("spec", {}))
    (engine,) = (one for one in pod["containers"] if one["name"] == CONTAINER)
    contexts = (one.get("securityContext") for one in (engine, pod))
    asked = (one["runAsUser"] for one in contexts if isinstance(one, dict) and one.get("runAsUser") is not None)
    user = next(asked, "whom the image names")
    if user == ENGINE_UID:
        return None
    return (
        f"spec.podTemplate: the engine would run as user {user}, and engines that share a GPU by MPS must all run as user "
        f"{ENGINE_UID}, for MPS serves one user at a time: leave runAsUser out, or set spec.sharing.mode to TimeSlicing or Exclusive"
    )


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
    theirs = {item.get(key): item for item in over}
    kept = [merge(item, theirs.pop(item.get(key))) if item.get(key) in theirs else item for item in base]
    return kept + list(theirs.values())
