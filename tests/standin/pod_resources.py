"""Which pod holds which device: the kubelet's pod-resources API as JSON.

    kubectl exec ... -- pod-resources [socket]      (in the stand-in's pods, which have the socket)
    [{"namespace": ..., "pod": ..., "container": ..., "resource": "nvidia.com/gpu.shared", "device_ids": ["GPU-...::0"]}]

Tests reach a node only through a process on it, so they run this in the stand-in's image.
"""

import json
import sys
from pathlib import Path
from typing import Any

import grpc

from .kubelet_api import podresources_v1_pb2 as api
from .kubelet_api import podresources_v1_pb2_grpc as rpc

SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")


def allocations(socket: Path = SOCKET, *, timeout_s: float = 10) -> list[dict[str, Any]]:
    """Every container with devices, one record for each of its resources. Raises grpc.RpcError.

    The kubelet reports devices in several entries of one resource (by NUMA node); here they are one.
    """
    with grpc.insecure_channel(f"unix://{socket}") as channel:
        answer = rpc.PodResourcesListerStub(channel).List(api.ListPodResourcesRequest(), timeout=timeout_s)
    held: dict[tuple[str, str, str, str], list[str]] = {}
    for pod in answer.pod_resources:
        for container in pod.containers:
            for devices in container.devices:
                key = (pod.namespace, pod.name, container.name, devices.resource_name)
                held.setdefault(key, []).extend(devices.device_ids)
    names = ("namespace", "pod", "container", "resource")
    return [dict(zip(names, key, strict=True)) | {"device_ids": sorted(ids)} for key, ids in sorted(held.items())]


def main() -> None:
    """Print the allocations of this node."""
    print(json.dumps(allocations(*map(Path, sys.argv[1:2]))))
