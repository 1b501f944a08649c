"""Replicas in the slices that the fleet gave: the Service, the PDB and the Deployment, and when it may roll.

The fleet decides which slices there are, the scheduler which replica lands where. Must never stop a replica that answers
for one that has nowhere to run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_core.wording import several

from slm_operator.advisor.plain import configuration_values
from slm_operator.api.conditions import Finding
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.api.status import ConfigurationStatus
from slm_operator.manifests.replicas import Fleet, advice_digest, disruption_budget, replicas, service
from slm_operator.manifests.served import Served
from slm_operator.partitioning import partitioning_of
from slm_operator.partitioning.node_slices import daemon_of
from slm_operator.planning.actions import Action, Apply, Delete
from slm_operator.planning.deployment.advising import serving_of, slice_bytes_of, source_of
from slm_operator.planning.deployment.packs import (
    is_pack,
    may_be_away,
    opens_successor_first,
    outage_ahead,
    successors,
    with_pack,
)
from slm_operator.planning.fleet.demand import (
    place_asked,
    place_of,
    place_served,
    served_class,
    slice_class_of,
    tolerations_given,
    wanted_replicas,
)

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument

    from slm_operator.advisor.advice import Advice
    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.partitioning.base import SliceClass
    from slm_operator.planning.fleet.demand import Place
    from slm_operator.planning.fleet.product import Binding
    from slm_operator.planning.views import Assignment, DeploymentView
    from slm_operator.settings import Settings


def answer_to(view: DeploymentView, spec: SLMDeploymentSpec, advice: Advice, binding: Binding) -> Assignment | None:
    """The fleet's answer, unless it answers earlier advice or an earlier spec."""
    return _answer(view, slice_class_of(advice), place_of(spec, binding.product))


def answer_as_before(view: DeploymentView, served: Served) -> Assignment | None:
    """The fleet's answer to replicas that go on as they are."""
    return _answer(view, served_class(served), place_served(served))


def _answer(view: DeploymentView, slice_class: SliceClass, place: Place) -> Assignment | None:
    answer = view.assignment
    if answer is None or answer.slice_class is None:
        return None
    # NB: who divides the GPU is the answer itself.
    if answer.slice_class not in {slice_class, replace(slice_class, in_one_pod=True)}:
        return None
    return answer if answer.asked is None or place == place_asked(answer.asked) else None


def slices_finding(view: DeploymentView, assignment: Assignment | None, also: str = "") -> Finding:
    """The Allocated condition. `also`: what is to be known of the nodes."""
    if is_pack(assignment) and (ahead := outage_ahead(view)) is not None:
        return ahead
    if assignment is None:
        return Finding(type=Condition.ALLOCATED, holds=False, reason=Reason.PLANNING, message="nodes are being chosen")
    if assignment.pending_because is None:
        reason, remark = assignment.remark or (Reason.READY, "")
        message = f"{_room(assignment)}{'; ' if remark else ''}{remark}{also}"
        return Finding(type=Condition.ALLOCATED, holds=True, reason=reason, message=message)
    return Finding(type=Condition.ALLOCATED, holds=False, reason=assignment.reason, message=assignment.pending_because)


def _room(assignment: Assignment) -> str:
    if assignment.nodes:
        # NB: what is free beyond that changes with every co-tenant, and would be a write for all deployments on the node.
        needed = assignment.asked.replicas if assignment.asked is not None else assignment.slots
        room = f"{several(min(assignment.slots, needed), 'slot')} on {', '.join(assignment.nodes)}"
        return f"{room}{_limits(assignment)}"
    if assignment.slice_class is not None and assignment.slice_class.in_one_pod:
        return "no node is changed: the scheduler finds a whole GPU for each pack"
    # Serving named namespaces only, the operator sees no node.
    return "nodes are not seen: the scheduler finds the room" if assignment.slots else "no node is needed"


def _limits(assignment: Assignment) -> str:
    """What holds its engines to their shares, where nobody has seen that it does (docs/adr/0032-limits-under-the-plugins-mps-are-not-proven.md)."""
    given = assignment.slice_class
    daemon = daemon_of(given) if given is not None and not is_pack(assignment) else None
    return f"; limits are what the {daemon.title} was asked for, not proven by an engine" if daemon is not None else ""


