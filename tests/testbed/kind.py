"""A real Kubernetes node for tests, demo and play: kind, on whichever Docker engine can be had.

    with kind_cluster() as cluster:
        cluster.load_image(cluster.build(Path("images/operator/Dockerfile"), Path("."), "slm-operator:test"))
        cluster.kubectl("apply", "-f", "examples/")

    one cluster = one folder in the cache:  owner.json  kind-config.yaml  kubeconfig  audit/audit.log
    owner dies  -> the next user of the test bed deletes the cluster
    `kept` file -> it stays until `down()`

It assumes one node (the image made on the spot has a one-node pod network).
It must never touch a cluster that it did not make, nor the user's own kubeconfig.
"""

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .cluster import KUBECTL_SECONDS, kubectl
from .docker_engine import DockerError, Engine, docker_engine, keep, running_engine, unkeep
from .docker_host import Process
from .docker_images import build
from .ending import ended_in_order
from .gotools import binary, cache_dir
from .kind_config import kind_config
from .kind_node import node_image

KEPT_NAME = "slm"
READY_TIMEOUT_S = 400
SERVICES = "10.96.0.0/16"
"""Addresses of Services, by kind's default. What is for them never leaves a node untranslated."""
KEPT_LOGS = 5  # clusters


class KindError(RuntimeError):
    """kind failed; the message has what it printed and where the logs are."""


@dataclass(frozen=True, slots=True)
class KindCluster:
    """A kind cluster that is up: a `Cluster`, with a node to look into and images to bring."""

    name: str
    engine: Engine
    folder: Path

    @property
    def kubeconfig(self) -> Path:
        """The cluster's own kubeconfig; nothing is written to the user's."""
        return self.folder / "kubeconfig"

    @property
    def logs(self) -> Path:
        """The folder with the logs as they are now, or were at the end: node, kubelet, containerd, pods/."""
        folder = cache_dir() / "kind-logs" / self.name
        if _exists(self):
            _collect_logs(self, folder)
        return folder

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_s: float = KUBECTL_SECONDS) -> str:
        """Run kubectl and give its stdout; KubectlError when it fails."""
        return kubectl(self.kubeconfig, *arguments, stdin=stdin, timeout_s=timeout_s)

    @property
    def node(self) -> str:
        """The node's name, which is the name of its container too."""
        return f"{self.name}-control-plane"

    @property
    def node_ip(self) -> str:
        """The node's address, at which this machine reaches its NodePorts."""
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self.engine.docker("inspect", "--format", template, self.node).strip()

    @property
    def audit_log(self) -> Path:
        """The API server's audit log on this machine: a JSON object a line, requests at Metadata level."""
        return self.folder / "audit" / "audit.log"

    def exec(self, *command: str, timeout_s: float = 120) -> str:
        """Run a command on the node (not in a pod) and give its stdout; DockerError when it fails."""
        return self.engine.docker("exec", self.node, *command, timeout_s=timeout_s)

    def build(self, dockerfile: Path, context: Path, tag: str, build_args: Mapping[str, str] | None = None) -> str:
        """Build an image with `docker build` on the cluster's engine and give its tag."""
        return build(self.engine, dockerfile, context, tag, build_args)

    def load_image(self, *tags: str) -> None:
        """Bring images of the engine onto the node, under the same names."""
        _kind(self.engine, "load", "docker-image", *tags, "--name", self.name)


@contextlib.contextmanager
def kind_cluster(name: str | None = None) -> Iterator[KindCluster]:
    """Lend a new cluster, Ready; it and all that it needed is gone at the end, however the end comes."""
    with ended_in_order(), docker_engine() as engine:
        _sweep(engine)
        name = name or f"slm-{uuid.uuid4().hex[:6]}"
        cluster = _cluster(engine, name)
        try:
            _create(cluster)
            yield cluster
        finally:
            _delete(cluster)


def attach() -> KindCluster | None:
    """Give the cluster that `up` left running, if there is one."""
    folder = _home() / KEPT_NAME
    if not (folder / "kept").exists():
        return None
    engine = running_engine() or Engine.of_this_cache()
    cluster = _cluster(engine, KEPT_NAME)
    return cluster if _exists(cluster) else None


def up() -> KindCluster:
    """Start a cluster that stays until `down`, or give the one that runs already."""
    with ended_in_order(), docker_engine() as engine:
        if (running := attach()) is not None:
            return running
        _sweep(engine)
        cluster = _cluster(engine, KEPT_NAME)
        try:
            _create(cluster)
            keep(engine)
            (cluster.folder / "kept").touch()
        except BaseException:
            _delete(cluster)
            raise
        return cluster


