"""What a cluster holds in these tests: one measured, served model on one opted-in node."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from slm_core.codec import to_json
from slm_operator.api.crd import KINDS, definition
from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.cli.inputs.files import from_csv
from slm_operator.manifests.profile import profile_name
from slm_operator.planning.deployment.advising import DecidedFrom, advice_status, advise_deployment

from tests.unit.cli.api_server import GROUP
from tests.unit.cli.golden import DATA, ROOT

TEAM = f"{GROUP}/namespaces/team"
DOCUMENT = from_csv(str(ROOT / DATA / "batch_sweep.csv"), str(ROOT / DATA / "replication.csv"), "opt-1.3b", None)
SPEC: dict[str, Any] = {"model": {"uri": "hf://facebook/opt-1.3b"}, "slo": {"itl": {"maxFactor": 4}}}
MANIFEST = {
    "apiVersion": "slm-operator.io/v1alpha1",
    "kind": "SLMDeployment",
    "metadata": {"name": "opt"},
    "spec": SPEC,
}
PROFILE_NAME = profile_name(SLMDeploymentSpec.model_validate(SPEC))
PROFILE = {
    "apiVersion": "slm-operator.io/v1alpha1",
    "kind": "SLMProfile",
    "metadata": {"name": PROFILE_NAME, "namespace": "team", "uid": "u1", "resourceVersion": "7", "labels": {"a": "b"}},
    "spec": {"model": SPEC["model"]},
    "status": {"phase": "Complete", "summary": "point 6/6", "gpuSeconds": 240.5, "measurements": to_json(DOCUMENT)},
}


def kept_profile(name: str, *, labels: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    """A measured profile of the operator's own, with more in its status, or with other labels."""
    made = {"app.kubernetes.io/managed-by": "slm-operator"} if labels is None else labels
    metadata = {"name": name, "namespace": "team", "uid": f"uid-{name}", "resourceVersion": "7", "labels": made}
    return PROFILE | {"metadata": metadata, "status": PROFILE["status"] | status}


def condition(kind: str, status: str, message: str) -> dict[str, str]:
    return {
        "type": kind, "status": status, "reason": "Because", "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip


DECIDED = DecidedFrom(profile=PROFILE_NAME, generation=1, digest="d1", former={})


def deployed(ready: str = "True") -> dict[str, Any]:
    advice = advise_deployment(SLMDeploymentSpec.model_validate(SPEC), DOCUMENT)
    return MANIFEST | {
        "metadata": {"name": "opt", "namespace": "team"},
        "status": {
            "phase": "Ready",
            "conditions": [condition("Ready", ready, "all is well"), condition("Profiled", "True", "6 points")],
            "profile": {"name": PROFILE_NAME},
            "advice": advice_status(advice, DECIDED, datetime(2026, 1, 1, tzinfo=UTC)),
            "replicas": 2,
            "readyReplicas": 2,
        },
    }


HOST = {"namespace": "nvidia-device-plugin"}
H100 = {
    "nvidia.com/gpu.product": "NVIDIA-H100", "nvidia.com/gpu.count": "8", "nvidia.com/gpu.memory": "81559",
    "nvidia.com/gpu.replicas": "1", "nvidia.com/gpu.sharing-strategy": "none", "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0", "nvidia.com/cuda.driver-version.full": "580.65.06",
    "nvidia.com/cuda.runtime-version.full": "13.0",
}  # fmt: skip
OPTED_IN = {"slm-operator.io/managed": "true"}


def node(name: str, labels: dict[str, str], **allocatable: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {
            "allocatable": allocatable,
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.34.2", "osImage": "Debian"},
        },
    }


def daemon_set(name: str, container: str, image: str = "nvcr.io/nvidia/k8s-device-plugin:v0.20.0") -> dict[str, Any]:
    """As NVIDIA's chart has it, with named configurations."""
    label = {"name": "NODE_LABEL", "value": "nvidia.com/device-plugin.config"}
    default = {"name": "DEFAULT_CONFIG", "value": "default"}
    sidecar = {"name": f"{name}-sidecar", "image": image, "env": [label, default]}
    volume = {"name": "available-configs", "configMap": {"name": "nvidia-device-plugin-configs"}}
    pod = {
        "containers": [sidecar, {"name": container, "image": image}],
        "volumes": [volume],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
    return {
        "metadata": HOST | {"name": name, "labels": {}},
        "spec": {"template": {"spec": pod}},
        "status": {"numberReady": 1, "desiredNumberScheduled": 1},
    }


PLUGIN_POD = {
    "metadata": HOST | {"name": "plugin-1"},
    "spec": {
        "nodeName": "gpu-1",
        "containers": [{"name": "nvidia-device-plugin-ctr"}, {"name": "nvidia-device-plugin-sidecar"}],
    },
    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
}
OPERATOR = {
    "metadata": {"namespace": "slm-system", "name": "slm-operator", "labels": {"app.kubernetes.io/version": "0.1.0"}},
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {
                "containers": [{"name": "operator", "image": "registry/slm-operator:0.1.0"}],
                "volumes": [{"name": "config", "configMap": {"name": "slm-operator"}}],
            }
        },
    },
    "status": {"readyReplicas": 2},
}
OPENAPI = {
    "components": {
        "schemas": {
            kind.kind: definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            | {
                "x-kubernetes-group-version-kind": [
                    {"group": "slm-operator.io", "version": "v1alpha1", "kind": kind.kind}
                ]
            }
            for kind in KINDS
        }
    }
}


