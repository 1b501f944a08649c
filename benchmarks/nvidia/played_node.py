"""A GPU node whose kubelet is played, on a real control plane: NVIDIA's pods are the stand-in's processes, engines only seem to run.

    pods of the node -> processes, with restarts -> status        the plugin's socket -> devices -> capacity, allocatable
    the plugin's ConfigMap -> the folder of the volume            a pod's request -> Allocate -> what it is given

Ten times as quick as a kubelet: back-off, reports of the node, the plugin's patience. It must never touch pods of other nodes.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import urllib3

from benchmarks.nvidia.containers import RETRY_SECONDS, TESTS, Pod, now, pod_status
from tests.standin.deployment import CONFIGS, NAMESPACE
from tests.standin.settings import FAULTS_ANNOTATION
from tests.unit.standin.fake_kubelet import AdmissionError, FakeKubelet, project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.testbed.control_plane import ControlPlane

Raw = dict[str, Any]
TICK_SECONDS = 0.2
REPORT_SECONDS = 1.0
HEARTBEAT_SECONDS = 10.0
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
ROOMY = {"cpu": "64", "memory": "512Gi", "pods": "250"}


class Client:
    """The API server, as administrator."""

    def __init__(self, plane: ControlPlane) -> None:
        """Ready to ask."""
        self._server = plane.server
        headers = {"Authorization": f"Bearer {plane.tokens['admin']}"}
        self._http = urllib3.PoolManager(ca_certs=str(plane.ca_file), headers=headers, maxsize=8)

    def __call__(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Raw:
        """The answer; {} for what is not there, or has changed meanwhile."""
        sent = None if body is None else json.dumps(body)
        headers = {**self._http.headers, "Content-Type": kind}
        answer = self._http.request(method, self._server + path, body=sent, headers=headers)
        if answer.status in {404, 409}:
            return {}
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.data[:400]!r}")
        found: Raw = answer.json()
        return found


@dataclass
class Engine:
    """A pod that asks for a GPU, or for nothing, and only seems to run."""

    raw: Raw
    resource: str | None = None
    devices: list[str] = field(default_factory=list)
    given: Raw = field(default_factory=dict)
    status: Raw = field(default_factory=dict)


class PlayedNode:
    """Use it as a context."""

    def __init__(self, plane: ControlPlane, name: str, folder: Path, commands: Path, labels: Mapping[str, str]) -> None:
        """`folder`: stands for the node's root, and must be short, for it has sockets below."""
        self.name, self.folder = name, folder
        self._client, self._commands = Client(plane), commands
        host, _, port = plane.server.removeprefix("https://").rpartition(":")
        for place in ("account", "configs", "proc", "var/lib/kubelet/device-plugins"):
            (folder / place).mkdir(parents=True)
        shutil.copy(plane.ca_file, folder / "account/ca.crt")
        (folder / "account/token").write_text(plane.tokens["admin"])
        self._environment = {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "PYTHONPATH": str(TESTS),
            "RETRY_S": str(RETRY_SECONDS),
        }
        self._labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"} | dict(labels)
        self.kubelet = FakeKubelet(folder / "var/lib/kubelet/device-plugins")
        self.pods: dict[str, Pod] = {}
        self.engines: dict[str, Engine] = {}
        self.silent = False
        """Whether the node's resources are not reported for now."""
        self._written: dict[str, str] = {}
        self._reported, self._beat, self._configs, self._generation = "", 0.0, "", 0
        self._report_at = 0.0
        self._error: Exception | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    def __enter__(self) -> Self:
        hardware = self._client("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/standin-hardware")
        self._environment |= hardware.get("data", {})
        head = {"name": self.name, "labels": self._labels}
        self._client("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": head})
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()
        for pod in self.pods.values():
            while not pod.end(5):
                time.sleep(0.05)
        self.kubelet.stop()
        for path in [one["metadata"] for one in self._listed()]:
            self._remove(path)
        self._client("DELETE", f"/api/v1/nodes/{self.name}")
        shutil.rmtree(self.folder, ignore_errors=True)

    def read(self) -> Raw:
        """The node's object. Raises what has ended the play."""
        if self._error is not None:
            raise self._error
        return self._client("GET", f"/api/v1/nodes/{self.name}")

    def label(self, **labels: str | None) -> None:
        """Set labels, or take them away."""
        self._client("PATCH", f"/api/v1/nodes/{self.name}", {"metadata": {"labels": labels}}, MERGE)

    def fault(self, text: str) -> None:
        """Switch faults of the stand-in."""
        patch = {"metadata": {"annotations": {FAULTS_ANNOTATION: text}}}
        self._client("PATCH", f"/api/v1/nodes/{self.name}", patch, MERGE)

    def part(self, container: str) -> Pod | None:
        """The pod of NVIDIA's stack that has a container of this name."""
        for pod in list(self.pods.values()):
            if any(one.spec["name"] == container for one in pod.containers):
                return pod
        return None

    def mps(self, name: str) -> Any:
        """What a file below the MPS root says: `limits`, `compute-mode`."""
        path = self.folder / "run/nvidia/mps" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def _run(self) -> None:
        try:
            while not self._over.wait(TICK_SECONDS):
                self._project()
                for raw in self._listed():
                    self._play(raw)
                self._report()
        except Exception as error:  # noqa: BLE001 - whoever asks the node next is told
            self._error = error

    def _listed(self) -> list[Raw]:
        found = self._client("GET", f"/api/v1/pods?fieldSelector=spec.nodeName={self.name}")
        listed: list[Raw] = found.get("items", [])
        return listed

    def _play(self, raw: Raw) -> None:
        meta, uid = raw["metadata"], raw["metadata"]["uid"]
        if "deletionTimestamp" in meta:
            self._end(raw)
            return
        if meta["namespace"] == NAMESPACE:
            if uid not in self.pods:
                folder = self.folder / f"p{len(self._written)}"
                self._written[uid] = ""
                folder.mkdir()
                self.pods[uid] = Pod(raw, folder, self.folder, self._environment, self._commands)
            pod = self.pods[uid]
            pod.step()
            self._write(raw, pod.status())
            return
        if uid not in self.engines:
            self.engines[uid] = self._admitted(raw)
        self._write(raw, self.engines[uid].status)

    def _admitted(self, raw: Raw) -> Engine:
        """As the kubelet admits it. NB: a device that goes away later takes no pod with it."""
        engine = Engine(raw)
        for container in raw["spec"]["containers"]:
            limits = container.get("resources", {}).get("limits", {})
            for resource in ("nvidia.com/gpu", "nvidia.com/gpu.shared"):
                if count := int(limits.get(resource, 0)):
                    try:
                        engine.devices, answer = self.kubelet.admit(resource, count)
                    except (AdmissionError, KeyError, IndexError) as error:
                        engine.status = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": str(error)}
                        return engine
                    engine.resource = resource
                    mounts = {one.container_path: one.host_path for one in answer.mounts}
                    engine.given = {"env": dict(answer.envs), "mounts": mounts}
        running = [
            {
                "name": one["name"],
                "image": one["image"],
                "imageID": "",
                "ready": True,
                "started": True,
                "restartCount": 0,
            }
            | {"state": {"running": {"startedAt": now()}}}
            for one in raw["spec"]["containers"]
        ]
        engine.status = pod_status(ready=True, running=True, containers=running)
        return engine

    def _end(self, raw: Raw) -> None:
        uid = raw["metadata"]["uid"]
        if (pod := self.pods.get(uid)) is not None:
            if not pod.end(raw["metadata"].get("deletionGracePeriodSeconds", 30)):
                return
            del self.pods[uid]
            pod.remove()
        if (engine := self.engines.pop(uid, None)) is not None and engine.resource:
            self.kubelet.release(engine.resource, engine.devices)
        self._remove(raw["metadata"])

    def _remove(self, meta: Raw) -> None:
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self._client("DELETE", path, {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}})

    def _write(self, raw: Raw, status: Raw) -> None:
        meta, text = raw["metadata"], json.dumps(status)
        if self._written.get(meta["uid"]) == text:
            return
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        self._client(
            "PATCH", path, {"metadata": {"uid": meta["uid"]}, "status": {"startTime": now()} | status}, STRATEGIC
        )
        self._written[meta["uid"]] = text

    def _project(self) -> None:
        found = self._client("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/{CONFIGS}")
        data = found.get("data", {})
        if (text := json.dumps(data)) == self._configs:
            return
        self._configs, self._generation = text, self._generation + 1
        project(self.folder / "configs", data, self._generation)

    def _report(self) -> None:
        at = time.monotonic()
        if self.silent or at < self._report_at:
            return
        capacity, allocatable = self.kubelet.capacity, self.kubelet.allocatable
        amounts = {
            "capacity": ROOMY | {name: str(count) for name, count in capacity.items()},
            "allocatable": ROOMY | {name: str(count) for name, count in allocatable.items()},
        }
        if (text := json.dumps(amounts)) == self._reported and at < self._beat:
            return
        ready = {"type": "Ready", "status": "True", "reason": "Played", "message": "", "lastHeartbeatTime": now()}
        status = amounts | {"conditions": [ready], "nodeInfo": {"kubeletVersion": "v1.35.4"}}
        self._client("PATCH", f"/api/v1/nodes/{self.name}/status", {"status": status}, STRATEGIC)
        self._reported, self._beat = text, at + HEARTBEAT_SECONDS
        self._report_at = at + REPORT_SECONDS
