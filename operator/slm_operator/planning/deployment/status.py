"""The status of a deployment, from what a pass over it found.

Must never find anything itself: whoever adds a step to the plan adds its finding there, and its condition to the steps here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.api.conditions import conditions, waiting
from slm_operator.api.names import Choice, Condition
from slm_operator.manifests.metadata import child_name, selector_labels
from slm_operator.manifests.replicas import advice_digest
from slm_operator.partitioning import partitioning_of
from slm_operator.planning.deployment.advising import DecidedFrom, advice_status, serving_of
from slm_operator.planning.deployment.gateway import routing_status
from slm_operator.planning.deployment.going_on import served_status
from slm_operator.planning.deployment.gpu_spread import packs
from slm_operator.planning.deployment.load import load_status
from slm_operator.planning.deployment.packs import engines_per_pod
from slm_operator.planning.deployment.replaced import as_fast_as_before, replaced_status

if TYPE_CHECKING:
    from datetime import datetime

    from slm_operator.api.conditions import Finding
    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.planning.deployment.story import Story
    from slm_operator.planning.views import DeploymentView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import ProfileRecord

_PHASES = {
    Condition.PROFILED: "Profiling",
    Condition.ADVISED: "Advising",
    Condition.ALLOCATED: "Placing",
    Condition.AVAILABLE: "Starting",
    Condition.ROUTED: "Starting",
}


def deployment_status(
    view: DeploymentView, story: Story, monitored: Finding | None, settings: Settings, now: datetime
) -> dict[str, Any]:
    """What was found, in the fields of `SLMDeploymentStatus`. What does not apply is left out."""
    record = view.deployment
    meta, old = record.meta, record.status
    advice = _advice(view, story, now)
    compared = as_fast_as_before(advice.get("replaced"), advice["profileRef"]["name"]) if advice else None
    also = tuple(one for one in (monitored, compared) if one is not None)
    # What the pods of packs run beyond one engine each: the Deployment counts pods.
    beyond = sum(pod.engines - 1 for pod in view.pods if not pod.meta.deleting)
    beyond_ready = sum(view.serving_in(pod) - 1 for pod in view.pods if pod.ready and not pod.meta.deleting)
    status: dict[str, Any] = {
        "observedGeneration": meta.generation,
        "phase": _phase(record.spec, story.blocking),
        "conditions": conditions(
            story.findings,
            old.get("conditions", ()),
            meta.generation,
            now,
            (*also, *waiting((*story.findings, *also), _steps(view, settings))),
            ready=story.ready,
        ),
        "selector": ",".join(f"{name}={value}" for name, value in selector_labels(meta.key).items()),
        "url": f"http://{child_name(meta.key)}.{meta.key.namespace}.svc/v1",
        "replicas": view.workload.existing + beyond if view.workload is not None else 0,
        "readyReplicas": max(0, view.workload.ready + beyond_ready) if view.workload is not None else 0,
    }
    found = packs(view.pods, view.serving)
    more = {
        "profile": _profile(view.profile, meta.key.namespace) if view.profile is not None else None,
        "advice": advice,
        "load": load_status(view.slo_verdict, old.get("load"), now) if settings.watch.interval_seconds else None,
        "sharing": _sharing(view, story),
        "packs": found,
        "packCount": len(found),
        "defaults": record.defaults.given() if record.defaults is not None else None,
        "routing": routing_status(record, story.actions, settings),
    }
    return status | {name: value for name, value in more.items() if value}


def _phase(spec: SLMDeploymentSpec | None, blocking: Finding | None) -> str:
    if blocking is not None and blocking.stalls:
        return "Stalled"
    if spec is not None and spec.paused:
        return "Paused"
    return "Ready" if blocking is None else _PHASES[blocking.type]


def _profile(profile: ProfileRecord, namespace: str) -> dict[str, str]:
    key = profile.meta.key
    seen = {
        "name": key.name,
        "namespace": key.namespace if key.namespace != namespace else None,
        "phase": profile.status.get("phase"),
        "progress": profile.status.get("summary"),
        "product": profile.measurements.gpu.product if profile.measurements is not None else None,
    }
    return {name: value for name, value in seen.items() if value is not None}


def _sharing(view: DeploymentView, story: Story) -> dict[str, Any] | None:
    """Who divides the GPU, and why. What goes on keeps what was said of it."""
    former: dict[str, Any] = view.deployment.status.get("sharing") or {}
    answer = view.assignment
    if story.served is not None or answer is None or answer.slice_class is None:
        return former or None
    if answer.chosen is None or answer.slice_class.is_whole:
        return None
    name, chosen = partitioning_of(answer.slice_class).name, answer.chosen
    sharing = {"partitioning": name, "reason": str(chosen.reason), "message": chosen.because}
    if chosen.reason is Choice.AS_BEFORE and former.get("partitioning") == name:  # why it was chosen first tells more
        sharing = {field: former[field] for field in sharing}
    in_packs = view.workload is not None and engines_per_pod(view.workload) > 1
    return sharing | ({"pods": view.workload.existing} if view.workload is not None and in_packs else {})


def _advice(view: DeploymentView, story: Story, now: datetime) -> dict[str, Any] | None:
    record, profile, advice = view.deployment, view.profile, story.advice
    if story.served is not None:
        return served_status(story.served, dict(record.status.get("advice") or {}))
    if advice is None or record.spec is None or profile is None or profile.measurements is None:
        return None
    basis = DecidedFrom(
        profile=profile.meta.key.name,
        generation=record.meta.generation,
        digest=advice_digest(serving_of(record.spec.engine, advice, profile.measurements)),
        former=record.status.get("advice") or {},
    )
    replaced = replaced_status(view, advice)
    return advice_status(advice, basis, now) | ({"replaced": replaced} if replaced else {})


def _steps(view: DeploymentView, settings: Settings) -> tuple[Condition, ...]:
    """The conditions that this deployment has from its first status on."""
    routed = view.deployment.spec is not None and view.deployment.spec.routing is not None
    return (
        Condition.PROFILED,
        Condition.ADVISED,
        Condition.ALLOCATED,
        Condition.AVAILABLE,
        *([Condition.ROUTED] if routed else []),
        *([Condition.SLO_MET] if settings.watch.interval_seconds else []),
    )
