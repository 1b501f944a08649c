"""Nodes without machines: kwok plays their kubelets.

Written straight over HTTP, since tests of scale add thousands.
"""

import json
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import urllib3

from .component import wait_until

WRITERS = 8
GROUP_LABEL = "testbed/group"  # tells the nodes of one call from others


def kwok_node(name: str, labels: Mapping[str, str], resources: Mapping[str, int | str]) -> dict[str, Any]:
    """A Node that kwok takes charge of. `resources` become capacity and allocatable, beside roomy defaults."""
    amounts = {"cpu": "64", "memory": "512Gi", "pods": "250"} | {key: str(value) for key, value in resources.items()}
    standard = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "type": "kwok",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**standard, **labels}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def add_kwok_nodes(
    server: str,
    token: str,
    ca_file: Path,
    count: int,
    *,
    prefix: str = "kwok",
    labels: Mapping[str, str] | None = None,
    resources: Mapping[str, int | str] | None = None,
) -> list[str]:
    """Create `count` nodes "<prefix>-<i>" and give their names once all are Ready; RuntimeError on a refusal."""
    group = secrets.token_hex(4)
    names = [f"{prefix}-{number}" for number in range(count)]
    with urllib3.PoolManager(
        ca_certs=str(ca_file), maxsize=WRITERS, headers={"Authorization": f"Bearer {token}"}
    ) as http:

        def create(name: str) -> None:
            node = kwok_node(name, {**(labels or {}), GROUP_LABEL: group}, resources or {})
            answer = http.request("POST", f"{server}/api/v1/nodes", json=node)
            if answer.status != 201:
                raise RuntimeError(f"node {name} was refused ({answer.status}): {answer.json().get('message')}")

        def all_ready() -> bool:
            listed = http.request("GET", f"{server}/api/v1/nodes?labelSelector={GROUP_LABEL}={group}&resourceVersion=0")
            return sum(_ready(node) for node in json.loads(listed.data)["items"]) == count

        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(create, names))
        wait_until(all_ready, f"{count} kwok nodes to become Ready", timeout_s=120 + count / 20)
    return names


def _ready(node: Mapping[str, Any]) -> bool:
    conditions = node["status"].get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
