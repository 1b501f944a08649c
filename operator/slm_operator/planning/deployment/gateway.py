"""What spec.routing requests: the objects of the Gateway API, the condition about them, and their removal.

Not every cluster has these kinds, so they are not watched: the operator only sees whether the API server took an object.
The requested objects are recorded in `status.routing`, so that a later pass of any process knows what to remove.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api.conditions import Finding
from slm_operator.api.names import Condition
from slm_operator.api.reasons import Reason
from slm_operator.manifests.metadata import child_name
from slm_operator.manifests.routing import (
    HTTP_ROUTE,
    HTTP_ROUTE_API,
    INFERENCE_POOL,
    INFERENCE_POOL_API,
    http_route,
    inference_pool,
)
from slm_operator.planning.actions import Action, Apply, Delete
from slm_operator.planning.deployment.packs import is_pack
from slm_operator.watch.records import Key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.planning.views import DeploymentView, Refusal
    from slm_operator.settings import Settings
    from slm_operator.watch.records import DeploymentRecord

ROUTING_KINDS = (INFERENCE_POOL, HTTP_ROUTE)


def gateway_actions(view: DeploymentView, spec: SLMDeploymentSpec, settings: Settings) -> tuple[Action, ...]:
    """Pool and route as requested. They are removed when they are no longer requested, or no longer allowed."""
    record = view.deployment
    forbidden = forbidden_because(record, settings)
    if spec.routing is not None and forbidden is None:
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
            because=forbidden or "spec.routing was removed",
            controller=record.meta.uid,
        )
        for api_version, kind in ((HTTP_ROUTE_API, HTTP_ROUTE), (INFERENCE_POOL_API, INFERENCE_POOL))
    )


def forbidden_because(record: DeploymentRecord, settings: Settings) -> str | None:
    """Why a route may not be made, with the remedy; None where it may, or is not requested.

    NB: the right to make HTTPRoutes is the operator's, and whoever writes an SLMDeployment has seldom one of its own.
    """
    routing, own = record.spec.routing if record.spec is not None else None, record.meta.key.namespace
    if routing is None or routing.gateway_ref.namespace in {None, own}:
        return None
    name = f"{routing.gateway_ref.namespace}/{routing.gateway_ref.name}"
    allowed = next((one for one in settings.routing.gateways if one.gateway == name), None)
    if allowed is None:
        return f"Gateway {name} is of another namespace: the administrator lists those in config.routing.gateways"
    suffix = allowed.host_suffix.replace("{namespace}", own)
    if not routing.hostnames:
        return f"Gateway {name} is of another namespace: give spec.routing.hostnames, and do not take all its hosts"
    strange = [host for host in routing.hostnames if not host.endswith(suffix)]
    if strange:
        return f"hosts of Gateway {name} end with {suffix} for this namespace, which {', '.join(strange)} does not"
    return None


def routed_finding(view: DeploymentView, spec: SLMDeploymentSpec, settings: Settings) -> Finding | None:
    """The Routed condition; None where routing is not requested."""
    if spec.routing is None:
        return None
    forbidden = forbidden_because(view.deployment, settings)
    if forbidden is not None:
        message = f"{forbidden}. Meanwhile the Service is the way to the replicas"
        return Finding(
            type=Condition.ROUTED, holds=False, reason=Reason.GATEWAY_NOT_ALLOWED, message=message, stalls=True
        )
    if view.refusal is not None and view.refusal.kind in ROUTING_KINDS:
        return _refused(view.refusal)
    # NB: a picker reads one engine's series of a pack's page, and cannot reach an engine past its router.
    whom = "packs, and the router of each chooses its engine" if is_pack(view.assignment) else "replicas"
    message = f"Gateway {spec.routing.gateway_ref.name} may route to the {whom}; its own status says whether it does"
    return Finding(type=Condition.ROUTED, holds=True, reason=Reason.READY, message=message)


def _refused(refusal: Refusal) -> Finding:
    if refusal.unserved:
        reason = Reason.GATEWAY_API_MISSING
        remedy = "install the CRDs of the Gateway API and of its inference extension, or remove spec.routing"
    else:
        reason, remedy = Reason.REFUSED, "rights for these kinds come with rbac.gatewayApi in the chart"
    message = f"{refusal.because}; {remedy}. Meanwhile the Service is the way to the replicas"
    return Finding(type=Condition.ROUTED, holds=False, reason=reason, message=message, stalls=True)


def routing_status(record: DeploymentRecord, actions: Iterable[Action], settings: Settings) -> dict[str, str] | None:
    """`status.routing`: what is requested, and what was until its removal is planned."""
    asked = record.spec is not None and record.spec.routing is not None
    if asked and forbidden_because(record, settings) is None:
        name = child_name(record.meta.key)
        return {"inferencePool": name, "httpRoute": name}
    removed = any(isinstance(action, Delete) and action.kind == HTTP_ROUTE for action in actions)
    return None if removed else record.status.get("routing")
