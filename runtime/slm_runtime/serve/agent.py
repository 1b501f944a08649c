"""The router's questions, which engine may have requests: HAProxy's agent check, on a port of its own.

    asked: engine-1        answered: ready | drain

One line each way, and the router ends the connection once it acts by the answer: from that moment no request is sent to an
engine that was said to drain. That is how the supervisor knows when it may end one, because an engine that is ending goes
on listening, calls itself healthy and drops what comes. Must never say `ready` of an engine that has answered nothing
yet, and must never keep the supervisor waiting for a router that is away.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from slm_core.pack_pod import AGENT_TIMEOUT_SECONDS, HANDOVER_SECONDS, ROUTER_SILENT_SECONDS, engine_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

READY, DRAIN = b"ready\n", b"drain\n"
ARRIVAL_SECONDS = 2.0
"""What the router sent just before it left an engine out is with the engine's scheduler within so long."""
TAKEN_OUT_SECONDS = HANDOVER_SECONDS - ARRIVAL_SECONDS
SURE_SECONDS = AGENT_TIMEOUT_SECONDS / 2
"""NB: the router also ends a connection that was not answered in time, and acts by nothing then."""


class Agent:
    """Answers for one pack."""

    def __init__(self, engines: int, may_have_requests: Callable[[int], bool]) -> None:
        """`may_have_requests`: of an engine, now."""
        self._may_have_requests = may_have_requests
        self._index = {engine_name(index): index for index in range(engines)}
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self._asked_at: float | None = None

    @property
    def is_asked(self) -> bool:
        """Whether a router is there."""
        return self._asked_at is not None and _now() - self._asked_at < ROUTER_SILENT_SECONDS

    @contextlib.asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[None]:
        """While it answers, on loopback."""
        server = await asyncio.start_server(self._converse, "127.0.0.1", port)
        try:
            yield
        finally:
            server.close()

    async def hand_over(self, index: int) -> None:
        """Wait until the router sends an engine nothing more, and what it had sent has arrived; so long for one that is away.

        NB: not by `is_asked`. A supervisor that was held up itself has heard no question, and the router goes on sending.
        """
        if self._asked_at is None:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(index, []).append(waiting)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiting, TAKEN_OUT_SECONDS)
            await asyncio.sleep(ARRIVAL_SECONDS)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, ValueError
        ):  # it has gone, or says what is no line; TimeoutError is an OSError
            async with asyncio.timeout(2 * AGENT_TIMEOUT_SECONDS):
                await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = _now()
        index = self._index.get((await reader.readline()).decode(errors="replace").strip())
        if index is None:
            return
        self._asked_at = _now()
        is_ready = self._may_have_requests(index)
        writer.write(READY if is_ready else DRAIN)
        with contextlib.suppress(ConnectionError):  # NB: its end is a reset as a rule
            await reader.read()
        if not is_ready and _now() - began < SURE_SECONDS:
            for one in self._waiting.pop(index, ()):
                if not one.done():
                    one.set_result(None)


def _now() -> float:
    return asyncio.get_running_loop().time()