def rollout(
    view: DeploymentView,
    spec: SLMDeploymentSpec,
    advice: Advice,
    answer: tuple[Binding, Assignment | None],
    settings: Settings,
) -> tuple[Action, ...]:
    """What serves the replicas that are wanted, as far as the fleet's answer allows."""
    assert view.profile is not None
    assert view.profile.measurements is not None
    measured, wanted = view.profile.measurements, wanted_replicas(spec, advice)
    binding, assignment = answer
    serving = serving_of(spec.engine, advice, measured, in_one_pod=is_pack(assignment))
    made_from = served_by(view, spec, advice, measured, binding)
    served = with_pack(view, spec, serving, made_from, settings)
    fleet = _fleet(served, wanted, settings, surges=_surges(view, spec, wanted, assignment))
    if is_pack(assignment) and wanted:
        fleet = replace(fleet, count=fleet.count + successors(view))
    rolled = Apply(
        manifest=replicas(view.deployment, spec, serving, fleet),
        because=f"{several(serving.engines_per_gpu, 'engine')} a GPU with batch {serving.batch_size}, as advised",
    )
    before, after = around(view, wanted, assignment, settings)
    return (*before, *([rolled] if _may_roll(view, wanted, assignment) else []), *after)


def around(
    view: DeploymentView, wanted: int, assignment: Assignment | None, settings: Settings
) -> tuple[tuple[Action, ...], tuple[Action, ...]]:
    """What serves replicas whatever they are: what is done before the Deployment is written, and what after it."""
    slots = assignment.slots if assignment is not None else 0
    # NB: replicas that have no slice before the change is done would block each other's eviction for ever, and with it
    # the change, be it for them or for somebody else.
    unplaceable = wanted - slots if assignment is not None and assignment.may_be_disrupted else 0
    away = may_be_away(view, wanted, settings)
    budget = Apply(
        manifest=disruption_budget(view.deployment, max(away, unplaceable) if away else 0),
        because=f"nodes change, and {unplaceable} replicas have no slice elsewhere"
        if unplaceable > 1
        else ("one replica at a time may be disturbed" if away else "a pack leaves once its successor answers"),
    )
    return (Apply(manifest=service(view.deployment), because="replicas are asked through one address"), budget), _swept(
        view
    )


def _may_roll(view: DeploymentView, wanted: int, assignment: Assignment | None) -> bool:
    """Whether the Deployment may be written.

    NB: a new template stops a running replica at once: not before there is a slice for it, or its own node is closed. With
    neither it would stay away for as long as there is none. Where none answers, none can be lost.
    """
    if assignment is None:
        return False
    silent = view.workload is None or view.workload.ready == 0
    return wanted == 0 or assignment.slots > 0 or assignment.may_be_disrupted or (silent and not assignment.changing)


def served_by(
    view: DeploymentView, spec: SLMDeploymentSpec, advice: Advice, document: MeasurementDocument, binding: Binding
) -> Served:
    """What an advice makes of its replicas, as it is kept on their Deployment."""
    assert view.profile is not None
    kept = view.deployment.defaults
    return Served(
        profile=view.profile.meta.key.name,
        digest=advice_digest(serving_of(spec.engine, advice, document)),
        source=source_of(advice),
        feasible=advice.feasible,
        configuration=ConfigurationStatus.model_validate(configuration_values(advice.configuration)),
        slice_bytes=slice_bytes_of(advice, document.ledger),
        product=binding.product,
        bound=binding.bound or None,
        node_selector=dict(spec.accelerator.node_selector),
        tolerations=tolerations_given(spec, kept),
        shared_tenancy=spec.sharing.tenancy == "Shared",
        defaults=kept.given() if kept is not None else None,
    )


def _fleet(served: Served, wanted: int, settings: Settings, *, surges: bool) -> Fleet:
    made_for = served_class(served)
    pods = partitioning_of(made_for).pods_for(wanted, made_for)
    return Fleet(count=pods, served=served, opt_in_label=settings.nodes.opt_in_label, spare_slot=surges)


def _surges(view: DeploymentView, spec: SLMDeploymentSpec, wanted: int, assignment: Assignment | None) -> bool:
    """Whether there is room for one pod more than is wanted."""
    if assignment is None or is_pack(assignment):
        return assignment is not None and opens_successor_first(view)
    # NB: a slice that co-tenants may take meanwhile is no room to count on: the roll would wait for it.
    return assignment.slots > wanted and spec.sharing.tenancy == "Dedicated"


def _swept(view: DeploymentView) -> tuple[Action, ...]:
    """NB: a pod that the kubelet refused at admission is never retried and never removed by its ReplicaSet."""
    return tuple(
        Delete(
            api_version="v1",
            kind="Pod",
            key=pod.meta.key,
            uid=pod.meta.uid,
            because=f"the kubelet refused it: {pod.failed_because}",
        )
        for pod in view.pods
        if pod.phase == "Failed" and not pod.meta.deleting
    )
