"""A real control plane of plain processes, without a kubelet: for API, fault and scale tests.

    with control_plane() as cluster:
        cluster.add_kwok_nodes(2, resources={"nvidia.com/gpu.shared": 4})
        cluster.components["kube-apiserver"].restart()

    run/control-plane-<pid>-<id>/  owner.json  pids/  kubeconfig  etcd/  ...   goes with the control plane
    logs/control-plane-<...>/      <component>.log  audit.jsonl                stays, a few runs of it

Everything listens on loopback only. kwok plays the kubelets of the nodes it is given: pods become
Running, Jobs' pods Succeeded, no container ever runs. Durability is off: etcd survives a restart or a
SIGKILL here, not a power cut. It must never touch a process it has no record of.
"""

import base64
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .cluster import KUBECTL_SECONDS, kubectl
from .component import Component, ComponentError
from .control_plane_commands import components_of
from .docker_host import Process
from .ending import ended_in_order
from .gotools import binary, cache_dir
from .kwok_nodes import add_kwok_nodes
from .ports import free_ports

USERS = {  # one each, so that the audit log tells who asked
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "kwok": "system:masters",
}
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
KEPT_LOGS = 5
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running control plane. `components` are in the order in which they were started."""

    folder: Path
    logs: Path
    server: str  # the API server's URL
    tokens: Mapping[str, str] = field(repr=False)  # user -> bearer token
    components: dict[str, Component] = field(default_factory=dict)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.kubeconfig_of("admin")

    @property
    def ca_file(self) -> Path:
        """The certificates that prove the API server, in PEM."""
        return self.folder / "certs" / "apiserver.crt"

    @property
    def audit_log(self) -> Path:
        """A JSON object a line for each finished request, at Metadata level; absent where auditing is off."""
        return self.logs / "audit.jsonl"

    @property
    def pod_log(self) -> Path:
        """The file that is the log of every kwok pod, in the container runtime's format; see `write_pod_log`."""
        return self.folder / "pod.log"

    def kubeconfig_of(self, user: str) -> Path:
        """The kubeconfig of one of USERS."""
        return self.folder / f"{user.rpartition(':')[2]}.kubeconfig"

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_s: float = KUBECTL_SECONDS) -> str:
        """Run kubectl as administrator and give its stdout; KubectlError when it fails."""
        return kubectl(self.kubeconfig, *arguments, stdin=stdin, timeout_s=timeout_s)

    def add_kwok_nodes(
        self,
        count: int,
        *,
        prefix: str = "kwok",
        labels: Mapping[str, str] | None = None,
        resources: Mapping[str, int | str] | None = None,
    ) -> list[str]:
        """Add nodes that kwok plays, with extended resources and labels; give their names once all are Ready."""
        return add_kwok_nodes(
            self.server, self.tokens["admin"], self.ca_file, count, prefix=prefix, labels=labels, resources=resources
        )

    def write_pod_log(self, text: str) -> None:
        """Make `text` the log of every container on kwok nodes, in place of the empty one."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime())
        new = self.pod_log.with_suffix(".new")
        new.write_text("".join(f"{stamp} stdout F {line}\n" for line in text.splitlines()))
        new.rename(self.pod_log)

    def close(self) -> None:
        """End every process and remove the folder. The logs stay."""
        for component in reversed(self.components.values()):
            component.kill()  # its data goes too: there is nothing to save
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def control_plane(*, audit: bool = True, flags: Mapping[str, Sequence[str]] | None = None) -> Iterator[ControlPlane]:
    """Lend a control plane that is ready for pods in `default`; it goes with the block, whatever ends that.

    `flags` are appended to the named component's command, where the last one wins. ComponentError has
    the log of what failed.
    """
    with ended_in_order():
        if unknown := set(flags or ()) - set(COMPONENTS):
            raise ValueError(f"flags for unknown components {sorted(unknown)}; known: {', '.join(COMPONENTS)}")
        for program in (*COMPONENTS, "kubeadm", "kubectl"):
            binary(program)  # takes minutes when cold: before there is anything to clean up
        plane = _new(audit=audit, flags=flags or {})
        try:
            _start(plane)
            yield plane
        finally:
            plane.close()


def clean_leftovers() -> list[Path]:
    """End the processes and remove the folders of runs whose owner has gone; give those folders."""
    with _lock():
        left = [folder for folder in _runs_dir().glob("control-plane-*") if not _owner_lives(folder)]
        for folder in left:
            for record in folder.glob("pids/*.json"):
                if (process := Process.read(record)) is not None:
                    process.stop(grace_s=0)
            shutil.rmtree(folder)
    return left


def _new(*, audit: bool, flags: Mapping[str, Sequence[str]]) -> ControlPlane:
    clean_leftovers()
    name = f"control-plane-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{secrets.token_hex(2)}"
    folder, logs = _runs_dir() / name, cache_dir() / "logs" / name
    with _lock():
        (folder / "pids").mkdir(parents=True)
        Process.of(os.getpid()).write(folder / "owner.json")
    _drop_old_logs(logs.parent)
    logs.mkdir(parents=True)
    ports = dict(zip(("etcd", "peer", "api", "controllers", "scheduler", "kwok"), free_ports(6), strict=True))
    tokens = {user: secrets.token_hex(16) for user in USERS}
    plane = ControlPlane(folder, logs, f"https://127.0.0.1:{ports['api']}", tokens)
    for component in components_of(plane, ports, audit=audit):
        component.command += tuple(flags.get(component.name, ()))
        plane.components[component.name] = component
    return plane


def _start(plane: ControlPlane) -> None:
    folder = plane.folder
    made = subprocess.run(
        [binary("kubeadm"), "init", "phase", "certs", "sa", f"--cert-dir={folder}/sa"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise ComponentError(f"kubeadm could not make the service account keys: {made.stderr}")
    lines = (f'{plane.tokens[user]},{user},{user},"{group}"\n' for user, group in USERS.items())
    (folder / "tokens.csv").write_text("".join(lines))
    (folder / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))
    (folder / "kwok.json").write_text(json.dumps(_kwok_logs(plane.pod_log)))
    plane.write_pod_log("")
    etcd, api, *rest = plane.components.values()
    etcd.start()
    etcd.wait_ready()
    api.start()
    api.wait_ready()
    for user in USERS:
        _write_kubeconfig(plane, user)
    for component in rest:
        component.start()
    for component in rest:
        component.wait_ready()
    # Until this account is there, the API server refuses pods.
    plane.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=120s")


def _kwok_logs(pod_log: Path) -> dict[str, object]:
    spec = {"logs": [{"logsFile": str(pod_log), "follow": False}]}
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "ClusterLogs", "metadata": {"name": "all"}, "spec": spec}


def _write_kubeconfig(plane: ControlPlane, user: str) -> None:
    ca = base64.b64encode(plane.ca_file.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": {"server": plane.server, "certificate-authority-data": ca}}],
        "users": [{"name": user, "user": {"token": plane.tokens[user]}}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
        "current-context": "testbed",
    }
    path = plane.kubeconfig_of(user)
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1))


def _runs_dir() -> Path:
    return cache_dir() / "run"


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    _runs_dir().mkdir(parents=True, exist_ok=True)
    with (_runs_dir() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _owner_lives(folder: Path) -> bool:
    owner = Process.read(folder / "owner.json")
    return owner is not None and owner.alive


def _drop_old_logs(logs_dir: Path) -> None:
    for old in sorted(logs_dir.glob("control-plane-*"))[: -KEPT_LOGS + 1]:
        if not (_runs_dir() / old.name).exists():
            shutil.rmtree(old, ignore_errors=True)
