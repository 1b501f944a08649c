"""A private MPS daemon, so that a pack can be measured under the limits that the device plugin would impose.

Runs `nvidia-cuda-mps-control` in the foreground as our own child, unprivileged, with its own pipe and log folder; the
default compute mode is left as it is. Attachment is verified for each engine: a client that does not reach a daemon
silently runs without one, and the figures would be those of time slicing. A killed daemon leaves its servers behind,
and a client that is killed amid its work may take the server with it, so both are ended in order. Must never talk to a
daemon that it did not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from slm_core.failure import EngineFault, Failure
from slm_core.sharing.mps import CONTROL

from slm_runtime.processes import Identity, identity_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

SERVER = "nvidia-cuda-mps-server"
ANSWER_SECONDS = 10.0


class MpsDaemon:
    """A running daemon. Made by `start_daemon`."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._servers: set[Identity] = set()
        self.environment = _environment(folder)

    async def opened(self) -> None:
        """Wait for the control pipe. Raises EngineFault with the daemon's last words."""
        for _ in range(50):
            if self._process.returncode is not None:
                break
            if any((self._folder / "pipe").iterdir()):
                return
            await asyncio.sleep(0.1)
        raise EngineFault(Failure.SHARING, f"{CONTROL} did not open its pipe: {_last_words(self._folder)}")

    async def clients(self) -> dict[int, int]:
        """Processes attached to any server of this daemon, each with its server."""
        servers = _numbers(await self._ask("get_server_list"))
        return {
            client: server for server in servers for client in _numbers(await self._ask(f"get_client_list {server}"))
        }

    async def verify(self, engines: Sequence[Collection[int]]) -> None:
        """Raise EngineFault unless every engine, given by its processes, is attached."""
        clients = await self.clients()
        self._servers.update(found for pid in _servers_of(self._folder) if (found := identity_of(pid)))
        attached = sum(not clients.keys().isdisjoint(engine) for engine in engines)
        if attached < len(engines):
            raise EngineFault(
                Failure.SHARING,
                f"{attached} of {len(engines)} engines are attached to the MPS daemon: the rest runs without it",
            )

    @property
    def has_control(self) -> bool:
        """Its control process runs."""
        return self._process.returncode is None

    @property
    def has_servers(self) -> bool:
        """Every server that was there when engines were verified still is.

        NB: by who they are, since the control pipe does not answer just when that matters, and would start another server.
        """
        return all(server.is_alive for server in self._servers)

    async def let_go(self, engine: Collection[int]) -> None:
        """Have the server part from the processes of an engine that is about to be killed, as far as it can."""
        with contextlib.suppress(EngineFault):
            for client, server in (await self.clients()).items():
                if client in engine:
                    await self._ask(f"terminate_client {server} {client}")

    async def stop(self) -> None:
        """End the daemon and its servers."""
        with contextlib.suppress(EngineFault):
            await self._ask("quit -t 5")
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), ANSWER_SECONDS)
                break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
        await self._process.wait()
        for pid in _servers_of(self._folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _ask(self, command: str) -> str:
        asking = await asyncio.create_subprocess_exec(
            CONTROL,
            env=dict(os.environ) | self.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            answer, _ = await asyncio.wait_for(asking.communicate(f"{command}\n".encode()), ANSWER_SECONDS)
        except TimeoutError as error:
            asking.kill()
            await asking.wait()
            raise EngineFault(Failure.SHARING, f"the MPS daemon does not answer {command!r}") from error
        return answer.decode(errors="replace")


async def start_daemon() -> MpsDaemon:
    """Start a daemon and wait until it answers. Raises EngineFault; then nothing of it is left."""
    folder = Path(tempfile.mkdtemp(prefix="slm-mps-"))
    environment = _environment(folder)
    for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"):
        os.mkdir(environment[name])  # noqa: PTH102 - two folders in memory
    try:
        process = await asyncio.create_subprocess_exec(
            CONTROL,
            "-f",
            env=dict(os.environ) | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a process group of its own
        )
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise EngineFault(Failure.SHARING, f"{CONTROL} cannot be started: {error.strerror}") from error
    daemon = MpsDaemon(process, folder)
    try:
        await daemon.opened()
    except BaseException:
        await daemon.stop()
        raise
    return daemon


def _environment(folder: Path) -> dict[str, str]:
    return {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}


def _numbers(answer: str) -> list[int]:
    return [int(word) for word in answer.split() if word.isdigit()]


def _servers_of(folder: Path) -> list[int]:
    """Servers that were started with this daemon's pipes. NB: they outlive a daemon that was killed."""
    sign = f"CUDA_MPS_PIPE_DIRECTORY={folder / 'pipe'}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                is_server = SERVER.encode() in (entry / "cmdline").read_bytes()
                if is_server and sign in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _last_words(folder: Path) -> str:
    log = folder / "log" / "control.log"
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "it printed nothing")
