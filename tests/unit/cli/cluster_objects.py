"""What a cluster holds in these tests: one measured, served model on one opted-in node."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from slm_core.codec import to_json
from slm_operator.api import names
from slm_operator.api.crd import KINDS, definition
from slm_operator.cli.inputs.files import from_csv
from slm_operator.planning.deployment.advising import DecidedFrom, advice_status, advise_deployment

from tests import builders as build
from tests.unit.cli.api_server import GROUP
from tests.unit.cli.golden import DATA, ROOT

TEAM = f"{GROUP}/namespaces/team"
DOCUMENT = from_csv(str(ROOT / DATA / "batch_sweep.csv"), str(ROOT / DATA / "replication.csv"), "opt-1.3b", None)
SPEC: dict[str, Any] = {"model": {"uri": "hf://facebook/opt-1.3b"}, "slo": {"itl": {"maxFactor": 4}}}
MANIFEST = build.manifest(names.DEPLOYMENT_KIND, "opt", SPEC)
PROFILE = build.raw_profile(
    build.deployment("opt", SPEC),
    labels={"a": "b"},
    version=7,
    status={"phase": "Complete", "summary": "point 6/6", "gpuSeconds": 240.5, "measurements": to_json(DOCUMENT)},
)
PROFILE_NAME = PROFILE["metadata"]["name"]


def kept_profile(name: str, *, labels: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    """A measured profile of the operator's own, with more in its status, or with other labels."""
    made = {names.MANAGED_BY_LABEL: names.MANAGED_BY} if labels is None else labels
    metadata = build.raw_meta(name, version=7, labels=made)
    return PROFILE | {"metadata": metadata, "status": PROFILE["status"] | status}


def condition(kind: str, status: str, message: str) -> dict[str, str]:
    return {
        "type": kind, "status": status, "reason": "Because", "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip


DECIDED = DecidedFrom(profile=PROFILE_NAME, generation=1, digest="d1", former={})


def deployed(ready: str = "True") -> dict[str, Any]:
    advice = advise_deployment(build.deployment_spec(SPEC), DOCUMENT)
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


H100 = build.feature_labels(8, product="NVIDIA-H100") | {
    "nvidia.com/gpu.compute.minor": "0",
    "nvidia.com/cuda.driver-version.full": "580.65.06",
    "nvidia.com/cuda.runtime-version.full": "13.0",
}


def gpu_node(name: str) -> dict[str, Any]:
    """A node with eight GPUs, opted in."""
    return build.raw_node(name, labels=H100 | build.OPTED_IN, allocatable=build.slots(8))


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


def ready_cluster() -> dict[str, Any]:
    """By its path, what the API server answers."""
    return {
        GROUP: {"resources": [{"name": "slmdeployments"}, {"name": "slmprofiles"}, {"name": "slmdeployments/status"}]},
        "/version": {"gitVersion": "v1.34.2"},
        "/openapi/v3/apis/slm-operator.io/v1alpha1": OPENAPI,
        f"{GROUP}/slmdeployments": {"items": [deployed()]},
        f"{TEAM}/slmdeployments": {"items": [deployed()]},
        f"{TEAM}/slmprofiles": {"items": [PROFILE]},
        f"{TEAM}/slmdeployments/opt": deployed(),
        f"{TEAM}/slmprofiles/{PROFILE_NAME}": PROFILE,
        "/apis/apps/v1/deployments": {"items": [OPERATOR]},
        "/apis/apps/v1/namespaces/team/deployments": {"items": []},
        "/apis/autoscaling/v2/namespaces/team/horizontalpodautoscalers": {"items": []},
        "/apis/networking.k8s.io/v1/networkpolicies": {"items": [{"metadata": {"name": "slm-operator-engines"}}]},
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies": {"items": []},
        "/api/v1/resourcequotas": {"items": []},
        "/apis/apps/v1/daemonsets": {
            "items": [
                build.raw_daemon_set("nvidia-device-plugin", "nvidia-device-plugin-ctr"),
                build.raw_daemon_set("gpu-feature-discovery", "gpu-feature-discovery-ctr"),
                build.raw_daemon_set("mps-control-daemon", "mps-control-daemon-ctr"),
                {"metadata": {"namespace": "kube-system", "name": "kube-proxy"}, "spec": {}},
            ]
        },
        "/api/v1/namespaces/slm-system/configmaps/slm-operator": {"data": {"config.yaml": "nodes: {maxChanging: 2}\n"}},
        "/api/v1/namespaces/nvidia-device-plugin/configmaps/nvidia-device-plugin-configs": {
            "data": {"default": "version: v1\n"}
        },
        "/api/v1/namespaces/nvidia-device-plugin/pods": {"items": [build.raw_daemon("device-plugin", "gpu-1")]},
        "/api/v1/nodes": {"items": [gpu_node("gpu-1"), build.raw_node("cpu")]},
    }