LEASE = "/apis/coordination.k8s.io/v1/namespaces/slm-system/leases/slm-operator"


def lease(age_seconds: float = 1.0) -> dict[str, Any]:
    """NB: of the age that it has when this module is imported, so it is of a duration that no slow run outlasts."""
    renewed = datetime.now(UTC) - timedelta(seconds=age_seconds)
    spec = {"holderIdentity": "slm-operator-0", "leaseDurationSeconds": 5000, "renewTime": renewed.isoformat()}
    return {"metadata": {"name": "slm-operator", "resourceVersion": "1"}, "spec": spec}


READY_CLUSTER: dict[str, Any] = {
    GROUP: {"resources": [{"name": "slmdeployments"}, {"name": "slmprofiles"}, {"name": "slmdeployments/status"}]},
    "/version": {"gitVersion": "v1.34.2"},
    "/openapi/v3/apis/slm-operator.io/v1alpha1": OPENAPI,
    f"{GROUP}/slmdeployments": {"items": [deployed()]},
    f"{TEAM}/slmdeployments": {"items": [deployed()]},
    f"{TEAM}/slmprofiles": {"items": [PROFILE]},
    f"{TEAM}/slmdeployments/opt": deployed(),
    f"{TEAM}/slmprofiles/{PROFILE_NAME}": PROFILE,
    "/apis/apps/v1/deployments": {"items": [OPERATOR]},
    "/apis/apps/v1/daemonsets": {
        "items": [
            daemon_set("nvidia-device-plugin", "nvidia-device-plugin-ctr"),
            daemon_set("gpu-feature-discovery", "gpu-feature-discovery-ctr"),
            daemon_set("mps-control-daemon", "mps-control-daemon-ctr"),
            {"metadata": {"namespace": "kube-system", "name": "kube-proxy"}, "spec": {}},
        ]
    },
    "/api/v1/namespaces/slm-system/configmaps/slm-operator": {"data": {"config.yaml": "nodes: {maxChanging: 2}\n"}},
    "/api/v1/namespaces/nvidia-device-plugin/configmaps/nvidia-device-plugin-configs": {
        "data": {"default": "version: v1\n"}
    },
    "/api/v1/namespaces/nvidia-device-plugin/pods": {"items": [PLUGIN_POD]},
    "/api/v1/nodes": {"items": [node("gpu-1", H100 | OPTED_IN, **{"nvidia.com/gpu": "8"}), node("cpu", {})]},
}
