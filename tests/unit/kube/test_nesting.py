"""Objects nested as deeply as the API server takes them, through the connection that Kopf lists and watches by."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import kopf
import pytest
from aiohttp import web
from kopf._cogs.clients import api, auth
from kopf._cogs.structs import credentials
from slm_operator.kube.client import Client
from slm_operator.kube.errors import ApiError
from slm_operator.kube.resources import POD, ResourceTable
from slm_operator.settings import Settings
from slm_operator.watch.records import Key
from slm_operator.watch.watch_list import Caches, watched_kinds
from slm_operator.watch.world import World
from unit.kube.web import connected, server

from tests.builders import page, raw_pod
from tests.nesting import API_SERVER_LEVELS, DEEP, deep_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.kube.connection import Connection

LEVELS = [500, 1500, API_SERVER_LEVELS]
SETTINGS = kopf.OperatorSettings()


def deep_pod(name: str, version: int = 1) -> dict[str, Any]:
    """As whoever may write pods writes it: the API server keeps paths that it does not know in managedFields."""
    raw = raw_pod(name, version=version)
    raw["metadata"]["managedFields"] = [{"manager": "me", "operation": "Update", "fieldsV1": {"f:spec": DEEP}}]
    return raw


async def as_kopf(connection: Connection, world: World) -> dict[str, Any]:
    """What Kopf's requests take, once it has logged in."""
    session = kopf.AiohttpSession(server=connection.server, aiohttp_session=connection.watching_session(world))
    vault = credentials.Vault()
    await vault.populate({"login": session})
    auth.vault_var.set(vault)
    return {"settings": SETTINGS, "logger": logging.getLogger("kopf")}


@pytest.mark.parametrize("levels", LEVELS)
async def test_a_list_with_a_deep_object_is_taken_whole(levels: int) -> None:
    async def listed(_: web.Request) -> web.Response:
        return web.Response(text=deep_json(page("Pod", deep_pod("deep"), raw_pod("plain")), levels))

    caches = Caches()
    world = World(watched_kinds(caches, Settings()), lambda _: None)
    async with server(listed) as url, connected(url) as connection:
        await api.get("/api/v1/pods", **(await as_kopf(connection, world)))
    assert set(caches.pods.keys()) == {Key("team", "deep"), Key("team", "plain")}
    assert all(pod.gpu_requests == {"nvidia.com/gpu": 1} for pod in caches.pods)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("piece", [64, 1 << 20])
async def test_a_watch_goes_on_past_a_deep_object(levels: int, piece: int) -> None:
    names = ["before", "deep", "after", "last"]
    pods = [deep_pod(name, 5) if name == "deep" else raw_pod(name, version=5) for name in names]
    text = "\n".join(deep_json({"type": "ADDED", "object": pod}, levels) for pod in pods).encode()

    async def watched(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for start in range(0, len(text), piece):
            await answer.write(text[start : start + piece])
        return answer

    caches = Caches()
    world = World(watched_kinds(caches, Settings()), lambda _: None)
    async with server(watched) as url, connected(url) as connection:
        seen = [event async for event in api.stream("/api/v1/pods?watch=true", **(await as_kopf(connection, world)))]
    assert seen == [{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "5"}}}] * len(names)
    assert set(caches.pods.keys()) == {Key("team", name) for name in names}


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_own_request_with_a_deep_answer_ends_as_any_other(status: int) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=deep_json({"items": [deep_pod("deep")], "message": "no"}))

    async def names(connection: Connection) -> list[str]:
        found: list[Mapping[str, Any]] = await Client(connection, ResourceTable(), "test").list(POD)
        return [raw["metadata"]["name"] for raw in found]

    async with server(answer) as url, connected(url) as connection:
        if status == 200:
            assert await names(connection) == ["deep"]
        else:
            with pytest.raises(ApiError, match=r"^no$"):
                await names(connection)
