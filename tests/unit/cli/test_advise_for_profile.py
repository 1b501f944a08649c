"""`kubectl slm advise --for -o slmprofile`: the profile to measure, from what somebody runs."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from unit.cli.asking import BATCH, Asker, container

from tests.builders import engines
from tests.builders.engines import IMAGE, MODEL, PRODUCT, deployment


def profiled(ask: Asker, raw: Any, *more: str) -> dict[str, Any]:
    code, out, err = ask(raw, *more, "-o", "slmprofile", measured=None)
    assert (code, err) == (0, "")
    found: dict[str, Any] = yaml.safe_load(out)
    return found


def test_profile_to_measure_is_that_of_the_workload(ask: Asker) -> None:
    own = container(
        f"{BATCH}=8", "--port=80", "--enforce-eager", "--max-model-len", "4k", "--dtype=half", "--trust-remote-code",
        env=[
            {"name": "VLLM_ATTENTION_BACKEND", "value": "FLASHINFER"}, {"name": "MY_API_KEY", "value": "secret"},
            {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "HF_TOKEN"}}},
        ],
        resources={"requests": {"cpu": "4"}, "limits": {"nvidia.com/gpu": "1", "memory": "16Gi"}},
    )  # fmt: skip
    toleration = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    manifest = profiled(ask, deployment(own, tolerations=[toleration]), "--input-tokens", "100", "--concurrency", "9")
    assert manifest["metadata"] == {"name": "chat-advice", "namespace": "team"}
    assert manifest["spec"] == {
        "model": {"uri": f"hf://{MODEL}", "remoteCode": "Trusted", "credentialsSecretRef": {"name": "hub"}},
        "engine": {
            "image": IMAGE, "args": ["--enforce-eager"], "env": [{"name": "VLLM_ATTENTION_BACKEND", "value": "FLASHINFER"}],
            "maxModelLen": 4000, "dtype": "float16",
        },
        "gpu": {"product": PRODUCT, "tolerations": [toleration]},
        "workload": {"inputTokens": 100, "outputTokens": 338, "concurrencyPerGpu": 9},
        "search": {"slo": {"itl": {"maxMs": 12.0, "statistic": "Mean"}}, "mode": "Exclusive", "minEfficiency": 0.01},
        "podTemplate": {
            "spec": {"containers": [{"name": "engine", "resources": {"requests": {"cpu": "4"}, "limits": {"memory": "16Gi"}}}]}
        },
    }  # fmt: skip


CLAIM = {"volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": "models"}}]}
MOUNTS = {"volumeMounts": [{"name": "m", "mountPath": "/models", "subPath": "llm"}]}
URIS: dict[str, tuple[Any, str]] = {
    "a hub's name": (deployment(container()), f"hf://{MODEL}"),
    "a path in a claim": (deployment({**container(), "args": ["/models/x"], **MOUNTS}, **CLAIM), "pvc://models/llm/x"),
    "a path in the image": (deployment({**container(), "args": ["/opt/model"]}), "/opt/model"),
    "a bucket": (deployment({**container(), "args": ["s3://bucket/m"]}), "s3://bucket/m"),
    "what KServe downloads": (engines.llm_inference_service(), f"hf://{MODEL}"),
    "KubeAI's address": (engines.kubeai_model(image=IMAGE, url=f"hf://{MODEL}?x=y"), f"hf://{MODEL}"),
}  # fmt: skip


def test_revision_in_kserves_address_is_kept(ask: Asker) -> None:
    raw = engines.llm_inference_service()
    raw["spec"]["model"]["uri"] = f"hf://{MODEL}:1234abc"
    assert profiled(ask, raw)["spec"]["model"] == {"uri": f"hf://{MODEL}", "revision": "1234abc"}


@pytest.mark.parametrize(("raw", "uri"), URIS.values(), ids=URIS)
def test_profile_has_the_model_where_the_workload_has_it(raw: Any, uri: str, ask: Asker) -> None:
    assert profiled(ask, raw)["spec"]["model"]["uri"] == uri


MOUNTED = [
    {"name": "vllm", "persistentVolumeClaim": {"claimName": "vllm-cpu", "readOnly": True}},
    {"name": "templates", "configMap": {"name": "chat-templates"}},
    {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
    {"name": "cache", "persistentVolumeClaim": {"claimName": "hub"}},
    {"name": "key", "secret": {"secretName": "key"}},
    {"name": "node", "hostPath": {"path": "/opt"}},
    {"name": "shm", "emptyDir": {"medium": "Memory"}},
]
"""Read-only content, the model, a folder that engines write to, and what no profile may have."""


def test_profile_mounts_what_the_engine_only_reads(ask: Asker) -> None:
    """An engine does not start without its chat template; its model is mounted anyway, and a cache is the other's own."""
    own = container("--chat-template=/templates/chat.jinja") | {
        "args": ["/models/opt", "--chat-template=/templates/chat.jinja"],
        "volumeMounts": [
            {"name": "vllm", "mountPath": "/opt/vllm"},
            {"name": "templates", "mountPath": "/templates"},
            {"name": "models", "mountPath": "/models", "readOnly": True},
            {"name": "cache", "mountPath": "/root/.cache"},
            {"name": "key", "mountPath": "/key"},
            {"name": "node", "mountPath": "/node", "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    manifest = profiled(ask, deployment(own, volumes=MOUNTED))
    assert manifest["spec"]["model"] == {"uri": "pvc://models/opt"}
    pod = manifest["spec"]["podTemplate"]["spec"]
    assert pod["volumes"] == [
        {"name": "of-workload-0", "persistentVolumeClaim": {"claimName": "vllm-cpu", "readOnly": True}},
        {"name": "of-workload-1", "configMap": {"name": "chat-templates"}},
    ]
    assert pod["containers"] == [
        {
            "name": "engine",
            "volumeMounts": [
                {"name": "of-workload-0", "mountPath": "/opt/vllm", "readOnly": True},
                {"name": "of-workload-1", "mountPath": "/templates", "readOnly": True},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (engines.kubeai_model(), "its image is not in it: set it there"),
        ({**engines.llm_inference_service(), "spec": {"template": {"containers": [{"name": "main", "image": IMAGE}]}}}, "from where its model comes into /mnt/models is not in it"),
        (deployment({"name": "e", "image": IMAGE}), "which model it serves is not in its arguments"),
        (deployment({**container(), "args": ["/m/x"], "volumeMounts": [{"name": "v", "mountPath": "/m"}]}), "is in volume v, which is no claim"),
        (deployment(container("--quantization q".replace(" ", "=")), nodeSelector={"slm-operator.io/x": "y"}), "labels of the operator's"),
    ],
    ids=["no image", "no address", "no model", "no claim", "a label of the operator's"],
)  # fmt: skip
def test_profile_that_nothing_could_measure_is_refused(raw: Any, sentence: str, ask: Asker) -> None:
    code, out, err = ask(raw, "-o", "slmprofile", measured=None)
    assert (code, out) == (2, "")
    assert sentence in err
