"""Bodies of requests: JSON that the API server can read as YAML too, as it does for an apply."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from slm_operator.kube.client import Client, encoded
from slm_operator.kube.resources import ResourceTable
from unit.kube.web import connected, server


@given(st.dictionaries(st.text(max_size=20), st.text()))
def test_a_body_is_the_same_value_as_json_and_as_yaml(body: dict[str, str]) -> None:
    sent = encoded(body)
    assert json.loads(sent) == body
    assert yaml.safe_load(sent) == body


@pytest.mark.parametrize(
    ("said", "read"),
    [("\U0001f480", "\U0001f480"), ("\x7f \x85 \x9b", "\x7f \x85 \x9b"), ("\ufeff \uffff", "\ufeff \uffff"),
     ("\ud83d", "�"), ("\\ud83d", "\\ud83d"), ("\x00 \u2028", "\x00 \u2028")],
)  # fmt: skip
async def test_apply_keeps_every_character(said: str, read: str) -> None:
    bodies: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.json_response({})

    manifest: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "annotations": {"a": said}},
    }
    async with server(take) as url, connected(url) as connection:
        await Client(connection, ResourceTable(), "test").apply(manifest, force=False)
    assert [yaml.safe_load(body)["metadata"]["annotations"]["a"] for body in bodies] == [read]
    assert b"\\ud8" not in bodies[0].replace(b"\\\\", b"")


async def test_apply_names_the_given_field_manager_or_the_usual() -> None:
    managers: list[str] = []

    async def take(request: web.Request) -> web.Response:
        managers.append(request.query["fieldManager"])
        return web.json_response({})

    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    async with server(take) as url, connected(url) as connection:
        client = Client(connection, ResourceTable(), "test")
        await client.apply(manifest, force=False)
        await client.apply(manifest, force=False, manager="another")
    assert managers == ["test", "another"]
