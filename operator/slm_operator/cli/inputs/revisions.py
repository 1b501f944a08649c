"""The revisions of a deployment, from the ReplicaSets that Kubernetes keeps, and the way back to one of them: pure.

A revision is a pod template that ran: its arguments are what the advice made of them, its annotations say which profile
the advice rested on. The way back is to have the same advice given again: by naming that profile in spec. Must never
promise a way back that would bring other arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_core.engines.registry import engine_of

from slm_operator.api import names
from slm_operator.manifests.engine import CONTAINER, serving_args
from slm_operator.partitioning import discovery
from slm_operator.partitioning.base import UNSHARED, class_of_label
from slm_operator.planning.deployment.advising import Unadvisable, advise_deployment, serving_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slm_core.measurements import MeasurementDocument

    from slm_operator.api.deployment import SLMDeploymentSpec

REVISION_ANNOTATION = "deployment.kubernetes.io/revision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One pod template that runs or ran."""

    number: int
    created: str
    """RFC 3339."""
    advice: str
    """Digest of the advice, as on the pods."""
    profile: str
    """SLMProfile that it rests on. Empty: not known."""
    engines_per_gpu: int
    sharing_mode: str
    batch_size: int | None
    kv_bytes: int | None
    replicas: int
    """Pods that exist of it now."""
    ready: int
    image: str
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WayBack:
    """What brings a revision back, or why nothing here does."""

    profile: str = ""
    """Value for spec.profiling.profileRef."""
    refused: str = ""
    """Why there is none, and what to do instead. Empty: there is one."""


def revisions(replica_sets: Iterable[Mapping[str, Any]]) -> tuple[Revision, ...]:
    """Every revision, newest first."""
    found = (_revision(raw) for raw in replica_sets)
    return tuple(sorted((one for one in found if one is not None), key=lambda one: -one.number))


def way_back(
    spec: SLMDeploymentSpec, served_name: str, now: Revision, to: Revision, document: MeasurementDocument | None
) -> WayBack:
    """How to have `to` again instead of `now`. `document` is what its profile holds; None: it is gone or holds nothing."""
    if (to.args, to.image) == (now.args, now.image):
        return WayBack(
            refused=f"revision {to.number} ran with the same advice as now: what has changed since is another part of "
            "spec (podTemplate, accelerator, env); put the former spec back"
        )
    if not to.profile:
        return WayBack(refused=f"revision {to.number} does not say which profile it rests on: put the former spec back")
    if document is None:
        return WayBack(
            refused=f"SLMProfile {to.profile}, on which revision {to.number} rests, holds no measurements any more: "
            "import it from where it was exported to"
        )
    advice = advise_deployment(spec, document)
    if isinstance(advice, Unadvisable):
        return WayBack(refused=f"SLMProfile {to.profile} gives no advice: {advice.because}")
    serving = serving_of(spec.engine, advice, document)
    args = tuple(serving_args(spec.model, spec.engine, served_name, serving))
    differing = _differing(args, to.args)
    of_image = ""
    if spec.engine.image != to.image:  # which may have been the operator's default, and stand in no spec
        differing = (f"image {to.image} (now {spec.engine.image})", *differing)
        of_image = ", with that image in spec.engine.image"
    if differing:
        return WayBack(
            refused=f"SLMProfile {to.profile} would not bring revision {to.number} back, because spec has changed since: "
            f"it ran with {', '.join(differing)}; put the former spec back{of_image}"
        )
    return WayBack(profile=to.profile)


def _differing(now: Sequence[str], then: Sequence[str]) -> tuple[str, ...]:
    """Arguments of then that are others now, as a person reads them."""
    if tuple(now) == tuple(then):
        return ()
    was, would = _flags(then), _flags(now)
    changed = tuple(
        f"{flag} {value}".strip() + (f" (now {would[flag]})" if flag in would else " (now absent)")
        for flag, value in was.items()
        if would.get(flag) != value
    )
    added = tuple(f"no {flag}" for flag in would if flag and flag not in was)
    return (*changed, *added) or ("the same arguments in another order",)


def _flags(args: Sequence[str]) -> dict[str, str]:
    """Flags with their values; one without a value has an empty one. Words before the first have no flag."""
    found: dict[str, str] = {}
    flag = ""
    for word in args:
        if word.startswith("--"):
            flag, _, value = word.partition("=")
            found[flag] = value
        else:
            found[flag] = f"{found.get(flag, '')} {word}".strip()
    return found


def _revision(raw: Mapping[str, Any]) -> Revision | None:
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    annotations = meta.get("annotations") or {}
    number = annotations.get(REVISION_ANNOTATION) or ""
    template = spec.get("template") or {}
    pod = template.get("spec") or {}
    engine = next((one for one in pod.get("containers") or () if one.get("name") == CONTAINER), None)
    if discovery.number(number) == 0 or engine is None:
        return None
    args = tuple(map(str, engine.get("args") or ()))
    given = engine_of(engine.get("command")).read_arguments(args)
    slices = class_of_label((pod.get("nodeSelector") or {}).get(names.CLASS_LABEL)) or UNSHARED
    return Revision(
        number=discovery.number(number),
        created=meta.get("creationTimestamp") or "",
        advice=((template.get("metadata") or {}).get("annotations") or {}).get(names.ADVICE_ANNOTATION) or "",
        profile=annotations.get(names.PROFILE_LABEL) or "",
        engines_per_gpu=slices.engines_per_gpu,
        sharing_mode=str(slices.mode),
        batch_size=given.batch_size,
        kv_bytes=given.kv_bytes,
        replicas=status.get("replicas") or 0,
        ready=status.get("readyReplicas") or 0,
        image=str(engine.get("image") or ""),
        args=args,
    )
