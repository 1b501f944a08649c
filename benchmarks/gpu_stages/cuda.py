"""CUDA clients as processes of their own, spoken to line by line: see `cuda_client.py`.

Exists because a client under MPS takes its limits from its environment at its start, and because a client must be
killable. Must never leave a client behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

SOURCE = Path(__file__).with_name("cuda_client.py")
ANSWER_SECONDS = 20.0
NOT_HERE = "CUDA_NOT_HERE"


class Refused(Exception):  # noqa: N818 - it says what the driver did
    """The driver refused a call, the client died, or it did not answer."""

    def __init__(self, error: str, call: str) -> None:
        super().__init__(f"{call}: {error}" if call else error)
        self.error = error


class Client:
    """A running client. Made by `client`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.opened: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def ask(self, do: str, *, within: float = ANSWER_SECONDS, **words: Any) -> dict[str, Any]:
        """One command. Raises Refused."""
        assert self._process.stdin, "opened with pipes"
        assert self._process.stdout, "opened with pipes"
        try:
            self._process.stdin.write(json.dumps({"do": do, **words}).encode() + b"\n")
            async with asyncio.timeout(within):
                line = await self._process.stdout.readline()
        except TimeoutError as error:
            raise Refused(f"no answer within {within:.0f} s", do) from error
        except ConnectionError:
            line = b""
        if not line:
            raise Refused(f"the client has ended (status {await self._process.wait()})", do)
        said = json.loads(line)
        if "ok" not in said:
            raise Refused(said["error"], said["call"])
        return dict(said["ok"])

    async def end(self) -> None:
        """Kill it and see it gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def leave(self) -> None:
        """Let it end by itself, as a client that is done does."""
        assert self._process.stdin, "opened with pipes"
        self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), ANSWER_SECONDS)
        await self.end()


def _interpreter() -> str:
    """A Python that this user may run: our own may lie in a folder of root's."""
    candidates = (sys.executable, os.path.realpath(sys.executable), "/usr/bin/python3")
    return next((path for path in candidates if os.access(path, os.X_OK)), sys.executable)


@contextlib.asynccontextmanager
async def client(folder: Path, environment: Mapping[str, str] | None = None) -> AsyncIterator[Client]:
    """A client with a context, gone at the end. Raises Refused. `folder`: one that this user may read."""
    source = folder / SOURCE.name
    if not source.exists():
        shutil.copy(SOURCE, source)  # the repository may lie where an ordinary user cannot look
    process = await asyncio.create_subprocess_exec(
        _interpreter(),
        str(source),
        env=dict(os.environ) | dict(environment or {}),
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    made = Client(process)
    try:
        made.opened = await made.ask("open")
        yield made
        await made.leave()
    finally:
        await made.end()
