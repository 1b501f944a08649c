"""A Docker engine for the test bed: the machine's own where one answers, else a private one.

    with docker_engine() as engine:
        engine.docker("ps")

Life of the private engine, which all users on a machine share:

    first lease:  install Debian's packages -> record the machine -> dockerd
    more leases:  the same dockerd
    last lease:   containers, networks, volumes -> dockerd -> the machine as recorded

A lease is a file that names a process. It counts while that process lives, so a killed run's
lease lapses by itself, and the next start or stop cleans up. A lease that names dockerd itself is
one for keeps (`make cluster-up`).

Images are expensive and stay in the cache folder between engines. Nothing else stays.
It must never stop, reconfigure or clean an engine that was there before.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.suite.marks import STAGE, TEST, without

from .debian import AptError, install
from .docker_host import Baseline, Process, kill_cgroup, running_under, unmount_under
from .ending import ended_in_order
from .gotools import cache_dir

PACKAGES = ("docker.io", "debootstrap", "iptables", "iproute2")
RUNTIME_SHIM = Path(__file__).with_name("node_image") / "runc_shim.py"
START_TIMEOUT_S = 180.0
CAP_SYS_RESOURCE = 24
LONGEST_FOLDER = 107 - len("/exec/containerd/containerd-debug.sock")  # a socket's path has 107 bytes


@dataclass(frozen=True, slots=True)
class Engine:
    """A Docker engine that answers. `host` is its DOCKER_HOST; None: what this shell's docker talks to."""

    host: str | None
    folder: Path  # of the private engine, or a place for this test bed's records of a foreign one

    @classmethod
    def of_this_cache(cls) -> Self:
        """Name the private engine, running or not."""
        folder = cache_dir() / "docker" / "run"
        return cls(f"unix://{folder}/docker.sock", folder)

    @property
    def private(self) -> bool:
        """Whether the test bed started this engine (and so must make every image itself)."""
        return self.host is not None

    def env(self) -> dict[str, str]:
        """Give the environment in which docker and kind talk to this engine."""
        if self.host is None:
            return dict(os.environ)
        # A configuration of its own: the user's may name credential helpers, proxies or a context.
        own = {"DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self.folder / "client"), "DOCKER_BUILDKIT": "0"}
        return {name: value for name, value in os.environ.items() if name != "DOCKER_CONTEXT"} | own

    def docker(self, *arguments: str, stdin: bytes | None = None, timeout_s: float = 600) -> str:
        """Run `docker` with these arguments and give its stdout; DockerError says what it printed."""
        done = subprocess.run(
            ["docker", *arguments], env=self.env(), input=stdin, capture_output=True, timeout=timeout_s, check=False
        )
        if done.returncode != 0:
            printed = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise DockerError(f"docker {' '.join(arguments[:4])} failed ({done.returncode}): {printed[-4000:]}")
        return done.stdout.decode()

    def has_image(self, tag: str) -> bool:
        """Tell whether an image of that name is in the engine."""
        return bool(self.docker("images", "--quiet", tag).strip())


class DockerError(RuntimeError):
    """A Docker engine could not be had, or refused what it was asked."""


@contextlib.contextmanager
def docker_engine() -> Iterator[Engine]:
    """Lend a Docker engine; the private one ends with its last user. DockerError where none can be had."""
    if (found := running_engine()) is not None:
        yield found
        return
    with ended_in_order():
        lease = _leases() / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.json"
        with _lock():
            engine = _start_if_needed()
            Process.of(os.getpid()).write(lease)
        try:
            yield engine
        finally:
            release(lease)


def running_engine() -> Engine | None:
    """Give the engine that this shell's `docker` talks to, if one answers."""
    return Engine(None, cache_dir() / "docker-records") if _answers(dict(os.environ)) else None


def keep(engine: Engine) -> None:
    """Let a private engine outlive its users, until `unkeep`."""
    if engine.private and (dockerd := Process.read(engine.folder / "dockerd.json")):
        dockerd.write(engine.folder / "leases" / "kept.json")


def unkeep() -> None:
    """End what `keep` asked for, and stop the engine if nobody else uses it."""
    release(_leases() / "kept.json")


def users() -> int:
    """Count those who hold the private engine now, keeps included."""
    with _lock():
        return len(_live_leases())


def release(lease: Path) -> None:
    """Drop a lease; stop the private engine with the last one."""
    with _lock():
        lease.unlink(missing_ok=True)
        if not _live_leases():
            _stop()


def _leases() -> Path:
    return Engine.of_this_cache().folder / "leases"


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    path = cache_dir() / "docker" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _live_leases() -> list[Path]:
    """Give the leases whose process lives, and remove the others."""
    live = []
    for lease in sorted(_leases().glob("*.json")):
        owner = Process.read(lease)
        if owner is not None and owner.alive:
            live.append(lease)
        else:
            lease.unlink(missing_ok=True)
    return live


def _start_if_needed() -> Engine:
    """Give the private engine, started if need be. The caller holds the lock."""
    engine = Engine.of_this_cache()
    folder = engine.folder
    dockerd = Process.read(folder / "dockerd.json")
    if dockerd is not None and dockerd.alive and _answers(engine.env()):
        if not _live_leases():
            _remove_contents(engine)  # its last user was killed
        return engine
    _stop()  # what a killed run left
    if os.geteuid() != 0:
        raise DockerError(
            "no Docker engine answers, and only root can start a private one: start Docker, or become root"
        )
    if len(str(folder)) > LONGEST_FOLDER:
        raise DockerError(f"{folder} is too long a name for the sockets in it: set SLM_CACHE to a shorter folder")
    _install()
    (folder / "leases").mkdir(parents=True)
    (folder / "client").mkdir()
    Baseline.record().write(folder / "baseline.json")
    try:
        _start_dockerd(engine)
        _remove_contents(engine)  # data of a killed engine is kept with its images
    except BaseException:
        _stop()
        raise
    return engine


def _install() -> None:
    missing = [name for name in ("dockerd", "docker", "debootstrap", "iptables", "ip") if shutil.which(name) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise DockerError(f"no Docker engine answers and this is no Debian: start Docker (missing: {missing})")
    try:
        install(*PACKAGES)
    except AptError as error:
        raise DockerError(str(error)) from error


def _start_dockerd(engine: Engine) -> None:
    folder = engine.folder
    arguments = [
        "dockerd",
        f"--host={engine.host}",
        f"--data-root={folder.with_name('data')}",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/dockerd.pid",
        f"--config-file={folder}/daemon.json",
        f"--cgroup-parent=/{_cgroup()}",
    ]
    settings: dict[str, object] = {"log-level": "warn", "shutdown-timeout": 5}
    if not _has_capability(CAP_SYS_RESOURCE):
        # NB: the kernel takes no interpreter with a blank in its path, and Python's may have one. Not the one of this clone's
        # environment: the engine outlives the clone that started it.
        code, shim = folder / "runc-shim.py", folder / "runc-shim"
        code.write_text(RUNTIME_SHIM.read_text())
        shim.write_text(
            f'#!/bin/sh\nexec {shlex.quote(str(Path(sys.executable).resolve()))} -IS {shlex.quote(str(code))} "$@"\n'
        )
        shim.chmod(0o755)
        settings |= {"runtimes": {"shim": {"path": str(shim)}}, "default-runtime": "shim"}
    (folder / "daemon.json").write_text(json.dumps(settings))
    log = folder / "dockerd.log"
    # A session of its own: Ctrl-C must reach us first, so that containers are removed in order. No Popen: it
    # outlives the object, and often this process.
    to_log = [
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    unmarked = without(STAGE, TEST)  # it serves other stages, and other runs
    dockerd = Process.of(os.posix_spawnp("dockerd", arguments, unmarked, file_actions=to_log, setsid=True))
    dockerd.write(folder / "dockerd.json")
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers(engine.env()):
        if not dockerd.alive or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-3000:]
            raise DockerError(f"the private dockerd did not start; the end of its log:\n{tail}")
        time.sleep(0.1)


def _cgroup() -> str:
    # One per cache folder, so that two engines with caches of their own never share a group.
    return f"slm-{hashlib.sha256(str(cache_dir()).encode()).hexdigest()[:8]}"


def _has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> number & 1)


def _answers(env: dict[str, str]) -> bool:
    if shutil.which("docker") is None:
        return False
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(asked, env=env, capture_output=True, check=False, timeout=60).returncode == 0


def _remove_contents(engine: Engine) -> None:
    """Remove every container, network and volume, and the images that a newer build has replaced."""
    if containers := engine.docker("ps", "--all", "--quiet").split():
        engine.docker("rm", "--force", "--volumes", *containers)
    engine.docker("network", "prune", "--force")
    engine.docker("volume", "prune", "--force")
    engine.docker("image", "prune", "--force")


def _stop() -> None:
    """Stop the private engine, whatever its state, and give the machine back as it was. The caller holds the lock."""
    engine = Engine.of_this_cache()
    folder = engine.folder
    if not folder.exists():
        return
    dockerd = Process.read(folder / "dockerd.json")
    if dockerd is not None and dockerd.alive:
        with contextlib.suppress(DockerError, subprocess.TimeoutExpired):
            _remove_contents(engine)
        dockerd.stop(grace_s=20)
    kill_cgroup(_cgroup())
    for process in running_under(folder):
        process.stop(grace_s=2)
    unmount_under(folder)
    unmount_under(folder.with_name("data"))
    if (baseline := Baseline.read(folder / "baseline.json")) is not None:
        baseline.restore()
    shutil.rmtree(folder)
