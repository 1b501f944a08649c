"""The MPS control daemon: one per node, for all its GPUs.

There is no CUDA, so nothing enforces a limit. What can be seen of the real one is there, below the MPS root:

    nvidia.com/gpu.shared/pipe/control   a socket that answers as long as the daemon lives
    .ready                               present from a complete start to an orderly stop, whether there is anything to serve or not
    commands.log                         every command sent, one per line
    limits.json                          the commands that are in force, in any order; none of a daemon that has quit
    compute-mode.json                    {GPU-<uuid>: EXCLUSIVE_PROCESS | DEFAULT}, what NVML would tell
    shm                                  a tmpfs, fresh for each pod (`mps-control-daemon mount-shm`)

NB: a daemon that is killed leaves EXCLUSIVE_PROCESS behind, as the real one does.
"""

import json
import logging
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from . import config, devices, mps
from .daemon import Daemon, KilledError
from .node import ApiNode, follow_faults
from .settings import Faults, Gpu, Hardware, place

log = logging.getLogger(__name__)


class ControlDaemon:
    """The service behind the daemon `mps-control-daemon`."""

    def __init__(self, gpus: Sequence[Gpu], compute_capability: str, config_file: Path, root: Path) -> None:
        self._gpus = gpus
        self._compute_capability = compute_capability
        self._config_file = config_file
        self._root = root
        self._socket: socket.socket | None = None
        self._pipe: Path | None = None
        self._quit_s = 0.0

    def start(self) -> None:
        """Make the GPUs exclusive, listen, set the limits, say ready. Raises ConfigError, which ends the process."""
        text = self._config_file.read_text() if self._config_file.exists() else ""
        loaded = config.parse(text)
        if loaded.sharing.strategy != "mps":
            (self._root / ".ready").touch()
            log.info("No devices are configured for MPS sharing; Waiting indefinitely.")
            return
        mps.check_replicas(loaded, self._compute_capability)
        self._set_compute_mode(mps.EXCLUSIVE_PROCESS)
        self._listen(Path(devices.pipe_folder(str(self._root), loaded.resource)), 100 // loaded.sharing.replicas)
        # NB: the GPUs come in any order, as those of a map in Go.
        commands = mps.control_commands(loaded, random.sample(self._gpus, len(self._gpus)))
        for command in commands:
            self._send(command)
        (self._root / "limits.json").write_text(json.dumps(commands))
        (self._root / ".ready").touch()
        log.info("MPS control daemon for '%s' is ready", loaded.resource)

    def stop(self) -> None:
        """Quit the daemon and give the GPUs back."""
        (self._root / ".ready").unlink(missing_ok=True)
        if self._socket and self._pipe:
            self._send("quit")
            time.sleep(self._quit_s)
            self._hang_up(self._socket)
            (self._root / "limits.json").write_text("[]")
            (self._pipe / "control").unlink(missing_ok=True)
            self._set_compute_mode(mps.DEFAULT)

    def take(self, faults: Faults) -> None:
        """Die when asked to: the socket goes deaf, everything else stays as it is. Or take one's time to quit."""
        self._quit_s = faults.mps_quit_s
        if faults.mps_daemon_dead:
            if self._socket:
                self._hang_up(self._socket)
            raise KilledError("the fault 'mps_daemon_dead' is switched on")

    def _listen(self, pipe: Path, thread_percentage: int) -> None:
        pipe.mkdir(parents=True, exist_ok=True)
        control = pipe / "control"
        control.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(control))
        listener.listen()
        self._socket, self._pipe = listener, pipe

        def answer() -> None:
            while True:
                try:
                    connection, _address = listener.accept()
                except OSError:  # hung up
                    return
                with connection:
                    connection.recv(1024)
                    connection.sendall(f"{thread_percentage}.0\n".encode())

        threading.Thread(target=answer, name="mps-control", daemon=True).start()

    def _hang_up(self, listener: socket.socket) -> None:
        listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() alone would not
        listener.close()
        self._socket = None

    def _send(self, command: str) -> None:
        log.info("MPS command: %s", command)
        with (self._root / "commands.log").open("a") as commands:
            commands.write(f"{command}\n")

    def _set_compute_mode(self, mode: str) -> None:
        (self._root / "compute-mode.json").write_text(json.dumps({gpu.uuid: mode for gpu in self._gpus}))


def mount_shm(folder: Path) -> None:
    """A fresh tmpfs on this folder; where the parts run without containers, an empty folder. Raises CalledProcessError."""
    if place("/") != Path("/"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "rw,nosuid,nodev,noexec,relatime", "shm", str(folder)], check=True)


def main() -> None:
    """Run the control daemon on this node, as the container's process; or what its init container does."""
    root = place(devices.MPS_CONTAINER_ROOT)
    if sys.argv[1:] == ["mount-shm"]:
        mount_shm(root / "shm")
        return
    node = ApiNode.from_env()
    env = os.environ
    hardware = Hardware.from_env(env)
    service = ControlDaemon(
        hardware.gpus(node.name),
        hardware.compute_capability,
        place(env.get("CONFIG_FILE", "/config/config.yaml")),
        root,
    )
    daemon = Daemon(service)
    daemon.obey_signals()
    daemon.run(follow_faults(node, daemon.set_faults))
