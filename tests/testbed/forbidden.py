"""Requests that the operator's roles allow and the chart's policies refuse: what somebody with a stolen token would try.

Exists so that the control plane and the end-to-end run try the same ones. Must never hold what RBAC refuses anyway.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.testbed.cluster import Cluster

API_VERSION = "slm-operator.io/v1alpha1"
Request = tuple[tuple[str, ...], str | None]


@dataclass(frozen=True, slots=True)
class Forbidden:
    """`request` gives kubectl's arguments and stdin, for a namespace as `foreign` fills it and a node; `words` answer it."""

    words: str
    request: Callable[[str, str], Request]


def foreign(cluster: Cluster, namespace: str) -> None:
    """A pod and an SLMDeployment of this name, neither of which is the operator's to change."""
    cluster.kubectl("run", "foreign", "--image=none", "--namespace", namespace)
    spec = {"model": {"uri": "hf://facebook/opt-125m"}, "profiling": {"policy": "Never"}, "replicas": 1}
    manifest = {"apiVersion": API_VERSION, "kind": "SLMDeployment", "metadata": {"name": "foreign"}, "spec": spec}
    cluster.kubectl("create", "--namespace", namespace, "--filename", "-", stdin=json.dumps(manifest))


def _deployment(namespace: str) -> Request:
    labels = {"app": "stolen"}
    pod: dict[str, Any] = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "stolen", "image": "none"}]},
    }
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "stolen", "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": pod},
    }
    return ("create", "--validate=false", "-f", "-"), json.dumps(manifest)


def _node(node: str, change: dict[str, Any]) -> Request:
    """NB: an apply, because `kubectl patch` reads the node first, which the operator may not."""
    metadata = {"name": node} | change.pop("metadata", {})
    manifest = {"apiVersion": "v1", "kind": "Node", "metadata": metadata} | change
    return ("apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-"), json.dumps(manifest)


def _slm_deployment(namespace: str, change: dict[str, Any]) -> Request:
    """NB: an apply, as for a node."""
    metadata = {"name": "foreign", "namespace": namespace} | change.pop("metadata", {})
    manifest = {"apiVersion": API_VERSION, "kind": "SLMDeployment", "metadata": metadata} | change
    return ("apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-"), json.dumps(manifest)


def _delete(namespace: str, _node: str) -> Request:
    return ("delete", "--raw", f"/api/v1/namespaces/{namespace}/pods/foreign"), None


def _evict(namespace: str, _node: str) -> Request:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "foreign", "namespace": namespace}}
    return ("create", "--raw", f"/api/v1/namespaces/{namespace}/pods/foreign/eviction", "-f", "-"), json.dumps(body)


FORBIDDEN = {
    "a Deployment in kube-system": Forbidden(
        "namespace of the cluster's own", lambda _, __: _deployment("kube-system")
    ),
    "a Deployment of nobody": Forbidden("whose controller is", lambda namespace, _: _deployment(namespace)),
    "a node closed to pods": Forbidden(
        "nothing of a node's spec", lambda _, node: _node(node, {"spec": {"unschedulable": True}})
    ),
    "a label of somebody else's": Forbidden(
        "no label of a node", lambda _, node: _node(node, {"metadata": {"labels": {"slm-operator.io/managed": "yes"}}})
    ),
    "another model": Forbidden(
        "nothing of an SLMDeployment's spec",
        lambda namespace, _: _slm_deployment(namespace, {"spec": {"model": {"uri": "hf://evil/model"}}}),
    ),
    "a pod template where none was given": Forbidden(
        "nothing of an SLMDeployment's spec",
        lambda namespace, _: _slm_deployment(namespace, {"spec": {"podTemplate": {"spec": {"hostPID": True}}}}),
    ),
    "a finalizer on an SLMDeployment": Forbidden(
        "owners nor finalizers",
        lambda namespace, _: _slm_deployment(namespace, {"metadata": {"finalizers": ["example.com/held"]}}),
    ),
    "somebody else's pod deleted": Forbidden("only pods with its label", _delete),
    "a pod evicted by its name": Forbidden("by its uid", _evict),
}
