"""Where each kind lives in the API: group, plural, and whether it is namespaced.

Built-in kinds are a table, because discovery would cost reads at every start for answers that never change. Kinds of
the operator's own are given to `ResourceTable` by whoever builds the client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from slm_operator.kube.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object as the API serves it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """API group; empty for core."""
        group, _, version = self.api_version.rpartition("/")
        return group if version else ""

    @property
    def version(self) -> str:
        """API version without the group."""
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Path of an object, of a subresource of it, or of the collection."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        parts = [root]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


POD = Resource("v1", "Pod", "pods")
NODE = Resource("v1", "Node", "nodes", namespaced=False)
SERVICE = Resource("v1", "Service", "services")
CONFIG_MAP = Resource("v1", "ConfigMap", "configmaps")
WORKLOAD = Resource("apps/v1", "Deployment", "deployments")
JOB = Resource("batch/v1", "Job", "jobs")
DISRUPTION_BUDGET = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
LEASE = Resource("coordination.k8s.io/v1", "Lease", "leases")
EVENT = Resource("events.k8s.io/v1", "Event", "events")
INFERENCE_POOL = Resource("inference.networking.k8s.io/v1", "InferencePool", "inferencepools")
AUTOSCALER = Resource("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
NETWORK_POLICY = Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
RESOURCE_QUOTA = Resource("v1", "ResourceQuota", "resourcequotas")
ADMISSION_POLICY = Resource(
    "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
    namespaced=False,
)
HTTP_ROUTE = Resource("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")

_BUILT_IN = (
    POD,
    NODE,
    SERVICE,
    CONFIG_MAP,
    WORKLOAD,
    JOB,
    DISRUPTION_BUDGET,
    LEASE,
    EVENT,
    INFERENCE_POOL,
    HTTP_ROUTE,
    Resource("v1", "Secret", "secrets"),
    Resource("v1", "ServiceAccount", "serviceaccounts"),
    Resource("apps/v1", "DaemonSet", "daemonsets"),
    AUTOSCALER,
    NETWORK_POLICY,
    Resource("monitoring.coreos.com/v1", "PodMonitor", "podmonitors"),
)


class ResourceTable:
    """Every kind the client can address."""

    def __init__(self, own: Iterable[Resource] = ()) -> None:
        self._known = {(resource.api_version, resource.kind): resource for resource in (*_BUILT_IN, *own)}

    def find(self, api_version: str, kind: str) -> Resource:
        """The resource of a kind. Raises Refused for one that is not in the table."""
        try:
            return self._known[api_version, kind]
        except KeyError:
            raise Refused(f"{api_version} {kind}: this operator does not know where the API serves this kind") from None
