"""A private MPS daemon as an ordinary user: what the profiler relies on for packs, and nobody has seen on a GPU.

Each experiment has a daemon of its own, started by the product's own code, and leaves none. Assumes to be the only one
who adopts its orphans (`family`). Must never change the compute mode, and never ask for managed memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_core.sharing.mps import MPS
from slm_core.units import GIB, MIB
from slm_runtime import mps, nvml

from benchmarks.gpu_stages import cuda, family
from benchmarks.gpu_stages.cuda import Refused
from benchmarks.gpu_stages.job import Unavailable
from benchmarks.gpu_stages.machine import compute_mode
from benchmarks.gpu_stages.record import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from slm_runtime.mps import MpsDaemon
    from slm_runtime.nvml import Device

    from benchmarks.gpu_stages.job import Job

SERVER = "nvidia-cuda-mps-server"
FILL_SECONDS = 60.0
GONE_SECONDS = 5.0
"""A server that is still there so long after the product's stop is one that it leaves."""


async def run(job: Job) -> None:
    """All experiments, the plainest first."""
    await job.figure("account", _account)
    with nvml.device() as device:
        bench = Bench(device, Path(job.folder), job.scale.work_seconds)
        await job.figure("plain_client", bench.plain_client)
        experiments: dict[str, Callable[[], Awaitable[Any]]] = {
            "compute_mode": bench.compute_modes,
            "two_clients": bench.two_clients,
            "server_memory": bench.server_memory,
            **{f"shares_of_{r}": _bound(bench.shares, r) for r in job.scale.shares},
            "created_memory": bench.created_memory,
            "killed_client": bench.killed_client,
            "quit_idle": bench.quit_idle,
            "quit_with_client": bench.quit_with_client,
            "killed_control": bench.killed_control,
        }
        missing = None if shutil.which(mps.CONTROL) else f"{mps.CONTROL} is not in PATH"
        for name, experiment in experiments.items():
            if missing or bench.missing:
                job.lacks(name, State.NOT_AVAILABLE, bench.missing or missing or "")
            else:
                await job.figure(name, experiment)
                _clear()


def _bound(share: Callable[[int], Awaitable[Any]], replicas: int) -> Callable[[], Awaitable[Any]]:
    return lambda: share(replicas)


