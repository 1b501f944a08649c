"""What helps a container that did not start, or that was ended, where the cluster's own word for it tells.

For replicas and for measurements alike. What an engine printed is not read here: the runtime has done that, or a person does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.engines.registry import engine_of

from slm_operator.manifests.engine import CONTAINER
from slm_operator.manifests.overlay import ROUTER_CONTAINER, RUNTIME_CONTAINER
from slm_operator.watch.records import NO_IMAGE

if TYPE_CHECKING:
    from slm_operator.api.parts import EngineSpec
    from slm_operator.watch.records import Cause, PodRecord

_NOT_CREATED = frozenset({"CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun"})
"""Words of kubelet and runtimes for a container that could not be made: NVIDIA's hook tells why in their message."""

_NO_CONFIG = "CreateContainerConfigError"

_NEEDS_PYTHON = (
    "a pack's supervisor needs python3 (3.11 or newer) with aiohttp in spec.engine.image, as the engine's own image has them, and a driver "
    "that is new enough for it; spec.sharing.partitioning: NodeSlices needs no Python"
)


_PULLED = "a Secret for its registry must be in this namespace, and named in"
_OF_IMAGES = {
    CONTAINER: f"check spec.engine.image, or config.defaults.engineImage of the operator; {_PULLED} spec.podTemplate or "
    "config.defaults.imagePullSecrets (a deployment takes a corrected default by kubectl slm upgrade)",
    RUNTIME_CONTAINER: "it is the operator's own image, or of a pack config.packs.supervisorImage where that is set: "
    f"{_PULLED} imagePullSecrets of its chart",
    ROUTER_CONTAINER: f"check config.packs.routerImage of the operator; {_PULLED} config.defaults.imagePullSecrets",
}
_OF_A_TEMPLATE = f"spec.podTemplate brings this container: check its image; {_PULLED} spec.podTemplate"
_ROUTERS = (
    "its image is config.packs.routerImage of the operator: HAProxy, 2.6 or newer. Packs take another one at once "
    "where none of the kind answers, else with the next change of their pod"
)


def remedy(pod: PodRecord, engine: EngineSpec | None) -> str | None:
    """What helps, where the cause is known."""
    for cause in (former_end(pod), pod.waiting):
        if cause is not None and cause.container == ROUTER_CONTAINER and cause.reason not in NO_IMAGE:
            return _ROUTERS
        if cause is not None and pod.engines > 1 and cause.reason in _NOT_CREATED:
            return _NEEDS_PYTHON
        found = _of(cause, engine) if cause is not None else None
        if found is not None:
            return found
    return None


def former_end(pod: PodRecord) -> Cause | None:
    """How the container that waits, or any where none does, has ended before."""
    ended, waits = pod.terminated, pod.stuck
    return ended if ended is None or waits is None or ended.container == waits.container else None


def more_of(pod: PodRecord, cause: Cause) -> str:
    """The command that shows more: what the container of a cause has said, or of one that never ran what its kubelet says.

    NB: without a name kubectl shows the log of the engine, whoever has ended.
    """
    if cause.reason in NO_IMAGE | _NOT_CREATED | {_NO_CONFIG}:
        return f"kubectl describe pod {pod.meta.key.name}"
    which = f" -c {cause.container}" if cause.container not in {"", CONTAINER} else ""
    return f"kubectl logs {pod.meta.key.name}{which} --previous"


def _of(cause: Cause, engine: EngineSpec | None) -> str | None:
    if cause.remedy:
        return cause.remedy
    if cause.reason in NO_IMAGE:
        return _OF_IMAGES.get(cause.container, _OF_A_TEMPLATE)
    if cause.reason == "OOMKilled":
        return "raise its memory in spec.podTemplate (resources of container engine)"
    if cause.reason == _NO_CONFIG:
        return (
            "are the Secrets of spec.model.credentialsSecretRef and spec.engine.apiKeySecretRef there, with their keys?"
        )
    if cause.reason in _NOT_CREATED:
        return engine_of(engine.command if engine is not None else None).explain(f"Error: {cause}").remedy
    return None
