"""Packs as they are: the whole command as a process, light engines that are clients of a mock device, and what they say."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.mock_device import CLIENT_COMMAND, mock_device
from tests.testbed.ports import free_ports

TESTS = Path(__file__).parents[3]
MARK = "SLM_TEST"
"""The variable by which the processes of a test are known."""
GIB = 2**30
HANG_SECONDS = 120
"""A guard: what is awaited comes within seconds."""


@pytest.fixture(autouse=True)
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where packs keep their files, which every test must leave empty. NB: short, for the sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="slm-test-"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}:{TESTS.parent}")
    monkeypatch.setenv(MARK, folder.name)
    yield folder
    left = [*folder.iterdir(), *processes_of(folder.name)]
    shutil.rmtree(folder)
    assert not left


def processes_of(mark: str) -> list[str]:
    """What still runs of a test."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(f"{entry.name} {(entry / 'cmdline').read_text()}")
    return found


@pytest.fixture(scope="session")
def mock_libraries() -> Iterator[dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="slm-mock-"))
    yield mock_device(folder)
    shutil.rmtree(folder)


@pytest.fixture
def gpu(mock_libraries: dict[str, str], scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A mock board of 16 GiB; engines take 4 of them. The folder in which clients say what they have taken."""
    folder = Path(tempfile.mkdtemp(prefix="slm-board-"))
    board = {"MOCK_DEVICE": str(folder), "MOCK_NVML_TOTAL": str(16 * GIB), "ENGINE_BYTES": str(4 * GIB)}
    for name, value in (mock_libraries | board).items():
        monkeypatch.setenv(name, value)
    yield folder
    shutil.rmtree(folder)


@dataclass
class Pack:
    """One running pack."""

    process: asyncio.subprocess.Process
    first_port: int
    status_port: int
    session: aiohttp.ClientSession
    lines: list[str] = field(default_factory=list)
    """All that it has said until now."""
    heard: int = 0
    """Of these, how many have been waited for."""
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))
            self.more.set()

    async def says(self, text: str) -> str:
        """Wait for the next line with this text."""
        async with asyncio.timeout(HANG_SECONDS):
            while True:
                for number, line in enumerate(self.lines[self.heard :], self.heard + 1):
                    if text in line:
                        self.heard = number
                        return line
                self.more.clear()
                await self.more.wait()

    async def serves(self, engines: int) -> None:
        """Wait until so many engines serve."""
        await self.shows(lambda status: status["enginesReady"] == engines)

    async def shows(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the status is so, and the status."""
        async with asyncio.timeout(HANG_SECONDS):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    if holds(status := await self.status()):
                        return status
                await asyncio.sleep(0.02)

    async def status(self) -> dict[str, Any]:
        _, body = await self.get("/status")
        status: dict[str, Any] = json.loads(body)
        return status

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://127.0.0.1:{self.status_port}{path}") as answer:
            return answer.status, await answer.text()

    async def ask(self, engine: int, tokens: int) -> int:
        """Status of one completion by one engine; 0 where it is lost."""
        url = f"http://127.0.0.1:{self.first_port + engine}/v1/completions"
        body = {"model": "opt-tiny", "prompt": "a question", "max_tokens": tokens}
        try:
            async with self.session.post(url, json=body) as answer:
                whole = await answer.json()
                return answer.status if whole["usage"]["completion_tokens"] == tokens else 0
        except (aiohttp.ClientError, KeyError):
            return 0

    async def runs(self, engine: int, requests: int) -> None:
        """Wait until an engine runs so many."""
        url = f"http://127.0.0.1:{self.first_port + engine}/metrics"
        async with asyncio.timeout(HANG_SECONDS):
            while True:
                async with self.session.get(url) as answer:
                    page = await answer.text()
                if "num_requests_running{" in page and running(page) >= requests:
                    return
                await asyncio.sleep(0.01)

    async def pid(self, engine: int) -> int:
        status = await self.status()
        return int(status["engines"][engine]["pid"])

    async def kill(self, engine: int) -> None:
        os.kill(await self.pid(engine), signal.SIGKILL)

    async def ended(self) -> int:
        """Its exit status."""
        async with asyncio.timeout(HANG_SECONDS):
            return await self.process.wait()


def running(page: str) -> float:
    line = next(line for line in page.splitlines() if line.startswith("vllm:num_requests_running{"))
    return float(line.rpartition(" ")[2])


Serve = Callable[..., contextlib.AbstractAsyncContextManager[Pack]]


@pytest.fixture
def serve(model: Path) -> Serve:
    """Runs a pack: `async with serve("--engines-per-gpu", "3", backoff=1) as pack`."""

    @contextlib.asynccontextmanager
    async def run(
        *words: str,
        engines: int = 2,
        backoff: float = 0.2,
        command: tuple[str, ...] = CLIENT_COMMAND,
        ports: tuple[int, int] | None = None,
        **variables: str,
    ) -> AsyncIterator[Pack]:
        """`ports`: of the first engine and of the status; None: any."""
        first, status_port = ports or (consecutive_ports(engines), free_ports(1)[0])
        given = ["--model", str(model), "--batch-size", "8", "--kv-cache-bytes", str(2**27)]
        given += ["--engines-per-gpu", str(engines), "--port", str(first), "--status-port", str(status_port)]
        given += ["--max-num-batched-tokens", "512", "--startup-timeout-seconds", "100", *words]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.unit.runtime.serve.driver", str(backoff), "serve", *given, "--", *command),
            env=os.environ | variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HANG_SECONDS)) as session:
            pack = Pack(process, first, status_port, session)
            reading = asyncio.create_task(pack.read())
            try:
                yield pack
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()
                await reading
                print(*pack.lines, sep="\n")

    return run


def consecutive_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    for first in free_ports(20):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise OSError("no free ports in a row")
