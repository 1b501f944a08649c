"""Karpenter with its provider for kwok, on a control plane: an autoscaler of nodes that makes real decisions about played nodes.

It makes nodes for pods that wait, and takes away those that are empty, by its own code; what it makes are kwok's nodes, whose
device plugin is that of gpu_fleet. Must never be lent to a test whose nodes are not of one of its NodePools: it leaves those alone.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from tests.control_plane.gpu_fleet import GPU
from tests.testbed.cluster import apply_crds
from tests.testbed.component import Component
from tests.testbed.gotools import binary, sources
from tests.testbed.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.testbed.control_plane import ControlPlane

NODE_CLASS = {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "kwok"}
ZONE, ON_DEMAND = "zone-a", "on-demand"


@contextlib.contextmanager
def karpenter(plane: ControlPlane, folder: Path) -> Iterator[Component]:
    """Lend a Karpenter that has one instance type, with one GPU."""
    program = binary("kwok-karpenter")
    module = sources("karpenter", "sigs.k8s.io/karpenter")
    apply_crds(plane, module / "pkg" / "apis" / "crds", module / "kwok" / "apis" / "crds")
    kind = {"apiVersion": "karpenter.kwok.sh/v1alpha1", "kind": NODE_CLASS["kind"], "metadata": {"name": "kwok"}}
    apply(plane, kind | {"spec": {}})
    types = folder / "instance_types.json"
    types.write_text(json.dumps([instance_type()]))
    metrics, health = free_ports(2)
    command = (
        *(
            "env",
            f"KUBECONFIG={plane.kubeconfig}",
            "SYSTEM_NAMESPACE=default",
            str(program),
            "--disable-leader-election",
        ),
        *(f"--metrics-port={metrics}", f"--health-probe-port={health}", f"--instance-types-file-path={types}"),
        *("--batch-idle-duration=200ms", "--batch-max-duration=1s"),
    )
    controller = Component(
        *("karpenter", command, plane.folder / "pids", plane.logs / "karpenter.log"),
        ready_url=f"http://127.0.0.1:{health}/readyz",
    )
    controller.start()
    try:
        controller.wait_ready()
        yield controller
    finally:
        controller.kill()


def instance_type() -> dict[str, Any]:
    """A machine with one GPU, as Karpenter's provider for kwok describes one."""
    asked = {"karpenter.sh/capacity-type": ON_DEMAND, "topology.kubernetes.io/zone": ZONE}
    requirements = [{"key": key, "operator": "In", "values": [value]} for key, value in asked.items()]
    return {
        "name": "g-16x-amd64-linux",
        "offerings": [{"Price": 1.0, "Available": True, "Requirements": requirements}],
        "architecture": "amd64",
        "operatingSystems": ["linux"],
        "resources": {"cpu": "64", "memory": "512Gi", "ephemeral-storage": "100Gi", "pods": "110", GPU: "1"},
    }


def node_pool(plane: ControlPlane, name: str, labels: Mapping[str, str], *, consolidate_after: str) -> None:
    """A pool whose nodes have these labels when they come, and go that long after they were emptied."""
    spec = {
        "template": {
            "metadata": {"labels": dict(labels)},
            "spec": {"nodeClassRef": NODE_CLASS, "requirements": [], "expireAfter": "Never"},
        },
        "disruption": {"consolidationPolicy": "WhenEmpty", "consolidateAfter": consolidate_after},
    }
    apply(plane, {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": name}, "spec": spec})


def nodes_of(plane: ControlPlane, pool: str) -> list[dict[str, Any]]:
    """Nodes of a pool."""
    listed = plane.kubectl("get", "nodes", f"--selector=karpenter.sh/nodepool={pool}", "--output=json")
    found: list[dict[str, Any]] = json.loads(listed)["items"]
    return found


def apply(plane: ControlPlane, body: dict[str, Any], *more: str) -> None:
    """One object."""
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", *more, stdin=json.dumps(body))
