"""One engine process: started on a free port, watched, explained when it fails, and gone for sure at the end.

Each engine has a process group and a temporary folder of its own, so that whatever it starts or leaves (workers, sockets,
shared memory) is found and removed, also when it was killed from outside. Must never touch a process that it did not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from slm_core.engines.registry import default
from slm_core.failure import EngineFault, Failure, ProfileError, error_of
from slm_core.tuning import STARTUP_SECONDS

from slm_runtime import host
from slm_runtime.death import ending, with_signal
from slm_runtime.processes import group_ends, group_of, remove_shared_memory, shared_memory_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from slm_core.counters import Counters
    from slm_core.engines.base import Engine, MemoryReport
    from slm_core.failure import Cause

STOP_SECONDS = 8.0
"""Grace between SIGTERM and SIGKILL. Nothing is being served: an engine that does not go at once is stuck."""
DYING_SECONDS = 15.0
"""How long an engine may go on after its core has died: vLLM's server looks every 5 s, then shuts down (launcher.py)."""
HEALTH_SECONDS = 2.0
LOG = "engine.log"
COMPLETIONS = "/v1/completions"
TAIL_BYTES = 64 * 1024
ANSWER_SECONDS, FIRST_ANSWER_SECONDS = 15.0, 120.0
"""Longest wait for an answer, and for the first completion: kernels are compiled at their first use."""

_KEY = (
    Failure.ANSWERS_ERRORS,
    "give the engine's API key as a variable of its environment (spec.engine.env): only there the profiler finds it",
)
_NO_COMPLETIONS = (Failure.MODEL, "serve a model that generates text, on an engine with OpenAI's completions")
_REFUSALS = {401: _KEY, 403: _KEY, 404: _NO_COMPLETIONS, 405: _NO_COMPLETIONS, 501: _NO_COMPLETIONS}
"""By status of the first answer: class and remedy of what every engine answers to every request, whatever its batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start one engine."""

    command: tuple[str, ...]
    """Words of the engine's command. To one that is measured its address is added."""
    kind: Engine = field(default_factory=default)
    """Which engine it is. NB: the words do not say it: a model's name may stand among them."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables besides our own."""
    timeout_seconds: float = STARTUP_SECONDS.default
    """Longest wait until it is healthy."""
    cores: tuple[int, ...] = ()
    """Cores that it is held to; none: it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What an engine is given to live in."""

    port: int
    folder: Path
    """Its own, which goes with it."""
    out: int
    """Where its output goes."""
    read_log: Callable[[], str]
    """What of its output is kept."""


