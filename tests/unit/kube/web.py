"""HTTP servers on loopback that answer what a test tells them to, and a connection that reaches one as an API server."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from aiohttp import web
from kubernetes.aio.client.configuration import Configuration
from slm_operator.kube.connection import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

TOKEN = "the-token-of-whoever-asks"


@contextlib.asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    """Every request is answered by `answer`; gives the URL."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        (socket,) = site._server.sockets  # type: ignore[union-attr]
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection with a bearer token."""
    configuration = Configuration(host=url, api_key={"BearerToken": f"Bearer {TOKEN}"})
    connection = Connection(configuration=configuration)
    try:
        yield connection
    finally:
        await connection.close()
