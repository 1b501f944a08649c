"""A user's podTemplate merged over the operator's, as `kubectl apply` merges a change over a pod template.

Lists whose items have a name are merged by it (Kubernetes' patchMergeKey), and what is new follows the operator's; other
lists replace; null removes. A volume and a variable keep one source, the overlay's (retainKeys: Kubernetes has it for
volumes, and refuses a variable with two). One list differs on purpose: tolerations add up, because without the operator's
no pod would reach its node. Directives of patches (`$patch`) are none of this, and refused by name.

Fields that the operator owns are refused by name instead of being overwritten in silence. So are probes and hooks of the
engine, whose handlers would be two sources as well. Must never drop an item in silence: a name that stands twice is refused.
"""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING, Any

from slm_core.pack_pod import AGENT_PORT, FIRST_ENGINE_PORT, HTTP_PORT, ROUTER_METRICS_PORT, STATUS_PORT
from slm_core.sharing import sharing_of

from slm_operator.api import names
from slm_operator.api.kubernetes import TOLERATES_CHANGES, tolerates_changes
from slm_operator.api.parts import refused_variable
from slm_operator.manifests.engine import CONTAINER, ENGINE_UID, container_security, pod_security

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_core.measurements import SharingMode

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
_ONE_SOURCE = {"volumes": "name", "env": "name", "valueFrom": ""}
"""What holds one of several keys beside this one. Kubernetes API: retainKeys of volumes; validation of a variable."""
_TWICE = {"ports": "protocol", "topologySpreadConstraints": "whenUnsatisfiable"}
"""By what else items of one key may differ. Kubernetes API: listMapKey."""
_DIRECTIVES = ("$patch", "$retainKeys", "$setElementOrder/", "$deleteFromPrimitiveList/")
RUNTIME_CONTAINER = "runtime"
"""The init container of profile pods, which brings what measures. One of a user's would be merged into it."""
ROUTER_CONTAINER = "router"
"""The sidecar of a pack's pod that stands in front of its engines."""
PACK_PORTS = frozenset(
    {HTTP_PORT, STATUS_PORT, ROUTER_METRICS_PORT, AGENT_PORT, *range(FIRST_ENGINE_PORT, FIRST_ENGINE_PORT + 64)}
)
"""Ports of a pack's pod, which its containers share."""
_SANDBOXES = frozenset({"gvisor", "runsc"})
"""Runtime classes of gVisor; GKE Sandbox has the first."""
_PACK_VOLUMES = frozenset({RUNTIME_CONTAINER, ROUTER_CONTAINER})
_APPENDED = frozenset({"tolerations"})
_INSTEAD_OF_MPS = "or set spec.sharing.mode to Auto, TimeSlicing or Exclusive"
"""What else helps where MPS was asked for by name."""
SHARED_MEMORY = PurePosixPath("/dev/shm")  # noqa: S108 - in the pod

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
    where = "spec.podTemplate"
    wrong = (*_directives(overlay, where), *_misshapen(overlay, "podTemplate", where))
    return wrong or tuple(_owned(overlay, opt_in_label))


def _directives(value: Any, where: str) -> Iterator[str]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inside:
        if str(name).startswith(_DIRECTIVES):
            yield f"{where}: {name} is a directive of patches, and this is none: write what is to be there, and null to remove a field"
        yield from _directives(part, f"{where}[{name}]" if isinstance(name, int) else f"{where}.{name}")


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
        alike = Counter(tuple(str(item.get(name)) for name in (key, _TWICE.get(field)) if name) for item in value)
        yield from (
            f"{where} has {key} {name[0]} twice: keep one" for name, count in alike.items() if key and count > 1
        )
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
            if part == "initContainers" and container["name"] in {RUNTIME_CONTAINER, ROUTER_CONTAINER}:
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


def refused_for(
    overlay: dict[str, Any], mode: SharingMode | None, opt_in_label: str = names.OPT_IN_LABEL
) -> tuple[str, ...]:
    """Why engines that share a GPU in this way cannot have an overlay, as sentences. None: the way is not known yet."""
    fields = refused_fields(overlay, opt_in_label)
    if fields or mode is None or sharing_of(mode).daemon is None:
        return fields
    why = refused_under_mps(overlay)
    return () if why is None else (f"{why}; {_INSTEAD_OF_MPS}",)


def refused_in_a_pack(overlay: dict[str, Any]) -> tuple[str, ...]:
    """Why a pod that runs a whole pack cannot have an overlay whose fields are not refused, as sentences."""
    return tuple(_in_a_pack(overlay.get("spec") or {}))


