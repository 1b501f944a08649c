"""One SLMDeployment: from its spec to running replicas, as far as the world allows at this moment.

    spec readable -> profile there -> advice -> slices ready -> replicas available

Replicas are made with the advice, and wait as pods: nodes are partitioned for pods that exist (claims.py).
Each step answers with a finding; the first that does not hold is what the deployment waits for, and says so. Nothing is
undone because a later step fails: running replicas go on while a new profile is measured or slices are missing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_core.engines.registry import engine_of
from slm_core.sharing import asked_mode
from slm_core.wording import several

from slm_operator.api import names
from slm_operator.api.conditions import Finding, condition
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.manifests.overlay import refused_for, refused_in_a_pack
from slm_operator.manifests.profile import profile, profile_name
from slm_operator.manifests.served import read_served
from slm_operator.planning.actions import Apply, Plan
from slm_operator.planning.deployment.advising import Unadvisable, without_flags
from slm_operator.planning.deployment.availability import availability
from slm_operator.planning.deployment.evidence import profile_title, thin_evidence
from slm_operator.planning.deployment.gateway import ROUTING_KINDS, gateway_actions, routed_finding
from slm_operator.planning.deployment.going_on import go_on, pause
from slm_operator.planning.deployment.own_replicas import own_replicas
from slm_operator.planning.deployment.packs import ANNOUNCED_SECONDS, is_news, is_pack
from slm_operator.planning.deployment.remeasure import remeasured
from slm_operator.planning.deployment.rollout import answer_to, rollout, slices_finding
from slm_operator.planning.deployment.status import deployment_status
from slm_operator.planning.deployment.story import Story
from slm_operator.planning.fleet.demand import binding_for, slice_class_of, wanted_replicas
from slm_operator.planning.fleet.product import said_of
from slm_operator.planning.status.events import transition_events
from slm_operator.planning.status.write import write_status
from slm_operator.slo.monitor import slo_finding

if TYPE_CHECKING:
    from datetime import datetime

    from slm_operator.advisor.advice import Advice
    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.partitioning.base import SliceClass
    from slm_operator.planning.views import Assignment, DeploymentView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import ProfileRecord


def plan_deployment(view: DeploymentView, settings: Settings, now: datetime) -> Plan:
    """The next step of one deployment. A deleted one needs none: owner references and the fleet plan clean up."""
    record = view.deployment
    if record.meta.deleting:
        return Plan()
    story = _story(view, settings)
    if record.spec is not None and record.spec.paused:
        story = pause(view, story, settings)
    elif not _is_followed(story):
        story = go_on(view, story, settings)
    monitored = (
        slo_finding(view.slo_verdict, condition(record.status, Condition.SLO_MET))
        if settings.watch.interval_seconds
        else None
    )
    status = deployment_status(view, story, monitored, settings, now)
    because = f"{status['phase']}: {status['conditions'][0]['message']}"
    write = write_status(names.DEPLOYMENT_KIND, record.meta, status, because)
    events = transition_events(names.DEPLOYMENT_KIND, record.meta, record.status, write.status)
    mine = own_replicas(view, story.advice)
    actions = (*story.actions, *remeasured(view, now), *mine, write, *events)
    return Plan(actions=actions, look_again_seconds=ANNOUNCED_SECONDS if is_news(view, story.findings) else None)


def _story(view: DeploymentView, settings: Settings) -> Story:
    spec = view.deployment.spec
    if spec is None:
        return _stalled(Condition.PROFILED, Reason.INVALID_SPEC, view.deployment.broken or "spec cannot be read")
    # Before GPU time is spent on it. NB: where the mode is left to the advice, that takes none which a template rules out.
    if refused := refused_for(spec.pod_template or {}, asked_mode(spec.sharing.mode), settings.nodes.opt_in_label):
        return _stalled(Condition.AVAILABLE, Reason.INVALID_POD_TEMPLATE, "; ".join(refused))
    if spec.engine.api_key_secret_ref is not None and engine_of(spec.engine.command).key_variable is None:
        no_key = (
            "spec.engine.apiKeySecretRef: this engine asks nobody for a key: check keys at a gateway, and leave it out"
        )
        return _stalled(Condition.AVAILABLE, Reason.INVALID_SPEC, no_key)
    story = _profiled(view, spec)
    if view.advice is None or not story.holds:
        return story
    story = _advised(view, spec, story, view.advice)
    if story.advice is None or not story.holds:
        return story
    return _served(view, spec, story, story.advice, settings)


def _is_followed(story: Story) -> bool:
    """Whether the plan has come as far as to replicas of this spec."""
    return any(finding.type is Condition.ALLOCATED for finding in story.findings)


def _profiled(view: DeploymentView, spec: SLMDeploymentSpec) -> Story:
    found, named = view.profile, spec.profiling.profile_name
    if found is None and named is not None:
        return _stalled(
            Condition.PROFILED,
            Reason.PROFILE_NOT_FOUND,
            f"SLMProfile {named} does not exist in this namespace: import it, or remove spec.profiling.profileRef",
        )
    if found is None and spec.profiling.policy == "Never":
        return _stalled(
            Condition.PROFILED,
            Reason.PROFILE_MISSING,
            "no profile of this model, engine, GPU and workload exists and spec.profiling.policy is Never: "
            "import one with kubectl slm profile import, or set the policy to IfMissing",
        )
    if found is None and view.namesake is not None:
        return _stalled(Condition.PROFILED, Reason.PROFILE_MISSING, _taken(view.namesake))
    if found is None and spec.paused:
        paused = Finding(
            type=Condition.PROFILED, holds=False, reason=Reason.PAUSED, message="spec.paused: nothing is measured"
        )
        return Story().and_then(paused)
    if found is None:
        wanted = profile(view.deployment, spec)
        reason, doing = Reason.PROFILE_REQUESTED, f"SLMProfile {profile_name(spec)} is being created"
        if view.refusal is not None and view.refusal.kind == names.PROFILE_KIND:
            reason, doing = Reason.REFUSED, f"the API server refuses its SLMProfile: {view.refusal.because}"
        return Story().and_then(
            Finding(type=Condition.PROFILED, holds=False, reason=reason, message=doing),
            Apply(manifest=wanted, because="no profile of this model, engine, GPU and workload exists yet"),
        )
    return Story().and_then(_profile_finding(view, found))


def _taken(namesake: ProfileRecord) -> str:
    """NB: what a person changes in a profile's podTemplate may make it a profile of something else."""
    name = namesake.meta.key.name
    other = "its model, engine, GPU, lengths, or what its podTemplate sets of the engine (CPU, memory, variables) is another"
    return (
        f"SLMProfile {name} has the name of the one that is needed, and cannot be used: {namesake.broken or other}. "
        f"Set the same in spec here, or delete it: kubectl delete slmp {name}"
    )


