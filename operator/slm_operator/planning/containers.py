"""What helps a container that did not start, or that was ended, where the cluster's own word for it tells.

For replicas and for measurements alike. What an engine printed is not read here: the runtime has done that, or a person does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.engines.registry import engine_of

if TYPE_CHECKING:
    from slm_operator.api.parts import EngineSpec
    from slm_operator.watch.records import Cause, PodRecord

_NOT_CREATED = frozenset({"CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun"})
"""Words of kubelet and runtimes for a container that could not be made: NVIDIA's hook tells why in their message."""


_NEEDS_PYTHON = (
    "a pack's supervisor needs python3 (3.11 or newer) with aiohttp in spec.engine.image, as the engine's own image has them, and a driver "
    "that is new enough for it; spec.sharing.partitioning: NodeSlices needs no Python"
)


def remedy(pod: PodRecord, engine: EngineSpec | None) -> str | None:
    """What helps, where the cause is known."""
    for cause in (pod.terminated, pod.waiting):
        if cause is not None and pod.engines > 1 and cause.reason in _NOT_CREATED:
            return _NEEDS_PYTHON
        found = _of(cause, engine) if cause is not None else None
        if found is not None:
            return found
    return None


def _of(cause: Cause, engine: EngineSpec | None) -> str | None:
    if cause.remedy:
        return cause.remedy
    if cause.reason == "OOMKilled":
        return "raise its memory in spec.podTemplate (resources of container engine)"
    if cause.reason == "CreateContainerConfigError":
        return "is spec.model.credentialsSecretRef there, with the keys that its scheme needs?"
    if cause.reason in _NOT_CREATED:
        return engine_of(engine.command if engine is not None else None).explain(f"Error: {cause}").remedy
    return None