class EngineProcess:
    """A running engine. Made by `start_engine` and `begin_engine`."""

    def __init__(
        self, kind: Engine, process: asyncio.subprocess.Process, place: Place, headers: Mapping[str, str]
    ) -> None:
        """`headers`: what it wants with each request."""
        self.kind = kind
        self.headers = headers
        self._process = process
        self._folder = place.folder
        self.log_text = place.read_log
        self._shared: set[str] = set()
        self._killed_before = host.kills_for_memory()
        self._has_answered = False
        self.url = f"http://127.0.0.1:{place.port}"
        self._session = aiohttp.ClientSession(base_url=self.url, headers=headers)

    @property
    def pid(self) -> int:
        """Process id, which is also the process group's."""
        return self._process.pid

    @property
    def exited(self) -> bool:
        """The engine is no more."""
        return self._process.returncode is not None

    @property
    def shared_memory(self) -> frozenset[str]:
        """Files in /dev/shm that it had mapped when it was ready: only who ends it removes them."""
        return frozenset(self._shared)

    def log_tail(self) -> str:
        """The end of the log."""
        return self.log_text()[-TAIL_BYTES:]

    async def is_dying(self) -> bool:
        """Whether it has ended, or ends now. Its core goes first: health is the earliest to show it, its process the last."""
        if await self.is_healthy():
            return False
        return await self.ends(DYING_SECONDS)

    def death(self) -> EngineFault | ProfileError:
        """Why the engine is no more. An engine that has answered once may have died of what it was asked for."""
        cause = self._cause()
        message = f"the engine died ({ending(self._process.returncode)}): {cause.line}"
        if self._has_answered:
            return EngineFault(cause.failure, message, remedy=cause.remedy, batch_size_limit=cause.batch_size_limit)
        return error_of(cause, message)

    def _cause(self) -> Cause:
        cause = self.kind.explain(self.log_tail())
        if not self.exited:
            return cause
        return with_signal(cause, self._process.returncode, host.kills_for_memory() - self._killed_before)

    async def ready(self, timeout_seconds: float) -> None:
        """Wait until it is healthy. Raises ProfileError or EngineFault."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self.exited:
                cause = self._cause()
                raise error_of(cause, f"the engine did not start ({ending(self._process.returncode)}): {cause.line}")
            if await self.is_healthy():
                # Now, because an engine that is killed later can no longer be asked what it has mapped.
                self._shared = shared_memory_of(group_of(self.pid))
                return
            await self.ends(0.25)
        path, line = self.kind.paths.health, self._cause().line
        raise EngineFault(
            Failure.NEVER_HEALTHY, f"{path} did not answer within {timeout_seconds:.0f} s; last line: {line}"
        )

    async def is_healthy(self) -> bool:
        """Whether it says so."""
        with contextlib.suppress(EngineFault):
            status, _ = await self.ask("GET", self.kind.paths.health, timeout_seconds=HEALTH_SECONDS)
            return status == 200
        return False

    async def get(self, path: str) -> str:
        """Body of a GET. Raises EngineFault when the engine is silent or refuses; ProfileError for its metrics."""
        status, body = await self.ask("GET", path)
        if status != 200 and path == self.kind.paths.metrics:
            raise ProfileError(Failure.METRICS, f"the engine's {path} answers {status}")
        if status != 200:
            raise EngineFault(Failure.ANSWERS_ERRORS, f"{path} answers {status}")
        return body

    async def metrics_page(self, most_bytes: int, timeout_seconds: float) -> str | None:
        """Its metrics; None where there are none in time, or more than so many bytes."""
        patience = aiohttp.ClientTimeout(total=timeout_seconds)
        if self._session.closed:
            return None
        with contextlib.suppress(aiohttp.ClientError, OSError):  # TimeoutError is an OSError
            async with self._session.get(self.kind.paths.metrics, timeout=patience) as response:
                if response.status != 200:
                    return None
                page = bytearray()
                async for chunk in response.content.iter_any():
                    page += chunk
                    if len(page) > most_bytes:
                        return None
                return page.decode(errors="replace")
        return None

    async def complete(self, request: dict[str, object]) -> None:
        """One completion, to see that it works. Raises EngineFault, or ProfileError where every request would be refused."""
        status, body = await self.ask("POST", COMPLETIONS, request, timeout_seconds=FIRST_ANSWER_SECONDS)
        if status == 200:
            self._has_answered = True
            return
        message = f"the first request is answered {status}: {body[:200]}"
        if status in _REFUSALS:
            failure, remedy = _REFUSALS[status]
            raise ProfileError(failure, message, remedy)
        raise EngineFault(Failure.ANSWERS_ERRORS, message)

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> tuple[int, str]:
        """Status and body of an answer. Raises EngineFault when there is none."""
        patience = aiohttp.ClientTimeout(total=timeout_seconds or ANSWER_SECONDS)
        try:
            async with self._session.request(method, path, json=body, timeout=patience) as response:
                return response.status, await response.text()
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise EngineFault(
                Failure.HANGS, f"{path} does not answer: {type(error).__name__} {error}".strip()
            ) from error

    async def counters(self) -> Counters:
        """One scrape."""
        return self.kind.read_counters(await self.get(self.kind.paths.metrics))

    async def memory(self) -> MemoryReport:
        """What it says of its memory. Raises as `get` does, and ProfileError."""
        return self.kind.read_memory(self.log_text(), await self.get(self.kind.paths.metrics))

    async def ends(self, patience_seconds: float | None = None) -> bool:
        """Wait for its end, or for so long; whether it has ended."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), patience_seconds)
        return self.exited

    async def drain(self, patience_seconds: float) -> bool:
        """Ask it to finish what it has begun and to end, as a container's end does; whether it has done so.

        NB: the process itself and not its group: an engine's own processes would drop what it wants to finish.
        """
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        return await self.ends(patience_seconds)

    async def stop(self, let_go: Callable[[Sequence[int]], Awaitable[None]] | None = None) -> None:
        """End the whole process group and remove what it left. Safe to call twice.

        `let_go` is called with the processes of an engine that does not end by itself, before it is killed.
        """
        await self._session.close()
        self._shared |= shared_memory_of(group_of(self.pid))
        for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            if number is signal.SIGKILL and let_go is not None:
                await let_go(group_of(self.pid))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            if await group_ends(self.pid, patience):
                break
        await self.ends(STOP_SECONDS)
        # NB: a killed engine's resource tracker dies with it and leaves its segments in /dev/shm.
        remove_shared_memory(self._shared)
        shutil.rmtree(self._folder, ignore_errors=True)


async def start_engine(launch: Launch) -> EngineProcess:
    """Start an engine to be measured, and wait until it is ready. Raises ProfileError or EngineFault; then nothing of it is left."""
    kind, port = launch.kind, free_port()
    own = kind.measuring_environment(dict(os.environ) | dict(launch.environment))
    measured = replace(
        launch,
        command=(*launch.command, *kind.listen("127.0.0.1", port)),
        environment=dict(launch.environment) | own,
    )
    folder = Path(tempfile.mkdtemp(prefix="slm-engine-"))
    log = folder / LOG
    with log.open("wb") as out:
        place = Place(port=port, folder=folder, out=out.fileno(), read_log=lambda: _text_of(log))
        engine = await begin_engine(measured, place)
    try:
        await engine.ready(launch.timeout_seconds)
    except BaseException:
        await engine.stop()
        raise
    return engine


def _text_of(log: Path) -> str:
    return log.read_text(errors="replace") if log.exists() else ""


async def begin_engine(launch: Launch, place: Place) -> EngineProcess:
    """Start an engine whose command binds it to its port; it is not waited for. Raises ProfileError; then nothing of it is left."""
    # NB: a short TMPDIR, since the engine's sockets lie in it and their paths may have 107 characters.
    environment = dict(os.environ) | {"TMPDIR": str(place.folder)} | dict(launch.environment)
    try:
        headers = launch.kind.headers(environment)
        with host.held_to(launch.cores):
            process = await asyncio.create_subprocess_exec(
                *launch.command,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=place.out,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
    except BaseException as error:
        shutil.rmtree(place.folder, ignore_errors=True)
        if isinstance(error, OSError):
            said = f"{launch.command[0]} cannot be started: {error.strerror}"
            raise ProfileError(Failure.COMMAND, said) from error
        raise
    return EngineProcess(launch.kind, process, place, headers)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
