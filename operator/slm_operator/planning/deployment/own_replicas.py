"""`spec.replicas` while nobody else sets it: `/scale` answers from the first moment, and the number follows the advice.

The API server's `/scale` of a custom resource is an error while the field is absent, so the operator keeps its own number there
(ADR 16). What is served does not wait for it: the plan has the same number at once. Must never write over a number
of somebody else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.api.reasons import Reason
from slm_operator.manifests.served import read_served
from slm_operator.planning.actions import EmitEvent, SetReplicas
from slm_operator.planning.fleet.demand import wanted_replicas

if TYPE_CHECKING:
    from slm_operator.advisor.advice import Advice
    from slm_operator.planning.actions import Action
    from slm_operator.planning.views import DeploymentView

SMALLEST_PACK = 1
"""Engines of the smallest pack: the number before there is advice."""


def own_replicas(view: DeploymentView, advice: Advice | None) -> tuple[Action, ...]:
    """Writes one full pack where the field is absent, or holds another number of ours; and says it where that is refused."""
    record = view.deployment
    if record.spec is None or record.spec.replicas is not None:
        return ()
    if advice is not None:
        number, because = wanted_replicas(record.spec, advice), "one full pack, as advised"
    elif record.own_replicas is None:
        served = read_served(view.workload.served) if view.workload is not None else None
        if served is None:
            number, because = SMALLEST_PACK, "the smallest pack, until there is advice"
        else:
            number, because = served.configuration.engines_per_gpu, "one full pack, as it is served"
    else:  # another profile is measured, say: what was advised before stays until then
        return ()
    if number == record.own_replicas:
        return ()
    write = SetReplicas(
        deployment=record.meta.key,
        uid=record.meta.uid,
        resource_version=record.meta.resource_version,
        replicas=number,
        because=f"nobody sets spec.replicas: {because}",
    )
    return (write, *_said(view))


def _said(view: DeploymentView) -> tuple[EmitEvent, ...]:
    """NB: an event and no condition, for nothing waits for it: replicas are served as advised."""
    if view.refusal is None or view.refusal.kind != names.DEPLOYMENT_KIND:
        return ()
    meta = view.deployment.meta
    message = (
        f"spec.replicas cannot be kept at one full pack, so /scale may answer an error: {view.refusal.because}. Set it "
        "yourself, or give the operator the right to patch slmdeployments (upgrade the chart)"
    )
    return (
        EmitEvent(
            api_version=names.API_VERSION,
            kind=names.DEPLOYMENT_KIND,
            key=meta.key,
            uid=meta.uid,
            type="Warning",
            reason=Reason.REPLICAS_NOT_WRITTEN,
            message=message,
        ),
    )