def _profile_finding(view: DeploymentView, found: ProfileRecord) -> Finding:
    named = profile_title(found.meta.key, view.deployment.meta.key.namespace)
    if found.broken is not None:
        return Finding(
            type=Condition.PROFILED,
            holds=False,
            reason=Reason.INVALID_PROFILE,
            message=f"{named}: {found.broken}",
            stalls=True,
        )
    own, stalled = (condition(found.status, kind) for kind in (Condition.PROFILED, Condition.STALLED))
    holds = found.imported or (own is not None and own.get("status") == "True")
    reason = (
        Reason.IMPORTED if found.imported else str(own.get("reason", Reason.PROFILING)) if own else Reason.PROFILING
    )
    text = (
        "its measurements were imported"
        if found.imported
        else str(own.get("message", ""))
        if own
        else "measuring has not begun"
    )
    if holds and not found.imported and found.meta.key.namespace != view.deployment.meta.key.namespace:
        # NB: what a library waits for to be extended is for its own namespace, and changes with each of its points.
        reason = Reason.MEASURED if reason == Reason.EXTENDING else reason
        text = f"{several(len(found.measurements.points) if found.measurements is not None else 0, 'point')} measured"
    stalls = not holds and stalled is not None and stalled.get("status") == "True"
    return Finding(
        type=Condition.PROFILED,
        holds=holds,
        reason=reason,
        message=f"{named}: {text}",
        stalls=stalls,
    )


