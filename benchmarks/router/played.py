"""Engines and their supervisor, played: each step of an answer is the test's to take.

An engine here computes nothing. It counts what it has begun, and holds each request until it is told what to do, so
that whatever a router does in between can be seen without waiting for a clock.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HEALTH, METRICS = "/health", "/metrics"
LOAD = "/get_load"
"""What vllm-router asks its engines by itself. NB: vLLM has no such path, so the router counts what it sent."""
LONGEST_BODY_BYTES, LONGEST_HEADER_BYTES = 64 * 2**20, 2**17


@dataclass(slots=True)
class Call:
    """A request that an engine has begun."""

    request: web.Request
    body: bytes
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """The client's end of it is gone."""
    _answer: asyncio.Future[web.StreamResponse] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    _stream: web.StreamResponse | None = None

    def answer(self, response: web.StreamResponse | None = None) -> None:
        """Answer it, and be done."""
        self._answer.set_result(response or web.json_response({}))

    async def send(self, chunk: bytes) -> None:
        """The next piece of a stream of events."""
        if self._stream is None:
            self._stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await self._stream.prepare(self.request)
        await self._stream.write(chunk)

    async def end(self) -> None:
        """The end of that stream."""
        assert self._stream is not None
        await self._stream.write_eof()
        self._answer.set_result(self._stream)

    def die(self) -> None:
        """What a client sees of an engine that is killed: its connection is reset."""
        assert self.request.transport is not None
        self.request.transport.abort()

    async def done(self) -> web.StreamResponse:
        """What the test makes of it."""
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.left.set()
            raise


@dataclass(slots=True)
class PlayedEngine:
    """One engine. It begins every request that reaches it, and answers at once where `holds` is false."""

    name: str
    port: int
    holds: bool = False
    healthy: bool = True
    begun: list[Call] = field(default_factory=list)
    open: list[Call] = field(default_factory=list)
    asked_for_health: asyncio.Event = field(default_factory=asyncio.Event)
    _arrived: asyncio.Queue[Call] = field(default_factory=asyncio.Queue)
    _runner: web.AppRunner | None = None

    async def listen(self) -> None:
        """Begin to take requests."""
        app = web.Application(client_max_size=LONGEST_BODY_BYTES)
        app.router.add_get(HEALTH, self._health)
        app.router.add_get(LOAD, self._load)
        app.router.add_route("*", "/{path:.*}", self._take)
        longest = {"max_field_size": LONGEST_HEADER_BYTES, "max_line_size": LONGEST_HEADER_BYTES}
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.05, **longest)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def refuse(self) -> None:
        """Refuse connections from now on; what is open is cut."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def next_call(self) -> Call:
        """The next request that it begins, or has begun and not handed out."""
        return await self._arrived.get()

    async def _health(self, _: web.Request) -> web.Response:
        self.asked_for_health.set()
        return web.Response(status=200 if self.healthy else 503)

    async def _load(self, _: web.Request) -> web.Response:
        return web.Response(status=404)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        call = Call(request, await request.read())
        self.begun.append(call)
        if not self.holds:
            return web.json_response({"engine": self.name}, headers={"X-Engine": self.name})
        self.open.append(call)
        self._arrived.put_nowait(call)
        try:
            return await call.done()
        finally:
            self.open.remove(call)


@dataclass(slots=True)
class PlayedSupervisor:
    """Says which engines are drained, by HAProxy's agent check, and has the metrics of all of them on one page."""

    engines: list[PlayedEngine]
    agent_port: int
    status_port: int
    drained: set[str] = field(default_factory=set)
    _told: dict[str, asyncio.Event] = field(default_factory=dict)
    _answering: list[asyncio.Task[None]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """While it is there."""
        app = web.Application()
        app.router.add_get(METRICS, self._metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.status_port).start()
        try:
            async with await asyncio.start_server(self._asked, "127.0.0.1", self.agent_port):
                yield
        finally:
            await runner.cleanup()
            # The router has gone, and with it each question.
            await asyncio.gather(*self._answering, return_exceptions=True)

    async def told(self, name: str) -> None:
        """Until the router has asked for this engine and read the answer: it ends the connection once it acts by it."""
        told = self._told.setdefault(name, asyncio.Event())
        await told.wait()

    def _asked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._answering.append(asyncio.create_task(self._say(reader, writer)))

    async def _say(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            name = (await reader.readline()).decode().strip()
            told = self._told.pop(name, None)
            writer.write(b"drain\n" if name in self.drained else b"ready\n")
            with contextlib.suppress(OSError):  # NB: the end of the connection is a reset as a rule
                await reader.read()
            if told is not None:
                told.set()
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()

    async def _metrics(self, _: web.Request) -> web.Response:
        lines = [f'vllm:num_requests_running{{engine="{at}"}} {len(one.open)}' for at, one in enumerate(self.engines)]
        return web.Response(text="\n".join(lines) + "\n")
