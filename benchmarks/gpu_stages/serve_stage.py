"""A pack served in one container, and what befalls it: engines, daemon and server killed under load, and its end.

Runs `python -m slm_runtime serve` as a pod would and asks its status port. Under MPS where that is here, else under time
slicing. The load is a closed loop an engine, which goes on asking one that is away: errors are answers that break off and
those that are none. Must never speak of a neighbour's errors without having had requests in flight there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from slm_core.engines.registry import command_and_arguments, engine_of
from slm_core.failure import EngineFault, Failure
from slm_core.sharing.mps import CONTROL, MPS
from slm_core.sharing.time_slicing import TIME_SLICING
from slm_runtime import nvml
from slm_runtime.engine_process import free_port
from slm_runtime.load import ClosedLoop
from slm_runtime.mps import SERVER
from slm_runtime.prompts import text_tokens
from slm_runtime.workload import parse_lengths, usable

from benchmarks.gpu_stages import family
from benchmarks.gpu_stages.decode_stage import BATCHED_TOKENS, CPU_KV_BYTES
from benchmarks.gpu_stages.job import Unavailable
from benchmarks.gpu_stages.machine import Kind
from benchmarks.gpu_stages.shapes import write_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from benchmarks.gpu_stages.job import Job

ENGINES = 2
BATCH = 8
"""Requests in flight at each engine."""
TOKENS_AT_END = 400
"""Of each answer that is begun before the end: it must last until the end is asked for."""
LAST_LINES = 5
LOOK_SECONDS = 0.05


async def run(job: Job) -> None:
    """One pack through everything, the least harmful first."""
    job.keep("model", job.scale.published.like)
    async with _pack(job) as pack:
        await job.figure("start", pack.start)
        await job.figure("killed_engine", pack.killed_engine)
        await job.figure("killed_control", pack.killed_control)
        await job.figure("killed_server", pack.killed_server)
        await job.figure("end", pack.end)


@contextlib.asynccontextmanager
async def _pack(job: Job) -> AsyncIterator[_Pack]:
    """A pack's process, gone at the end."""
    with nvml.device() as device:
        has_gpu, kv_bytes = device is not None, device.memory_bytes // 8 if device else CPU_KV_BYTES
    mode = MPS if has_gpu and shutil.which(CONTROL) else TIME_SLICING
    port = free_port()
    command, arguments = command_and_arguments(job.engine)
    words = ["--model", str(write_model(job.scale.published, Path(job.folder))), "--served-model-name", "m"]
    words += ["--engines-per-gpu", str(ENGINES), "--sharing-mode", mode.word, "--batch-size", str(BATCH)]
    words += ["--kv-cache-bytes", str(kv_bytes if job.kind is Kind.GPU else CPU_KV_BYTES)]
    words += ["--max-num-batched-tokens", str(BATCHED_TOKENS), "--startup-timeout-seconds", f"{job.seconds:.0f}"]
    words += ["--port", str(port + 1), "--status-port", str(port)]
    for flag in engine_of(command).optional_flags:  # the engine may be an old one
        words.append(f"--leave-out={flag}")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "slm_runtime", "serve", *words, "--"),
        *(*command, "--", *arguments, "--load-format", "dummy"),
        env=os.environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said: deque[str] = deque(maxlen=LAST_LINES)
    hearing = asyncio.create_task(_hear(process, said))
    try:
        async with aiohttp.ClientSession() as session:
            yield _Pack(job, process, session, port, said)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        await hearing


async def _hear(process: asyncio.subprocess.Process, said: deque[str]) -> None:
    assert process.stdout, "opened with a pipe"
    async for line in process.stdout:
        said.append(line.decode(errors="replace").rstrip())


