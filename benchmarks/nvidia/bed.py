"""One release of NVIDIA's stack on a control plane of its own, with the operator beside it: what the cases ask and do.

Everything is what a person does with kubectl. It must never judge: that is for `cases`.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_core.codec import to_json

from benchmarks.nvidia.containers import commands
from benchmarks.nvidia.played_node import Client, PlayedNode
from tests import builders as build
from tests.control_plane.commands import slm
from tests.control_plane.gpu_fleet import MODEL
from tests.control_plane.operator_process import OperatorProcess, operator
from tests.standin.deployment import CONFIGS, NAMESPACE, objects
from tests.standin.settings import Hardware
from tests.testbed.cluster import apply_crds
from tests.testbed.control_plane import ControlPlane, control_plane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.standin.releases import Release

Raw = dict[str, Any]
ROOT = Path(__file__).parents[2]
GPUS = 2
SETTINGS = "nodes: {projectionSeconds: 2, convergenceSeconds: 45}\nwatch: {intervalSeconds: 0}\n"
PATIENCE_SECONDS = 100
"""More than twice what a change may take here: what is not so by then is not going to be."""
OPT_IN = {"slm-operator.io/managed": "true"}
CASE = "case"
"""Label of a node, by which a case's engines come to it and to no other."""


@dataclass
class Bed:
    """The release, the cluster, and whoever plays in it."""

    release: Release
    plane: ControlPlane
    running: OperatorProcess
    folder: Path
    client: Client

    @contextlib.contextmanager
    def node(self, name: str, *, opted_in: bool = True, **labels: str) -> Iterator[PlayedNode]:
        """A GPU node, once its GPUs are shown."""
        every = dict(self.release.installed.node_labels) | {CASE: name} | labels | (OPT_IN if opted_in else {})
        with PlayedNode(self.plane, name, self.folder / name, self.folder / "bin", every) as node:
            until(lambda: self.allocatable(node) and self.labels(node, "nvidia.com/gpu.count"))
            yield node

    def deploy(self, name: str, *, replicas: int, **sharing: Any) -> None:
        """Say how engines are to run, on the node of this name."""
        spec = {
            "model": MODEL,
            "profiling": {"policy": "Never", "profileRef": {"name": "measured"}},
            "sharing": sharing,
            "accelerator": {"nodeSelector": {CASE: name}},
            "replicas": replicas,
        }
        self.apply(build.manifest("SLMDeployment", name, spec), "--namespace", "default")

    def delete(self, name: str) -> None:
        """Take it away."""
        self.plane.kubectl("delete", "slmd", name, "--namespace", "default", "--wait=false")

    def apply(self, one: Raw, *more: str) -> None:
        """As kubectl does."""
        self.plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", *more, stdin=json.dumps(one))

    def conditions(self, name: str) -> dict[str, Raw]:
        """What status says, by condition."""
        path = f"/apis/slm-operator.io/v1alpha1/namespaces/default/slmdeployments/{name}"
        found = self.client("GET", path).get("status", {})
        return {one["type"]: one for one in found.get("conditions", ())}

    def ready(self, name: str) -> bool:
        """Whether all that was asked for is so, in the present generation."""
        path = f"/apis/slm-operator.io/v1alpha1/namespaces/default/slmdeployments/{name}"
        found = self.client("GET", path)
        holds = {one["type"]: one["status"] for one in found.get("status", {}).get("conditions", ())}
        generation = found.get("status", {}).get("observedGeneration")
        return bool(holds.get("Ready") == "True" and generation == found["metadata"]["generation"])

    def said(self, name: str) -> str:
        """Ready and Allocated in one line, as `kubectl get` and `describe` show them."""
        conditions = self.conditions(name)
        shown = (conditions.get(kind) for kind in ("Ready", "Allocated"))
        lines = [f"{one['type']}={one['status']} {one['reason']}: {one['message']}" for one in shown if one]
        return "; ".join(dict.fromkeys(lines))

    def check(self) -> list[str]:
        """What `kubectl slm check` says that is not ok. NB: the operator is a process here, and no Deployment."""
        done = slm(self.plane.kubeconfig, "check", "-o", "json")
        found = json.loads(done.stdout)["findings"]
        return [
            f"{one['level']}: {one['check']}: {one['what']}"
            for one in found
            if one["level"] != "ok" and one["check"] not in {"Operator", "Settings"}
        ]

    def replicas(self, name: str) -> dict[str, Raw]:
        """Engines of a deployment by uid."""
        selector = f"labelSelector=slm-operator.io/deployment={name}"
        found = self.client("GET", f"/api/v1/namespaces/default/pods?{selector}").get("items", [])
        return {one["metadata"]["uid"]: one for one in found if "deletionTimestamp" not in one["metadata"]}

    @staticmethod
    def allocatable(node: PlayedNode) -> dict[str, int]:
        """GPUs and slices that the node shows."""
        shown = node.read().get("status", {}).get("allocatable", {})
        return {name.rpartition("/")[2]: int(count) for name, count in shown.items() if name.startswith("nvidia.com/")}

    @staticmethod
    def labels(node: PlayedNode, name: str) -> str | None:
        """One label."""
        found: str | None = node.read()["metadata"]["labels"].get(name)
        return found

    @staticmethod
    def marks(node: PlayedNode) -> list[str]:
        """What the operator has left on a node: its annotations, labels and taints, and the plugin's label."""
        raw = node.read()
        named = {**raw["metadata"]["labels"], **raw["metadata"].get("annotations", {})}
        taints = [one["key"] for one in raw["spec"].get("taints", ())]
        ours = [one for one in (*named, *taints) if one.startswith("slm-operator.io/")]
        return sorted({*ours, *(one for one in named if one == "nvidia.com/device-plugin.config")} - set(OPT_IN))

    @staticmethod
    def is_open(node: PlayedNode) -> bool:
        """Whether pods may come: no taint of ours."""
        return not any(one["key"].startswith("slm-operator.io/") for one in node.read()["spec"].get("taints", ()))

    def configuration(self, node: PlayedNode) -> str:
        """The text under the key that the node's label names."""
        found = self.client("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/{CONFIGS}")
        key = self.labels(node, "nvidia.com/device-plugin.config") or "default"
        text: str = found.get("data", {}).get(key, "")
        return text


