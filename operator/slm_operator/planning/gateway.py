"""What spec.routing asks for: the objects of the Gateway API, the condition about them, and their removal.

Their kinds are in no cluster by nature and are not watched, so nothing is seen of them but whether the API server took
them. What was asked for stands in `status.routing`: that tells a later pass, of whatever process, what to remove.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api.names import Condition
from slm_operator.manifests.metadata import child_name
from slm_operator.manifests.routing import (
    HTTP_ROUTE,
    HTTP_ROUTE_API,
    INFERENCE_POOL,
    INFERENCE_POOL_API,
    http_route,
    inference_pool,
)
from slm_operator.observe.records import Key
from slm_operator.planning.actions import Action, Apply, Delete
from slm_operator.planning.conditions import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.observe.records import DeploymentRecord
    from slm_operator.planning.views import DeploymentView, Refusal

ROUTING_KINDS = (INFERENCE_POOL, HTTP_ROUTE)


def gateway_actions(view: DeploymentView, spec: SLMDeploymentSpec) -> tuple[Action, ...]:
    """Pool and route as asked for; gone when they were asked for before."""
    record = view.deployment
    if spec.routing is not None:
        return (
            Apply(
                manifest=inference_pool(record, spec.routing), because="spec.routing: a Gateway may see the replicas"
            ),
            Apply(manifest=http_route(record, spec.routing), because="spec.routing: clients come through the Gateway"),
        )
    if not record.status.get("routing"):
        return ()
    key = Key(record.meta.key.namespace, child_name(record.meta.key))
    return tuple(
        Delete(
            api_version=api_version,
            kind=kind,
            key=key,
            uid=None,
            because="spec.routing was removed",
            controller=record.meta.uid,
        )
        for api_version, kind in ((HTTP_ROUTE_API, HTTP_ROUTE), (INFERENCE_POOL_API, INFERENCE_POOL))
    )


def routed_finding(view: DeploymentView, spec: SLMDeploymentSpec) -> Finding | None:
    """The Routed condition; None where routing is not asked for."""
    if spec.routing is None:
        return None
    if view.refusal is not None and view.refusal.kind in ROUTING_KINDS:
        return _refused(view.refusal)
    message = f"Gateway {spec.routing.gateway.name} may route to the replicas; its own status says whether it does"
    return Finding(type=Condition.ROUTED, holds=True, reason="Ready", message=message)


def _refused(refusal: Refusal) -> Finding:
    if refusal.unserved:
        reason = "GatewayApiMissing"
        mend = "install the CRDs of the Gateway API and of its inference extension, or remove spec.routing"
    else:
        reason, mend = "Refused", "rights for these kinds come with rbac.gatewayApi in the chart"
    message = f"{refusal.because}; {mend}. Meanwhile the Service is the way to the replicas"
    return Finding(type=Condition.ROUTED, holds=False, reason=reason, message=message, stalls=True)


def routing_status(record: DeploymentRecord, actions: Iterable[Action]) -> dict[str, str] | None:
    """`status.routing`: what is asked for, and what was until its removal is planned."""
    if record.spec is not None and record.spec.routing is not None:
        name = child_name(record.meta.key)
        return {"inferencePool": name, "httpRoute": name}
    removed = any(isinstance(action, Delete) and action.kind == HTTP_ROUTE for action in actions)
    return None if removed else record.status.get("routing")
