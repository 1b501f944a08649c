"""The objects of load-aware routing: an InferencePool of the replicas, and the HTTPRoute that leads to it.

A Gateway asks the pool's endpoint picker for each request which replica takes it. Gateway and picker are the user's: a
picker runs with rights and settings of its own, and one Gateway serves many deployments.
Source: Gateway API v1, Gateway API Inference Extension v1 (inference.networking.k8s.io).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.manifests.engine import PORT
from slm_operator.manifests.metadata import Manifest, child_name, of_deployment, selector_labels

if TYPE_CHECKING:
    from slm_operator.api.deployment import RoutingSpec
    from slm_operator.watch.records import DeploymentRecord

INFERENCE_POOL, INFERENCE_POOL_API = "InferencePool", "inference.networking.k8s.io/v1"
HTTP_ROUTE, HTTP_ROUTE_API = "HTTPRoute", "gateway.networking.k8s.io/v1"


def inference_pool(deployment: DeploymentRecord, routing: RoutingSpec) -> Manifest:
    """The replicas as a Gateway sees them."""
    picker = routing.endpoint_picker_ref
    return of_deployment(INFERENCE_POOL_API, INFERENCE_POOL, deployment, "routing") | {
        "spec": {
            "selector": {"matchLabels": selector_labels(deployment.meta.key)},
            "targetPorts": [{"number": PORT}],
            "endpointPickerRef": {"name": picker.name, "port": {"number": picker.port}},
        }
    }


def http_route(deployment: DeploymentRecord, routing: RoutingSpec) -> Manifest:
    """The way from the Gateway to the pool, which is named like the deployment's other objects."""
    gateway = routing.gateway_ref
    parent = {"name": gateway.name} | ({"namespace": gateway.namespace} if gateway.namespace else {})
    pool = {
        "group": INFERENCE_POOL_API.partition("/")[0],
        "kind": INFERENCE_POOL,
        "name": child_name(deployment.meta.key),
    }
    hosts = {"hostnames": list(routing.hostnames)} if routing.hostnames else {}
    # NB: without a timeout of its own a route gets the implementation's, often 15 s: it would cut off long answers.
    rule = {"backendRefs": [pool], "timeouts": {"request": "0s"}}
    return of_deployment(HTTP_ROUTE_API, HTTP_ROUTE, deployment, "routing") | {
        "spec": {"parentRefs": [parent], **hosts, "rules": [rule]}
    }