def down() -> None:
    """Remove what `up` started, and what killed runs left."""
    if not any(_home().glob("*")) and not Engine.of_this_cache().folder.exists():
        return
    with docker_engine() as engine:
        _delete(_cluster(engine, KEPT_NAME))
        _sweep(engine)
    unkeep()


def sweep() -> None:
    """Remove what killed runs left; what `up` keeps stays, and so does everybody else's."""
    if any(_home().glob("*")) or Engine.of_this_cache().folder.exists():
        with docker_engine() as engine:
            _sweep(engine)


def _home() -> Path:
    return cache_dir() / "kind"


def _cluster(engine: Engine, name: str) -> KindCluster:
    return KindCluster(name, engine, _home() / name)


def _create(cluster: KindCluster) -> None:
    folder, engine = cluster.folder, cluster.engine
    folder.mkdir(parents=True)
    Process.of(os.getpid()).write(folder / "owner.json")
    mounts = {
        _made(cache_dir() / "engine-cpu"): ("/opt/slm/engine-cpu", True),
        _made(cache_dir() / "models"): ("/opt/slm/models", True),
        _made(folder / "audit"): ("/var/log/kubernetes", False),
    }
    config = folder / "kind-config.yaml"
    config.write_text(kind_config(node_image(engine) if engine.private else None, mounts))
    try:
        _kind(
            *(engine, "create", "cluster", "--name", cluster.name, "--config", str(config)),
            *("--kubeconfig", str(cluster.kubeconfig), "--wait", f"{READY_TIMEOUT_S}s", "--retain"),
            timeout_s=READY_TIMEOUT_S + 120,
        )
    except (KindError, subprocess.TimeoutExpired) as error:
        raise KindError(f"no cluster {cluster.name!r}; its logs are in {cluster.logs}\n{error}") from error
    # NB: while kube-proxy writes, a Service is for an instant neither refused nor translated (it restores one table after the
    # other), and what is sent to it goes out by the machine's own way: there somebody may answer, with a 404 for instance.
    cluster.exec("iptables", "--insert", "FORWARD", "--destination", SERVICES, "--jump", "REJECT")
    # NB: kind returns when the node is Ready; no pod can be created before this account is there.
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=240s")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _delete(cluster: KindCluster) -> None:
    """Delete a cluster and its folder, whatever is left of them; its logs are kept for a while."""
    logs = cluster.logs
    _kind(cluster.engine, "delete", "cluster", "--name", cluster.name, "--kubeconfig", str(cluster.kubeconfig))
    shutil.rmtree(cluster.folder, ignore_errors=True)
    newest_first = sorted(logs.parent.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in newest_first[KEPT_LOGS:]:
        shutil.rmtree(old, ignore_errors=True)


def _sweep(engine: Engine) -> None:
    """Delete the clusters whose owner is no more."""
    for folder in sorted(path for path in _home().glob("*") if path.is_dir()):
        cluster = _cluster(engine, folder.name)
        owner = Process.read(folder / "owner.json")
        kept = (folder / "kept").exists() and _exists(cluster)
        if not kept and (owner is None or not owner.alive):
            _delete(cluster)


def _exists(cluster: KindCluster) -> bool:
    try:
        return bool(cluster.engine.docker("ps", "--quiet", "--filter", f"name=^{cluster.node}$").strip())
    except DockerError:
        return False


def _collect_logs(cluster: KindCluster, folder: Path) -> None:
    """Bring the node's journal and every container's log into `folder`, in place of earlier ones."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    journal = ("exec", cluster.node, "journalctl", "--no-pager")
    sources = {
        "node": ("logs", cluster.node),
        "kubelet": (*journal, "--unit=kubelet"),
        "containerd": (*journal, "--unit=containerd"),
    }
    for name, command in sources.items():
        try:
            text = cluster.engine.docker(*command)
        except DockerError as error:
            text = f"{error}\n"
        (folder / f"{name}.log").write_text(text)
    with contextlib.suppress(DockerError):  # a node that never came so far has no pods
        cluster.engine.docker("cp", f"{cluster.node}:/var/log/pods", str(folder / "pods"))


def _kind(engine: Engine, *arguments: str, timeout_s: float = 600) -> None:
    done = subprocess.run(
        [binary("kind"), *arguments], env=engine.env(), capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        printed = (done.stderr or done.stdout).strip()[-4000:]
        raise KindError(f"kind {' '.join(arguments[:4])} failed ({done.returncode}): {printed}")
