"""A private MPS daemon, so that a pack can be measured under the limits that the device plugin would impose.

Runs `nvidia-cuda-mps-control` in the foreground as our own child, unprivileged, with its own pipe and log folder; the
default compute mode is left as it is. Attachment is verified: a client that does not reach a daemon silently runs
without one, and the figures would be those of time slicing. Must never talk to a daemon that it did not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from slm_core.failure import EngineFault, Failure
from slm_core.units import MIB

CONTROL = "nvidia-cuda-mps-control"
ANSWER_SECONDS = 10.0


def available() -> bool:
    """The daemon's program is here (NVIDIA's container runtime mounts it)."""
    return shutil.which(CONTROL) is not None


def limits(total_bytes: int, replicas: int) -> dict[str, str]:
    """What the device plugin sets for each client of a device shared by `replicas`: memory in MiB, threads in percent."""
    return {
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"0={total_bytes // MIB // replicas}M",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(100 // replicas),
    }


class MpsDaemon:
    """A running daemon. Made by `start_daemon`."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder
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

    async def clients(self) -> int:
        """Processes attached to any server of this daemon."""
        count = 0
        for server in (await self._ask("get_server_list")).split():
            if server.isdigit():
                count += len([w for w in (await self._ask(f"get_client_list {server}")).split() if w.isdigit()])
        return count

    async def verify(self, engines: int) -> None:
        """Raise EngineFault unless every engine is attached."""
        attached = await self.clients()
        if attached < engines:
            raise EngineFault(
                Failure.SHARING,
                f"{attached} of {engines} engines are attached to the MPS daemon: the rest runs without it",
            )

    async def stop(self) -> None:
        """End the daemon and its servers."""
        with contextlib.suppress(EngineFault):
            await self._ask("quit -t 5")
        for end in (self._process.terminate, self._process.kill):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), ANSWER_SECONDS)
                break
            with contextlib.suppress(ProcessLookupError):
                end()
        await self._process.wait()
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


def _last_words(folder: Path) -> str:
    log = folder / "log" / "control.log"
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "it printed nothing")
