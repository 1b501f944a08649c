"""Workloads of others that run an engine, each as a person writes it."""

from __future__ import annotations

from typing import Any

Raw = dict[str, Any]
IMAGE = "vllm/vllm-openai:v0.32.0"
PRODUCT = "NVIDIA-H100-64GB"
MODEL = "org/model"


def deployment(container: Raw | None = None, *beside: Raw, kind: str = "Deployment", **pod: Any) -> Raw:
    """A Deployment with this engine's container, and others beside it."""
    own = {"name": "engine", "image": IMAGE, "args": [MODEL]} if container is None else container
    spec = {"nodeSelector": {"nvidia.com/gpu.product": PRODUCT}, "containers": [*beside, own]} | pod
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "chat", "namespace": "team"},
        "spec": {"template": {"spec": spec}},
    }


def shell(script: str, *, image: str = IMAGE, env: dict[str, str] | None = None, args: tuple[str, ...] = ()) -> Raw:
    """A container whose shell starts the engine."""
    variables = [{"name": name, "value": value} for name, value in (env or {}).items()]
    return {"name": "engine", "image": image, "command": ["sh", "-c", script], "env": variables} | (
        {"args": list(args)} if args else {}
    )


def runtime(kind: str = "ServingRuntime", name: str = "vllm", **container: Any) -> Raw:
    """A KServe runtime that starts vLLM on what KServe downloads."""
    served = {
        "name": "kserve-container",
        "image": IMAGE,
        "command": ["vllm", "serve", "/mnt/models"],
        "args": ["--port=8080", "--served-model-name={{.Name}}"],
    } | container
    return {
        "apiVersion": "serving.kserve.io/v1alpha1", "kind": kind, "metadata": {"name": name},
        "spec": {"containers": [served]},
    }  # fmt: skip


def inference_service(*, runtime_name: str | None = "vllm", **model: Any) -> Raw:
    """An InferenceService of that runtime."""
    named = {} if runtime_name is None else {"runtime": runtime_name}
    body = {"modelFormat": {"name": "vLLM"}, "storageUri": f"hf://{MODEL}"} | named | model
    return {
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": "chat", "namespace": "team"},
        "spec": {"predictor": {"nodeSelector": {"nvidia.com/gpu.product": PRODUCT}, "model": body}},
    }  # fmt: skip


def llm_inference_service(**container: Any) -> Raw:
    """An LLMInferenceService, whose command KServe brings."""
    return {
        "apiVersion": "serving.kserve.io/v1alpha1", "kind": "LLMInferenceService", "metadata": {"name": "chat"},
        "spec": {
            "model": {"uri": f"hf://{MODEL}", "name": MODEL},
            "template": {"containers": [{"name": "main", "image": IMAGE} | container]},
        },
    }  # fmt: skip


def kubeai_model(**spec: Any) -> Raw:
    """A Model of KubeAI."""
    body = {
        "features": ["TextGeneration"],
        "url": f"hf://{MODEL}",
        "engine": "VLLM",
        "resourceProfile": "nvidia-gpu-l4:1",
    }
    return {"apiVersion": "kubeai.org/v1", "kind": "Model", "metadata": {"name": "chat"}, "spec": body | spec}
