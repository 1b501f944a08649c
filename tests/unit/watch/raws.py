"""Raw objects as the API server gives them, with only what a test needs."""

from typing import Any

Raw = dict[str, Any]


def meta(name: str, *, version: int = 1, namespace: str = "ns", uid: str = "", **rest: Any) -> Raw:
    head = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return head | {"uid": uid or f"uid-{name}", "resourceVersion": str(version)} | rest


def gpu_pod(
    name: str,
    *,
    version: int = 1,
    gpus: int = 1,
    labels: dict[str, str] | None = None,
    owners: list[Raw] | None = None,
    **status: Any,
) -> Raw:
    limits = {"cpu": "2"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return {
        "metadata": meta(name, version=version, labels=labels or {}, ownerReferences=owners or []),
        "spec": {"nodeName": "n1", "containers": [{"name": "engine", "resources": {"limits": limits}}]},
        "status": {"phase": "Running"} | status,
    }


def page(kind: str, *items: Raw, version: int = 100, more: bool = False) -> Raw:
    metadata = {"resourceVersion": str(version)} | ({"continue": "next"} if more else {})
    return {"kind": f"{kind}List", "metadata": metadata, "items": list(items)}