def until(probe: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """What the probe gives once that is true; what it gave last where that does not come."""
    end = time.monotonic() + seconds
    while not (found := probe()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def measured() -> Raw:
    """The profile of all cases. NB: with a memory ledger, as a measurement has it: without one no pack can be sized."""
    document = replace(build.imported(), ledger=build.published_ledger("opt-1.3b"))
    return build.manifest("SLMProfile", "measured", {"model": MODEL, "measurements": to_json(document)})


@contextlib.contextmanager
def bed(release: Release, configs: dict[str, str]) -> Iterator[Bed]:
    """A control plane with this release installed, further keys in the plugin's ConfigMap, a profile, and the operator."""
    with tempfile.TemporaryDirectory(prefix="nv", ignore_cleanup_errors=True) as place, control_plane() as plane:
        folder = Path(place)
        commands(folder / "bin")
        (folder / "settings.yaml").write_text(SETTINGS)
        apply_crds(plane, ROOT / "crds")
        client = Client(plane)
        for one in objects(image=release.image, release=release, hardware=Hardware(count=GPUS)):
            made = one
            if made["metadata"]["name"] == "standin-probe":  # for kind: there is no kubelet here to ask
                continue
            if made["metadata"]["name"] == CONFIGS:
                made = made | {"data": made["data"] | configs}
            plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(made))
        plane.kubectl("apply", "--server-side", "-f", "-", "--namespace", "default", stdin=json.dumps(measured()))
        with (
            PlayedNode(plane, "infra", folder / "infra", folder / "bin", {}),
            operator(plane, f"--config={folder}/settings.yaml") as running,
        ):
            running.said("leading")
            yield Bed(release, plane, running, folder, client)
