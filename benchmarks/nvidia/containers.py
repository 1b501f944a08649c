"""Containers of the stand-in as plain processes: a folder stands for the root of each pod, and what a kubelet would mount is linked into it.

A process that ends is started again after a back-off, a tenth of a kubelet's. It must never end a process that it did not start.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Raw = dict[str, Any]
TESTS = Path(__file__).parents[2] / "tests"
COMMANDS = ("nvidia-device-plugin", "config-manager", "gpu-feature-discovery", "mps-control-daemon", "nfd-master")
BACK_OFF_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
RETRY_SECONDS = 3
"""A tenth of the plugin's patience with an MPS daemon."""


def commands(folder: Path) -> Path:
    """A folder for PATH with the stand-in's commands."""
    folder.mkdir()
    for name in COMMANDS:
        script = folder / name
        script.write_text(f"#!{sys.executable}\n" + (TESTS / "standin" / "command.py").read_text())
        script.chmod(0o755)
    return folder


def now() -> str:
    """As Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Container:
    """One container and its process."""

    spec: Raw
    root: Path
    environment: Mapping[str, str]
    processes: tuple[Path, ...]
    """Folders that stand for /proc."""
    log: Path
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    started: str = ""
    last: Raw = field(default_factory=dict)
    not_before: float = 0.0

    def start(self) -> None:
        """Run it."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*self.spec["command"], *self.spec.get("args", ())],
                env=dict(self.environment),
                stdout=out,
                stderr=out,
                cwd=self.root,
                start_new_session=True,
            )
        self.started = now()
        for folder in self.processes:
            (folder / str(self.process.pid)).symlink_to(f"/proc/{self.process.pid}")

    def reap(self) -> int | None:
        """What it has ended with; None while it runs or has never run."""
        if self.process is None or (code := self.process.poll()) is None:
            return None
        for folder in self.processes:
            (folder / str(self.process.pid)).unlink(missing_ok=True)
        self.process = None
        self.last = {
            "terminated": {"exitCode": code & 0xFF, "reason": "Error" if code else "Completed", "finishedAt": now()}
        }
        return code

    def restart_when_due(self) -> None:
        """Begin again, once the back-off is over."""
        if self.process is None and time.monotonic() >= self.not_before:
            self.restarts += 1
            self.start()

    def ended(self) -> None:
        """Its process has ended by itself: wait for a while."""
        self.not_before = time.monotonic() + BACK_OFF_SECONDS[min(self.restarts, len(BACK_OFF_SECONDS) - 1)]

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to its process."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def status(self) -> Raw:
        """As a kubelet reports it."""
        running = self.process is not None
        waiting = {"waiting": {"reason": "CrashLoopBackOff" if self.last else "PodInitializing"}}
        return {
            "name": self.spec["name"],
            "image": self.spec["image"],
            "imageID": "",
            "ready": running,
            "started": running,
            "restartCount": self.restarts,
            "state": {"running": {"startedAt": self.started}} if running else waiting,
            "lastState": self.last,
        }


class Pod:
    """A pod of NVIDIA's stack, as processes."""

    def __init__(self, raw: Raw, folder: Path, node: Path, environment: Mapping[str, str], commands_at: Path) -> None:
        """`node`: the folder that stands for the node's root; `environment`: what every container has."""
        self.raw, self.folder = raw, folder
        self._spec = raw["spec"]
        proc = node / "proc" if self._spec.get("hostPID") else folder / "proc-of-pod"
        proc.mkdir(parents=True, exist_ok=True)
        every = tuple(dict.fromkeys((proc, node / "proc")))
        self._node, self._base = node, dict(environment) | {"PATH": f"{commands_at}:{os.environ['PATH']}"}
        self._proc = proc
        kinds = ((True, self._spec.get("initContainers", ())), (False, self._spec["containers"]))
        self.init: list[Container] = []
        self.containers: list[Container] = []
        for is_init, specs in kinds:
            for spec in specs:
                root = self._root(spec)
                made = Container(spec, root, self._environment(spec, root), every, folder / f"{spec['name']}.log")
                (self.init if is_init else self.containers).append(made)
        self._ending: float | None = None
        self._started = False

    def _root(self, spec: Raw) -> Path:
        root = self.folder / spec["name"][-12:]
        volumes = {one["name"]: one for one in self._spec.get("volumes", ())}
        root.mkdir()
        (root / "proc").symlink_to(self._proc)
        for mount in spec.get("volumeMounts", ()):
            place = root / mount["mountPath"].lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(self._source(volumes[mount["name"]]))
        return root

    def _source(self, volume: Raw) -> Path:
        if "hostPath" in volume:
            host = self._node / volume["hostPath"]["path"].lstrip("/")
            host.mkdir(parents=True, exist_ok=True)
            return host
        if "projected" in volume:  # the token of its account
            return self._node / "account"
        if "configMap" in volume:
            return self._node / "configs"
        empty = self.folder / volume["name"]
        empty.mkdir(exist_ok=True)
        return empty

    def _environment(self, spec: Raw, root: Path) -> dict[str, str]:
        meta = self.raw["metadata"]
        fields = {
            "spec.nodeName": self._spec["nodeName"],
            "metadata.namespace": meta["namespace"],
            "metadata.name": meta["name"],
        }
        found = dict(self._base) | {"STANDIN_ROOT": str(root)}
        for one in spec.get("env", ()):
            asked = one.get("valueFrom")
            found[one["name"]] = fields[asked["fieldRef"]["fieldPath"]] if asked else one.get("value", "")
        return found

    def container(self, name: str) -> Container:
        """One of its containers."""
        return next(one for one in self.containers if one.spec["name"] == name)

    def step(self) -> None:
        """What has to be done now: the next init container, all containers, or those that have ended."""
        if self._ending is not None:
            return
        if self.init:
            first = self.init[0]
            code = first.reap()
            if code == 0:
                self.init.pop(0)
            elif code is not None:
                first.ended()
            elif not first.started:
                first.start()
            else:
                first.restart_when_due()
            return
        for one in self.containers:
            if not one.started:
                one.start()
            elif one.reap() is not None:
                one.ended()
            else:
                one.restart_when_due()

    def end(self, seconds: float) -> bool:
        """Ask it to end, and say whether it has. After so many seconds it is killed."""
        first = self._ending is None
        if self._ending is None:
            self._ending = time.monotonic() + seconds
        for one in (*self.init, *self.containers):
            one.reap()
            if first:
                one.kill(signal.SIGTERM)
            elif time.monotonic() > self._ending:
                one.kill(signal.SIGKILL)
        return all(one.process is None for one in (*self.init, *self.containers))

    def status(self) -> Raw:
        """As a kubelet reports it."""
        ready = not self.init and all(one.process is not None for one in self.containers)
        return pod_status(ready=ready, running=not self.init, containers=[one.status() for one in self.containers])

    def remove(self) -> None:
        """Its folder, once nothing of it runs."""
        shutil.rmtree(self.folder, ignore_errors=True)


def pod_status(*, ready: bool, running: bool, containers: list[Raw]) -> Raw:
    """A pod's status."""
    says = {True: "True", False: "False"}
    conditions = {"Initialized": running, "Ready": ready, "ContainersReady": ready, "PodScheduled": True}
    return {
        "phase": "Running" if running else "Pending",
        "conditions": [{"type": name, "status": says[holds]} for name, holds in conditions.items()],
        "containerStatuses": containers,
    }
