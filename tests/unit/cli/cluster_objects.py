"""What a cluster holds in these tests: one measured, served model on one opted-in node."""

from __future__ import annotations

from typing import Any

from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.cli.inputs import from_csv
from slm_operator.manifests.profile import profile_name
from slm_operator.planning.advising import advice_status, advise_deployment
from slm_runtime.codec import to_json
from unit.cli.api_server import GROUP
from unit.cli.golden import DATA, ROOT

TEAM = f"{GROUP}/namespaces/team"
DOCUMENT = from_csv(str(ROOT / DATA / "batch_sweep.csv"), str(ROOT / DATA / "replication.csv"), "opt-1.3b", None)
SPEC: dict[str, Any] = {"model": {"uri": "hf://facebook/opt-1.3b"}, "slo": {"itlFactor": 4}}
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


def condition(kind: str, status: str, message: str) -> dict[str, str]:
    return {
        "type": kind, "status": status, "reason": "Because", "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip


def deployed(ready: str = "True") -> dict[str, Any]:
    advice = advise_deployment(SLMDeploymentSpec.model_validate(SPEC), DOCUMENT)
    return MANIFEST | {
        "status": {
            "phase": "Serving",
            "conditions": [condition("Ready", ready, "all is well"), condition("Profiled", "True", "6 points")],
            "profile": {"name": PROFILE_NAME},
            "advice": advice_status(advice),
            "replicas": 2,
            "readyReplicas": 2,
        }
    }


def node(name: str, labels: dict[str, str], **allocatable: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": allocatable}}


H100 = {"nvidia.com/gpu.product": "NVIDIA-H100", "nvidia.com/gpu.count": "8"}
READY_CLUSTER: dict[str, Any] = {
    f"{TEAM}/slmdeployments": {"items": [deployed()]},
    f"{TEAM}/slmprofiles": {"items": [PROFILE]},
    f"{TEAM}/slmdeployments/opt": deployed(),
    f"{TEAM}/slmprofiles/{PROFILE_NAME}": PROFILE,
    "/apis/apps/v1/deployments": {"items": [{"status": {"readyReplicas": 2}}]},
    "/api/v1/nodes": {"items": [node("gpu-1", H100 | {"slm-operator.io/managed": "true"})]},
}