class _Pack:
    """A running pack."""

    def __init__(
        self,
        job: Job,
        process: asyncio.subprocess.Process,
        session: aiohttp.ClientSession,
        port: int,
        said: deque[str],
    ) -> None:
        self._job = job
        self._process = process
        self._session = session
        self._port = port
        self._said = said
        self._loads = 0

    async def start(self) -> dict[str, Any]:
        """The first engine alone, then the rest; the GPU's memory before and after, and what each takes of the host's."""
        began = time.monotonic()
        before = await self._shows(lambda _: True)
        first = await self._shows(lambda status: status["enginesReady"] >= 1)
        first_seconds = time.monotonic() - began
        serving = await self._serves()
        all_seconds = time.monotonic() - began
        sized = await self._shows(lambda status: all(one["residentBytes"] for one in status["engines"]))
        return {
            "mode": serving["sharingMode"],
            "engines": ENGINES,
            "first_seconds": first_seconds,
            "all_seconds": all_seconds,
            "resident_bytes": [one["residentBytes"] for one in sized["engines"]],
            "starts": [one["starts"] for one in serving["engines"]],
            **{
                f"free_{when}_bytes": status["gpu"]["freeBytes"]
                for when, status in (("before", before), ("with_one", first), ("with_all", serving))
                if status["gpu"]
            },
        }

    async def killed_engine(self) -> dict[str, Any]:
        """SIGKILL of all that one engine is, its work in flight: what its neighbour notices, and when it serves again."""
        async with self._load(0) as neighbour, self._load(1) as victim:
            status = await self._serves()
            began = time.monotonic()
            os.killpg(status["engines"][1]["pid"], signal.SIGKILL)
            starts = status["engines"][1]["starts"]
            await self._shows(lambda status: status["engines"][1]["starts"] > starts)
            memory_seconds = time.monotonic() - began
            serving = await self._serves()
            return {
                "starts_again_after_seconds": memory_seconds,
                "serves_again_after_seconds": time.monotonic() - began,
                "errors_of_it": victim.errors,
                "errors_of_its_neighbour": neighbour.errors,
                "answered_by_its_neighbour": neighbour.answered,
                "starts": [one["starts"] for one in serving["engines"]],
                "its_death": serving["engines"][1]["lastDeath"],
            }

    async def killed_control(self) -> dict[str, Any]:
        """SIGKILL of the MPS control process under load: whether the engines serve on."""
        (control,) = self._one_of(CONTROL)
        async with self._load(0) as one, self._load(1) as other:
            os.kill(control, signal.SIGKILL)
            status = await self._shows(lambda status: status["daemon"] != "Running")
            await asyncio.sleep(4 * self._job.scale.work_seconds)
            return {
                "daemon": status["daemon"],
                "lost": one.errors + other.errors,
                "answered": one.answered + other.answered,
                "ready_afterwards": (await self._status())["enginesReady"],
            }

    async def killed_server(self) -> dict[str, Any]:
        """SIGKILL of the MPS server under load: what is noticed, and when all serve again."""
        (server,) = self._one_of(SERVER)
        async with self._load(0), self._load(1):
            before = [one["starts"] for one in (await self._status())["engines"]]
            began = time.monotonic()
            os.kill(server, signal.SIGKILL)
            await self._shows(lambda status: status["daemon"] == "Broken" or status["enginesReady"] == 0)
            noticed_seconds = time.monotonic() - began
            again = await self._shows(
                lambda status: (
                    status["enginesReady"] == ENGINES
                    and all(one["starts"] > was for one, was in zip(status["engines"], before, strict=True))
                )
            )
            return {
                "noticed_after_seconds": noticed_seconds,
                "serves_again_after_seconds": time.monotonic() - began,
                "starts": [one["starts"] for one in again["engines"]],
                "deaths": [one["lastDeath"] and one["lastDeath"]["message"] for one in again["engines"]],
            }

    async def end(self) -> dict[str, Any]:
        """SIGTERM with requests in flight: how many are answered to their end, and how long all takes."""
        await self._serves()
        asked = [asyncio.create_task(self._answer(engine)) for engine in range(ENGINES) for _ in range(BATCH)]
        await self._runs(len(asked), until=asked)
        began = time.monotonic()
        self._process.terminate()
        answered = sum(await asyncio.gather(*asked))
        status = await self._process.wait()
        return {
            "in_flight": len(asked),
            "answered": answered,
            "seconds": time.monotonic() - began,
            "exit_status": status,
        }

    @contextlib.asynccontextmanager
    async def _load(self, engine: int) -> AsyncIterator[ClosedLoop]:
        """Requests in flight at one engine, once some have been answered."""
        self._loads += 1
        config = self._job.scale.published.config
        drawn = parse_lengths(*self._job.scale.lengths)
        lengths = usable(drawn.pairs, drawn.source, config["max_position_embeddings"])
        async with ClosedLoop([self._url(engine)], "m", lengths, text_tokens(config), seed=self._loads) as loop:
            loop.start(BATCH, None)
            while not loop.answered:
                self._check()
                await asyncio.sleep(LOOK_SECONDS)
            yield loop

    async def _answer(self, engine: int) -> bool:
        """Whether one long answer comes whole."""
        body = {"model": "m", "prompt": list(text_tokens(self._job.scale.published.config)[:8])}
        body |= {"max_tokens": TOKENS_AT_END, "ignore_eos": True}
        try:
            async with self._session.post(f"{self._url(engine)}/v1/completions", json=body) as response:
                answer = await response.json()
                return bool(answer["usage"]["completion_tokens"] == TOKENS_AT_END)
        except (aiohttp.ClientError, KeyError):
            return False

    async def _runs(self, requests: int, until: Sequence[asyncio.Task[bool]]) -> None:
        """Wait until the engines run so many together. Raises EngineFault where one is over before."""
        kind = engine_of(command_and_arguments(self._job.engine)[0])
        while not any(task.done() for task in until):
            running = 0.0
            for engine in range(ENGINES):
                async with self._session.get(f"{self._url(engine)}{kind.paths.metrics}") as page:
                    running += kind.read_counters(await page.text()).running
            if running >= requests:
                return
            await asyncio.sleep(LOOK_SECONDS)
        raise EngineFault(Failure.ANSWERS_ERRORS, f"an answer was over before {requests} were running")

    async def _serves(self) -> dict[str, Any]:
        return await self._shows(lambda status: status["enginesReady"] == ENGINES)

    async def _shows(self, holds: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the status is so. Raises EngineFault once the pack has ended."""
        while True:
            self._check()
            with contextlib.suppress(aiohttp.ClientConnectionError):
                if holds(status := await self._status()):
                    return status
            await asyncio.sleep(LOOK_SECONDS)

    def _check(self) -> None:
        if self._process.returncode is not None:
            raise EngineFault(Failure.DIED, f"the pack ended with status {self._process.returncode}: {self._last()}")

    def _last(self) -> str:
        return " | ".join(self._said)

    async def _status(self) -> dict[str, Any]:
        async with self._session.get(f"http://127.0.0.1:{self._port}/status") as answer:
            found: dict[str, Any] = json.loads(await answer.text())
            return found

    def _url(self, engine: int) -> str:
        return f"http://127.0.0.1:{self._port + 1 + engine}"

    def _one_of(self, program: str) -> list[int]:
        """The process of that name below this one. Raises Unavailable."""
        found = family.named(os.getpid(), program)
        if not found:
            raise Unavailable(f"the pack has no {program}")
        return found[:1]
