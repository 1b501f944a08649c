"""One HTTP connection to one engine: requests one after the other, and the bytes of their answers as they come.

Exists because a general client handles each chunk of a streamed answer by itself, and there is one for each token, of
which an engine makes tens of thousands a second. Here nobody looks for chunks: what is read costs by the read, and
what is not looked at yet waits in the socket, where it costs nothing.

Assumes HTTP/1.1 as the servers of engines speak it, on this machine, without a proxy. Must never send a request twice.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

READ_BYTES = 2**18
IDLE_SECONDS = 2.0
"""A connection that was not used for so long is opened anew. NB: uvicorn closes it after 5, maybe while we are writing."""
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class RequestFailedError(Exception):
    """A request that was not answered as it should have been, and why."""


class Connection:
    """Opened by the first request. A server that has closed it meanwhile is connected to anew."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """`headers`: what the engine wants with each request, besides what HTTP does."""
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port or 80
        fields = {"Host": parts.netloc, "Content-Type": "application/json", **headers}
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._length: int | None = None
        """Bytes that are left of an answer whose length was said."""
        self._end = b""
        """The last bytes of a chunked one."""
        self._used = 0.0
        """When it was read last."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """At once, whatever is under way; the engine notices."""
        if self._writer:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def post(self, path: str, body: bytes) -> int:
        """Send a request and read the answer's head. Returns its status. Raises OSError or RequestFailedError."""
        if not self._is_fresh():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(*self._address, limit=READ_BYTES)
        assert self._reader, "opened just now"
        assert self._writer, "opened with the reader"
        head = f"POST {path} HTTP/1.1\r\n{self._fields}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        try:
            said = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise RequestFailedError(f"no answer: {error}") from error
        first, *lines = said.decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        try:
            self._length = int(fields["content-length"]) if "content-length" in fields else None
            self._end = b"\r\n"
            return int(first.split()[1])
        except (ValueError, IndexError) as error:
            raise RequestFailedError(f"no HTTP: {first[:80]!r}") from error

    def _is_fresh(self) -> bool:
        """Open, as far as can be known here, and in use."""
        if self._reader is None or self._writer is None or time.monotonic() - self._used > IDLE_SECONDS:
            return False
        return not (self._reader.at_eof() or self._writer.transport.is_closing())

    async def read(self) -> bytes:
        """More of the answer, with the marks between chunks, as soon as there is any; nothing at its end.

        NB: such a mark may stand between any two bytes. Servers of engines send each event as a chunk of its own.
        """
        assert self._reader, "read after post"
        if self._length == 0 or self._end == _LAST_CHUNK:
            return b""
        data = await self._reader.read(READ_BYTES)
        if not data:
            raise RequestFailedError("the connection was closed before the answer's end")
        self._used = time.monotonic()
        if self._length is not None:
            self._length -= len(data)
        else:
            self._end = (self._end + data)[-len(_LAST_CHUNK) :]
        return data

    async def rest(self, seconds: float) -> None:
        """Look at nothing for so long: what comes gathers in the socket."""
        assert self._writer, "rest after post"
        transport = cast("asyncio.Transport", self._writer.transport)  # it goes both ways
        transport.pause_reading()
        await asyncio.sleep(seconds)
        transport.resume_reading()