def _in_a_pack(spec: dict[str, Any]) -> Iterator[str]:
    where = "spec.podTemplate.spec"
    if spec.get("runtimeClassName") in _SANDBOXES:
        yield (
            f"{where}.runtimeClassName: nobody has seen engines share a GPU in a sandbox ({spec['runtimeClassName']}): leave it out, or "
            "set spec.sharing.enginesPerGpu to 1"
        )
    if spec.get("hostNetwork"):
        yield f"{where}.hostNetwork: two packs on a node would want the same ports: leave it out"
    for part in ("containers", "initContainers"):
        for container in spec.get(part) or ():
            named = f"{where}.{part}[name={container['name']}]"
            if container["name"] in {ROUTER_CONTAINER, RUNTIME_CONTAINER} or (
                part == "initContainers" and container["name"] == CONTAINER
            ):
                yield f"{named} is the operator's: give your container another name"
            for port in container.get("ports") or ():
                if port["containerPort"] in PACK_PORTS:
                    yield f"{named}.ports: {port['containerPort']} is the pack's: listen on another"
    for volume in spec.get("volumes") or ():
        if volume["name"] in _PACK_VOLUMES:
            yield f"{where}.volumes[name={volume['name']}] is the operator's: give your volume another name"


def refused_under_mps(overlay: dict[str, Any]) -> str | None:
    """Why engines with an overlay, whose fields are not refused, may not share a GPU by MPS; None when they may.

    NB: an engine that MPS does not reach runs beside the others without it, or waits for ever, and neither says a word.
    """
    own = {"name": CONTAINER, "securityContext": container_security()}
    pod = merge({"securityContext": pod_security(), "containers": [own]}, overlay.get("spec", {}))
    (engine,) = (one for one in pod["containers"] if one["name"] == CONTAINER)
    return "; ".join((*_own_shared_memory(engine), *_other_user(engine, pod))) or None


def _own_shared_memory(engine: dict[str, Any]) -> Iterator[str]:
    """NB: the device plugin mounts the MPS daemon's /dev/shm into the engine's container (docs/concepts/gpu-sharing.md, 13)."""
    for mount in engine.get("volumeMounts") or ():
        path = PurePosixPath(normpath("/" + str(mount["mountPath"]).strip("/")))
        if SHARED_MEMORY.is_relative_to(path):
            yield (
                f"spec.podTemplate: the engine would mount a volume of its own at {mount['mountPath']}, which hides that of the MPS "
                "daemon: leave the mount out, for MPS brings its own"
            )


def _other_user(engine: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    """NB: an MPS server serves one user at a time (docs/concepts/gpu-sharing.md, 14).

    Another user's engine would wait until all others on the node have ended, and a roll from one to another for itself.
    """
    contexts = (one.get("securityContext") for one in (engine, pod))
    asked = (one["runAsUser"] for one in contexts if isinstance(one, dict) and one.get("runAsUser") is not None)
    user = next(asked, "whom the image names")
    if user != ENGINE_UID:
        yield (
            f"spec.podTemplate: the engine would run as user {user}, and engines that share a GPU by MPS must all run as user "
            f"{ENGINE_UID}, for MPS serves one user at a time: leave runAsUser out"
        )


def merge(base: Any, over: Any, field: str = "") -> Any:
    """`over` merged onto `base`. Neither is changed."""
    if isinstance(base, dict) and isinstance(over, dict):
        kept = {name: value for name, value in base.items() if name not in over and _stays(name, over, field)}
        return kept | {name: merge(base.get(name), value, name) for name, value in over.items() if value is not None}
    if isinstance(base, list) and isinstance(over, list):
        if field in _APPENDED:
            return base + [item for item in over if item not in base]
        if field in _MERGE_KEYS:
            return _merge_named(base, over, field)
    return over


def _stays(name: str, over: dict[str, Any], field: str) -> bool:
    """Whether a key of the base stays beside those of the overlay: not a second source."""
    key = _ONE_SOURCE.get(field)
    return key is None or name == key or not any(over[one] is not None for one in over if one != key)


def _merge_named(base: list[Any], over: list[Any], field: str) -> list[Any]:
    """NB: no two of the base's share a key; of the overlay's that do, as a port's two protocols, only the first is the base's."""
    key, merged, new = _MERGE_KEYS[field], list(base), []
    free = {item.get(key): at for at, item in enumerate(base)}
    for item in over:
        at = free.pop(item.get(key), None)
        if at is None:
            new.append(item)
        else:
            merged[at] = merge(base[at], item, field)
    return merged + new