class Bench:
    """The device, and where clients find their files."""

    def __init__(self, device: Device | None, folder: Path, work_seconds: float) -> None:
        self._device = device
        self._work_seconds = work_seconds
        self._folder = folder
        self.missing: str | None = None if device else "NVML shows no device"

    async def plain_client(self) -> dict[str, Any]:
        """A client without MPS."""
        before = self._used()
        try:
            async with cuda.client(self._folder) as client:
                return {**await _seen(client), "took_bytes": self._used() - before}
        except Refused as refused:
            self.missing = f"no CUDA client runs here: {refused}"
            raise Unavailable(self.missing) from refused

    async def compute_modes(self) -> dict[str, Any]:
        """Whether a private daemon changes the device's mode: it must not."""
        before = compute_mode(self._device)
        if before is None:
            raise Unavailable("NVML does not tell the compute mode")
        async with _daemon() as daemon, self._client(daemon):
            during = compute_mode(self._device)
        return {"before": before, "with_a_client": during, "after": compute_mode(self._device)}

    async def two_clients(self) -> dict[str, Any]:
        """Two clients under the device plugin's limits: whether they are attached, and what they see."""
        began = time.monotonic()
        async with _daemon() as daemon:
            started = time.monotonic() - began
            limits = self._limits(2)
            async with self._client(daemon, limits) as one, self._client(daemon, limits) as other:
                return {
                    "daemon_start_seconds": started,
                    "limits": limits,
                    "attached": len(await daemon.clients()),
                    "servers": len(_servers()),
                    "clients": [await _seen(one), await _seen(other)],
                }

    async def server_memory(self) -> dict[str, Any]:
        """Memory outside every client's limit."""
        before = self._used()
        async with _daemon() as daemon:
            async with self._client(daemon):
                with_client = self._used()
            alone = self._used()
        return {"server_bytes": alone - before, "client_bytes": with_client - alone}

    async def shares(self, replicas: int) -> dict[str, Any]:
        """R clients, each taking all it is given: whether total / R is to be had by every one of them."""
        limits = self._limits(replicas)
        had = []
        async with _daemon() as daemon, contextlib.AsyncExitStack() as clients:
            for _ in range(replicas):
                client = await clients.enter_async_context(self._client(daemon, limits))
                said = await client.ask("info")
                filled = await client.ask("fill", within=FILL_SECONDS, how="alloc", most_bytes=self._total())
                had.append({"free_said_bytes": said["free_bytes"], **filled})
        return {"limit_bytes": self._limit_bytes(replicas), "clients": had}

    async def created_memory(self) -> dict[str, Any]:
        """Whether cuMemCreate, which sleep mode and expandable segments use, counts against the limit."""
        limit = self._limit_bytes(4)
        async with _daemon() as daemon, self._client(daemon, self._limits(4)) as client:
            filled = await client.ask("fill", within=FILL_SECONDS, how="create", most_bytes=limit + 4 * GIB)
        return {"limit_bytes": limit, **filled, "counts": filled["had_bytes"] <= limit}

    async def killed_client(self) -> dict[str, Any]:
        """SIGKILL of a client with work in flight: what its neighbour notices, and whether a new one comes in."""
        found: dict[str, Any] = {}
        async with _daemon() as daemon:
            limits = self._limits(2)
            async with self._client(daemon, limits) as neighbour, self._victim(daemon, limits) as victim:
                found["alone"] = await neighbour.ask("work", seconds=self._work_seconds)
                await victim.ask("flood")
                found["beside_a_busy_one"] = await neighbour.ask("work", seconds=self._work_seconds)
                working = asyncio.create_task(_outcome(neighbour, seconds=2 * self._work_seconds))
                await asyncio.sleep(self._work_seconds / 2)
                await victim.end()
                found["while_it_is_killed"] = await working
                found["afterwards"] = await _outcome(neighbour, seconds=self._work_seconds)
            found["a_new_client"] = await self._newcomer(daemon, limits)
        return found

    async def quit_idle(self) -> dict[str, Any]:
        """The product's own stop, after the last client has left."""
        async with _daemon() as daemon:
            async with self._client(daemon):
                pass
            return await _stopped(daemon)

    async def quit_with_client(self) -> dict[str, Any]:
        """The product's own stop beside a client that stays."""
        async with _daemon() as daemon, self._victim(daemon, {}) as client:
            found = await _stopped(daemon)
            return {**found, "client_afterwards": await _outcome(client, seconds=0.1)}

    async def killed_control(self) -> dict[str, Any]:
        """SIGKILL of the control process: who lives on, who may join, and whether the product's stop clears it."""
        limits = self._limits(2)
        async with _daemon() as daemon, self._victim(daemon, limits) as client:
            for pid in family.named(os.getpid(), mps.CONTROL):
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(self._work_seconds)  # the server's, to notice
            return {
                "servers": len(_servers()),
                "client": await _outcome(client, seconds=0.1),
                "a_new_client": await self._newcomer(daemon, limits),
                "stop": await _stopped(daemon),
            }

    async def _newcomer(self, daemon: MpsDaemon, limits: Mapping[str, str]) -> dict[str, Any]:
        """NB: one that finds no daemon silently runs without; the multiprocessors that it may use tell."""
        try:
            async with self._client(daemon, limits) as client:
                return await _seen(client)
        except Refused as refused:
            return {"refused": str(refused)}

    def _client(
        self, daemon: MpsDaemon, limits: Mapping[str, str] | None = None
    ) -> contextlib.AbstractAsyncContextManager[cuda.Client]:
        return cuda.client(self._folder, {**daemon.environment, **(limits or {})})

    @contextlib.asynccontextmanager
    async def _victim(self, daemon: MpsDaemon, limits: Mapping[str, str]) -> AsyncIterator[cuda.Client]:
        """A client that does not live to leave by itself."""
        async with self._client(daemon, limits) as client:
            try:
                yield client
            finally:
                await client.end()

    def _limits(self, replicas: int) -> dict[str, str]:
        return MPS.limits(self._total(), replicas)

    def _limit_bytes(self, replicas: int) -> int:
        (mib,) = re.findall(r"=(\d+)M", self._limits(replicas)["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"])
        return int(mib) * MIB

    def _total(self) -> int:
        return self._device.memory_bytes if self._device else 0

    def _used(self) -> int:
        return self._device.read().used_bytes if self._device else 0


async def _account() -> dict[str, Any]:
    """As whom the stage runs: an ordinary user has no capability in force and no way to one."""
    status = Path("/proc/self/status").read_text()  # noqa: ASYNC240 - a file in memory
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return {
        "uid": os.geteuid(),
        "effective_capabilities": lines["CapEff"],
        "no_new_privileges": lines["NoNewPrivs"] == "1",
    }


async def _seen(client: cuda.Client) -> dict[str, Any]:
    return {"multiprocessors": client.opened["multiprocessors"], **await client.ask("info")}


async def _outcome(client: cuda.Client, seconds: float) -> dict[str, Any]:
    """Work, or what came instead: both are findings."""
    try:
        return await client.ask("work", seconds=seconds)
    except Refused as refused:
        return {"refused": str(refused)}


@contextlib.asynccontextmanager
async def _daemon() -> AsyncIterator[MpsDaemon]:
    daemon = await mps.start_daemon()
    try:
        yield daemon
    finally:
        await daemon.stop()


async def _stopped(daemon: MpsDaemon) -> dict[str, Any]:
    """The product's stop, and what it leaves. Seconds."""
    began = time.monotonic()
    await daemon.stop()
    took = time.monotonic() - began
    deadline = time.monotonic() + GONE_SECONDS
    while _servers() and time.monotonic() < deadline:  # noqa: ASYNC110 - another process's life
        await asyncio.sleep(0.1)
    left = len(_servers())
    gone = None if left else time.monotonic() - began
    return {"seconds": took, "servers_left": left, "servers_gone_after_seconds": gone}


def _servers() -> list[int]:
    return family.named(os.getpid(), SERVER)


def _clear() -> None:
    """No daemon or server of one experiment meets the next."""
    for pid in [*family.named(os.getpid(), mps.CONTROL), *_servers()]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
