"""The one standard output of a pack: every line says whose it is, and the last ones of each engine are kept.

Lines are written by a thread, so that a reader who is slow holds up the engine whose line it is, as without a supervisor,
and never the supervisor itself. Must never keep more of an engine's words than its tail, nor wait for an end of line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 64 * 1024
LONGEST_BYTES = 16 * 1024
"""Of a line; what is longer is several."""
CLOSE_SECONDS = 2.0


class Tail:
    """The last words of one engine."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept = b""

    def add(self, said: bytes) -> None:
        """It has said this."""
        self._kept = (self._kept + said)[-self._most :]

    def text(self) -> str:
        """All that is kept."""
        return self._kept.decode(errors="replace")


class Output:
    """Where lines go."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """`write` may block."""
        self._write = write
        self._thread = ThreadPoolExecutor(max_workers=1)  # one: lines keep their order

    def say(self, line: str) -> None:
        """The supervisor's own line."""
        self._thread.submit(self._put, f"[pack] {line}\n".encode())

    async def follow(self, name: str, source: int, tail: Tail) -> None:
        """Write what comes from a pipe, with a name before each line, until it is closed at its other end."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES)
        pipe = os.fdopen(source, "rb")
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        prefix, begun = f"[{name}] ".encode(), b""
        try:
            while said := await reader.read(READ_BYTES):
                tail.add(said)
                whole, begun = split(begun + said)
                if whole:
                    lines = b"".join(prefix + line + b"\n" for line in whole)
                    await loop.run_in_executor(self._thread, self._put, lines)
        finally:
            if begun:
                self._thread.submit(self._put, prefix + begun + b"\n")
            transport.close()

    def _put(self, said: bytes) -> None:
        with contextlib.suppress(OSError):  # whoever read the lines has gone: the pack serves on
            self._write(said)

    async def close(self) -> None:
        """Let what has been said be written, as far as anybody reads it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(self._thread.submit(lambda: None)), CLOSE_SECONDS)
        self._thread.shutdown(wait=False, cancel_futures=True)


def split(said: bytes) -> tuple[list[bytes], bytes]:
    r"""The whole lines, without their ends, and the beginning of the next one.

    >>> split(b"one\ntwo\nthr")
    ([b'one', b'two'], b'thr')
    """
    *whole, begun = said.split(b"\n")
    while len(begun) > LONGEST_BYTES:
        whole.append(begun[:LONGEST_BYTES])
        begun = begun[LONGEST_BYTES:]
    return whole, begun


def write_all(said: bytes) -> None:
    """To standard output, whole."""
    while said:
        said = said[os.write(1, said) :]
