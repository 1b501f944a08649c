"""Replicas that go on as they are while their SLMDeployment cannot be followed.

Another profile is measured, or was deleted; its document cannot be advised from; an SLO that holds is not met by what was
measured; a template is refused: none of it is a reason to stop, to change or not to scale what answers. The Deployment
is written in one field, the number of replicas; what is around it is kept as ever, and nodes are planned for it as
before. Must never write a template: what it would be made from is not known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_core.wording import several

from slm_operator.api.conditions import Finding
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.manifests.served import read_served
from slm_operator.partitioning import partitioning_of
from slm_operator.planning.actions import ScaleWorkload
from slm_operator.planning.deployment.availability import availability
from slm_operator.planning.deployment.gateway import gateway_actions, routed_finding
from slm_operator.planning.deployment.rollout import answer_as_before, around, slices_finding
from slm_operator.planning.fleet.demand import served_class, wanted_as_before

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_operator.manifests.served import Served
    from slm_operator.planning.deployment.story import Story
    from slm_operator.planning.views import DeploymentView
    from slm_operator.settings import Settings
    from slm_operator.watch.records import WorkloadRecord


def pause(view: DeploymentView, story: Story, settings: Settings) -> Story:
    """The story of one that is not to be followed: what was found of profile and advice, and what goes on."""
    before_nodes = (Condition.PROFILED, Condition.ADVISED)
    found = tuple(finding for finding in story.findings if finding.type in before_nodes)
    held = go_on(view, replace(story, findings=found, actions=()), settings)
    return held if held.served is not None else held.and_then(_paused("no replica is made"))


def go_on(view: DeploymentView, story: Story, settings: Settings) -> Story:
    """The story of one that cannot be followed, and what goes on meanwhile, if anything was served before."""
    workload, spec = view.workload, view.deployment.spec
    served = read_served(workload.served) if workload is not None else None
    if workload is None or served is None or workload.meta.deleting:
        return story
    kept = wanted_as_before(view.deployment, served)
    made_for = served_class(served)
    way = partitioning_of(made_for)
    wanted = workload.replicas * way.engines_per_pod(made_for) if kept is None else kept
    assignment = answer_as_before(view, served)
    before, after = around(view, wanted, assignment, settings)
    story = replace(story, findings=_of_the_advice(story.findings), advice=None, served=served)
    if all(finding.type is not Condition.ADVISED for finding in story.findings):
        story = story.and_then(_as_before(served))
    is_paused = spec is not None and spec.paused
    nodes = _paused("no node is changed and no replica is replaced") if is_paused else slices_finding(view, assignment)
    story = story.and_then(nodes, *before, *_scaled(workload, way.pods_for(wanted, made_for)), *after)
    story = story.and_then(availability(view, wanted, made_for))
    if spec is None:
        return story
    routed = routed_finding(view, spec, settings)
    story = replace(story, actions=(*story.actions, *gateway_actions(view, spec, settings)))
    return story if routed is None else story.and_then(routed)


def served_status(served: Served, former: dict[str, Any]) -> dict[str, Any]:
    """`status.advice` of what goes on: as it was, or where it says another or nothing, as the Deployment has it."""
    if former.get("digest") == served.digest:
        return former
    return {
        "configuration": served.configuration.given(),
        "feasible": served.feasible,
        "source": served.source,
        "profileRef": {"name": served.profile},
        "digest": served.digest,
    }


def _of_the_advice(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """NB: what keeps new replicas from being made says nothing of those that answer: it is said of the advice instead."""
    kept_back = [one for one in findings if one.type is Condition.AVAILABLE]
    if not kept_back:
        return tuple(findings)
    others = (one for one in findings if one.type not in {Condition.AVAILABLE, Condition.ADVISED})
    return (*others, *(replace(one, type=Condition.ADVISED) for one in kept_back))


def _as_before(served: Served) -> Finding:
    message = f"what SLMProfile {served.profile} advised is served until there is other advice"
    return Finding(type=Condition.ADVISED, holds=True, reason=Reason.SERVED_AS_BEFORE, message=message)


def _paused(what: str) -> Finding:
    """NB: Unknown and not False: nobody looks for what is missing."""
    return Finding(type=Condition.ALLOCATED, holds=None, reason=Reason.PAUSED, message=f"spec.paused: {what}")


def _scaled(workload: WorkloadRecord, pods: int) -> tuple[ScaleWorkload, ...]:
    if workload.replicas == pods:
        return ()
    return (
        ScaleWorkload(
            workload=workload.meta.key,
            resource_version=workload.meta.resource_version,
            replicas=pods,
            because=f"{several(pods, 'pod')} wanted, of those that are served",
        ),
    )