def _advised(view: DeploymentView, spec: SLMDeploymentSpec, story: Story, advice: Advice | Unadvisable) -> Story:
    if isinstance(advice, Unadvisable):
        return story.and_then(
            Finding(type=Condition.ADVISED, holds=False, reason=advice.reason, message=advice.because, stalls=True)
        )
    said = advice.sentences[0] if advice.sentences else "decided"
    if view.profile is not None and view.profile.measurements is not None:
        said += without_flags(spec.engine, view.profile.measurements) + thin_evidence(view, spec)
    if advice.feasible:
        return story.and_then(
            Finding(type=Condition.ADVISED, holds=True, reason=Reason.ADVISED, message=said), advice=advice
        )
    if spec.slo.on_infeasible == "Hold":
        changed = "deployed" if view.workload is None else "changed"
        message = f"{said} Nothing is {changed}, because spec.slo.onInfeasible is Hold."
        return story.and_then(
            Finding(type=Condition.ADVISED, holds=False, reason=Reason.SLO_INFEASIBLE, message=message, stalls=True),
            advice=advice,
        )
    return story.and_then(
        Finding(type=Condition.ADVISED, holds=True, reason=Reason.SLO_INFEASIBLE, message=said), advice=advice
    )


def _served(
    view: DeploymentView,
    spec: SLMDeploymentSpec,
    story: Story,
    advice: Advice,
    settings: Settings,
) -> Story:
    assert view.profile is not None
    assert view.profile.measurements is not None
    wanted, measured = wanted_replicas(spec, advice), view.profile.measurements
    binding = binding_for(spec, advice, measured, read_served(view.workload.served if view.workload else None))
    assignment = answer_to(view, spec, advice, binding)
    if wrong := _refused_in_one_pod(spec, advice, assignment):
        return story.and_then(wrong)
    story = story.and_then(slices_finding(view, assignment, said_of(binding, spec, measured)))
    refused = _refused(view)
    if assignment is None and view.workload is None:
        return story if refused is None else story.and_then(refused)
    rolled = rollout(view, spec, advice, (binding, assignment), settings)
    story = story.and_then(
        refused or availability(view, wanted, _class_given(advice, assignment)),
        *rolled,
        *gateway_actions(view, spec, settings),
    )
    routed = routed_finding(view, spec, settings)
    return story if routed is None else story.and_then(routed)


def _refused_in_one_pod(spec: SLMDeploymentSpec, advice: Advice, assignment: Assignment | None) -> Finding | None:
    if not is_pack(assignment) or advice.configuration.engines_per_gpu == 1:
        return None
    if advice.configuration.kv_cache_bytes is None:
        message = (
            "its measurements have no memory ledger, so the KV bytes of engines in one pod are not known: have it measured here, "
            "or set spec.sharing.partitioning to NodeSlices"
        )
        return Finding(type=Condition.AVAILABLE, holds=False, reason=Reason.KV_UNKNOWN, message=message, stalls=True)
    wrong = "; ".join(refused_in_a_pack(spec.pod_template or {}))
    if not wrong:
        return None
    return Finding(
        type=Condition.AVAILABLE, holds=False, reason=Reason.INVALID_POD_TEMPLATE, message=wrong, stalls=True
    )


def _class_given(advice: Advice, assignment: Assignment | None) -> SliceClass:
    """The class that is advised, divided by whom the fleet says."""
    return replace(slice_class_of(advice), in_one_pod=is_pack(assignment))


def _refused(view: DeploymentView) -> Finding | None:
    if view.refusal is None or view.refusal.kind in {*ROUTING_KINDS, names.DEPLOYMENT_KIND}:
        return None
    message = f"the API server refuses an object of this deployment: {view.refusal.because}"
    return Finding(type=Condition.AVAILABLE, holds=False, reason=Reason.REFUSED, message=message, stalls=True)


def _stalled(kind: Condition, reason: Reason, message: str) -> Story:
    return Story().and_then(Finding(type=kind, holds=False, reason=reason, message=message, stalls=True))
