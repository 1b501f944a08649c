"""The Deployment of engine replicas, its Service and its PDB.

The pod template depends on spec and advice alone: an upgrade of the operator, a label, or a status must never restart
an engine. tests/golden/manifests pins it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_runtime.document import SharingMode

from slm_operator.api import names
from slm_operator.manifests import engine as engines
from slm_operator.manifests.metadata import Manifest, labels, of_deployment, selector_labels, serves_value
from slm_operator.manifests.overlay import merge
from slm_operator.manifests.plugin_config import SliceClass

if TYPE_CHECKING:
    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.manifests.engine import Serving
    from slm_operator.observe.records import DeploymentRecord

START_SECONDS = 1800
"""How long an engine may take to load its model: download, load, capture graphs."""


def replicas(deployment: DeploymentRecord, spec: SLMDeploymentSpec, serving: Serving, count: int) -> Manifest:
    """The apps/v1 Deployment."""
    key = deployment.meta.key
    return of_deployment("apps/v1", "Deployment", deployment, "replica") | {
        "spec": {
            "replicas": count,
            "selector": {"matchLabels": selector_labels(key)},
            # NB: slices are all taken, so a surged pod could never be scheduled: replace one at a time.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "progressDeadlineSeconds": START_SECONDS + 300,
            "revisionHistoryLimit": 5,
            "template": pod_template(deployment, spec, serving),
        }
    }


def pod_template(deployment: DeploymentRecord, spec: SLMDeploymentSpec, serving: Serving) -> dict[str, Any]:
    """The replica's pod, with the user's overlay merged in."""
    key = deployment.meta.key
    served_name = spec.model.name or key.name
    volumes, mounts = engines.volumes(spec.model, None, serving.sharing_mode)
    template: dict[str, Any] = {
        "metadata": {"labels": labels(key, "replica")},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,  # a Service named vllm would set VLLM_PORT, which vLLM reads as its own
            "terminationGracePeriodSeconds": engines.PRE_STOP_SECONDS + engines.SHUTDOWN_SECONDS + 30,
            "securityContext": engines.pod_security(),
            "nodeSelector": node_selector(deployment, spec, serving),
            "tolerations": [dict(toleration) for toleration in spec.accelerator.tolerations],
            "containers": [
                {
                    "name": engines.CONTAINER,
                    "image": spec.engine.image,
                    "command": engines.command(spec.engine),
                    "args": engines.serving_args(spec.model, spec.engine, served_name, serving),
                    "env": engines.environment(spec.model, spec.engine),
                    "ports": [{"name": "http", "containerPort": engines.PORT}],
                    "resources": resources(serving.resource),
                    "volumeMounts": mounts,
                    "securityContext": engines.container_security(),
                    "startupProbe": _probe(period=5, failures=START_SECONDS // 5),
                    "readinessProbe": _probe(period=5, failures=2),
                    "livenessProbe": _probe(period=10, failures=6),
                    # Endpoints forget a terminating pod a moment after its SIGTERM: keep answering until they have.
                    "lifecycle": {"preStop": {"sleep": {"seconds": engines.PRE_STOP_SECONDS}}},
                }
            ],
            "volumes": volumes,
        },
    }
    merged: dict[str, Any] = merge(template, spec.pod_template or {})
    return merged


def node_selector(deployment: DeploymentRecord, spec: SLMDeploymentSpec, serving: Serving) -> dict[str, str]:
    """Labels of the nodes whose GPUs this deployment's replicas may take."""
    selector = dict(spec.accelerator.node_selector) | {names.OPT_IN_LABEL: "true"}
    if spec.accelerator.product is not None:
        selector["nvidia.com/gpu.product"] = spec.accelerator.product
    if serving.sharing_mode is not SharingMode.NONE:
        wanted = SliceClass(mode=serving.sharing_mode, replicas_per_gpu=serving.replicas_per_gpu)
        selector[names.CLASS_LABEL] = wanted.label
        neighbours = "any" if spec.sharing.neighbours == "Any" else serves_value(deployment.meta.key)
        selector[names.SERVES_LABEL] = neighbours
    return selector


def resources(gpu: str) -> dict[str, Any]:
    """Resources of an engine: integer CPUs, equal requests and limits, so that a static CPU manager can pin cores."""
    amounts = {"cpu": "2", "memory": "8Gi", gpu: "1"}
    return {"requests": dict(amounts), "limits": amounts}


def service(deployment: DeploymentRecord) -> Manifest:
    """The Service in front of the replicas."""
    return of_deployment("v1", "Service", deployment, "service") | {
        "spec": {
            "selector": selector_labels(deployment.meta.key),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        }
    }


def disruption_budget(deployment: DeploymentRecord, *, all_at_once: bool = False) -> Manifest:
    """The PDB: one replica at a time, or all during a planned change that leaves no other node to serve from."""
    return of_deployment("policy/v1", "PodDisruptionBudget", deployment, "disruption-budget") | {
        "spec": {
            "maxUnavailable": "100%" if all_at_once else 1,
            "selector": {"matchLabels": selector_labels(deployment.meta.key)},
        }
    }


def _probe(*, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/health", "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
