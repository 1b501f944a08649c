"""Which rights the commands need, and which of them this user lacks, as the API server itself says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.cli.preflight.facts import Unseen
from slm_operator.kube.errors import Forbidden
from slm_operator.kube.resources import Resource

if TYPE_CHECKING:
    from slm_operator.cli.cluster import Cluster
    from slm_operator.cli.preflight.facts import Installed
    from slm_operator.settings import Settings

ACCESS_REVIEW = Resource(
    "authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One right, and what needs it."""

    verb: str
    resource: str
    use: str
    group: str = ""
    namespace: str = ""
    """Empty: in the whole cluster."""

    @property
    def words(self) -> str:
        """As a person says it: `list nodes`."""
        return f"{self.verb} {self.resource}"

    @property
    def attributes(self) -> dict[str, str]:
        """As an access review asks for it."""
        resource, _, subresource = self.resource.partition("/")
        asked = {"verb": self.verb, "group": self.group, "resource": resource, "namespace": self.namespace}
        return asked | ({"subresource": subresource} if subresource else {})


def rights(namespace: str, operator: str, plugin: str) -> tuple[Right, ...]:
    """What the commands need: in the user's namespace, the operator's, the device plugin's, and the cluster."""
    return (
        Right(verb="create", resource="slmdeployments", group=names.GROUP, namespace=namespace, use="kubectl apply"),
        Right(
            verb="list", resource="slmdeployments", group=names.GROUP, namespace=namespace, use="watch, top, explain"
        ),
        Right(verb="patch", resource="slmdeployments", group=names.GROUP, namespace=namespace, use="rollback, upgrade"),
        Right(verb="create", resource="slmprofiles", group=names.GROUP, namespace=namespace, use="profile import"),
        Right(verb="delete", resource="slmprofiles", group=names.GROUP, namespace=namespace, use="profile prune"),
        Right(verb="list", resource="replicasets", group="apps", namespace=namespace, use="history"),
        Right(verb="list", resource="deployments", group="apps", namespace=namespace, use="check"),
        Right(verb="list", resource="horizontalpodautoscalers", group="autoscaling", namespace=namespace, use="check"),
        Right(verb="get", resource="pods/proxy", namespace=namespace, use="live figures in top"),
        Right(verb="get", resource="pods/log", namespace=operator, use="the operator's log in support"),
        Right(verb="get", resource="configmaps", namespace=plugin, use="check"),
        Right(verb="list", resource="pods", namespace=plugin, use="check"),
        Right(verb="list", resource="daemonsets", group="apps", use="check"),
        Right(verb="list", resource="nodes", use="check, support"),
    )


async def missing(cluster: Cluster, operators: tuple[Installed, ...] | Unseen, settings: Settings) -> dict[str, str]:
    """Rights that this user lacks, in words, each with what needs it."""
    at = "" if isinstance(operators, Unseen) or not operators else operators[0].namespace
    asked = rights(cluster.namespace, at, settings.device_plugin.namespace)
    held = await asyncio.gather(*(_held(cluster, right) for right in asked))
    return {right.words: right.use for right, has in zip(asked, held, strict=True) if not has}


async def _held(cluster: Cluster, right: Right) -> bool:
    review = {
        "apiVersion": ACCESS_REVIEW.api_version,
        "kind": ACCESS_REVIEW.kind,
        "spec": {"resourceAttributes": right.attributes},
    }
    try:
        answer = await cluster.client.create(ACCESS_REVIEW, "", review)
    except Forbidden:  # somebody who may not even ask
        return False
    return bool((answer.get("status") or {}).get("allowed"))
