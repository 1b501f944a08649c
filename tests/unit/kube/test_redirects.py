"""Whoever stands behind the API server's proxy may answer a redirect: it is not followed, and no credential leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import aiohttp
import pytest
from aiohttp import web
from slm_operator.kube.client import Client
from slm_operator.kube.connection import Connection
from slm_operator.kube.errors import Unavailable
from slm_operator.kube.resources import POD, ResourceTable
from slm_operator.watch.world import World
from unit.kube.web import TOKEN, connected, server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


PATH = POD.path("team", "opt-a:8000", "proxy/metrics")


async def by_client(connection: Connection) -> Any:
    return await Client(connection, ResourceTable(), "test").page(PATH)


async def by_kopf(connection: Connection) -> Any:
    async with connection.watching_session(nothing_watched()).get(connection.server + PATH) as answer:
        return await answer.text()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("ask", [by_client, by_kopf])
async def test_a_redirect_elsewhere_is_an_error_and_not_followed(
    ask: Callable[[Connection], Awaitable[Any]], status: int
) -> None:
    stolen: list[str | None] = []

    async def steal(request: web.Request) -> web.Response:
        stolen.append(request.headers.get("Authorization"))
        return web.Response(text="thanks")

    async with server(steal) as thief:

        async def redirect(_: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": f"{thief}/steal"})

        async with server(redirect) as api, connected(api) as connection:
            with pytest.raises((Unavailable, aiohttp.ClientError), match=f"redirect.*{status}"):
                await ask(connection)
    assert stolen == []


@pytest.mark.parametrize("ask", [by_client, by_kopf])
async def test_redirect_inside_the_same_server_is_not_followed(
    ask: Callable[[Connection], Awaitable[Any]],
) -> None:
    asked: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path == "/api/v1/secrets":
            return web.json_response({"kind": "SecretList"})
        return web.Response(status=302, headers={"Location": "/api/v1/secrets"})

    async with server(redirect) as api, connected(api) as connection:
        with pytest.raises((Unavailable, aiohttp.ClientError), match="redirect"):
            await ask(connection)
    assert [unquote(path) for path in asked] == [unquote(PATH)]


def nothing_watched() -> World:
    return World((), lambda _: None, ())


@pytest.mark.parametrize("session", [Connection.session, lambda one: one.watching_session(nothing_watched())])
async def test_the_token_goes_to_the_servers_own_origin_only(
    session: Callable[[Connection], aiohttp.ClientSession],
) -> None:
    seen: list[tuple[str, str | None]] = []

    def reported(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            seen.append((name, request.headers.get("Authorization")))
            return web.Response()

        return answer

    async with server(reported("api")) as api, server(reported("other")) as other, connected(api) as connection:
        for url in (api, other):
            async with session(connection).get(url):
                pass
    assert seen == [("api", f"Bearer {TOKEN}"), ("other", None)]


async def test_a_cookie_that_an_engine_sets_is_not_kept() -> None:
    cookies: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        cookies.append(request.headers.get("Cookie"))
        return web.Response(headers={"Set-Cookie": "session=another; Path=/"})

    async with server(answer) as api, connected(api) as connection:
        for _ in range(2):  # by name: the default jar keeps nothing of a bare address
            async with connection.session().get(api.replace("127.0.0.1", "localhost")):
                pass
    assert cookies == [None, None]
