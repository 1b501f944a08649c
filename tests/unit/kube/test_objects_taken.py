"""Lists and watches taken object by object: none is lost or cut, however it arrives, and one at a time is held."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from kopf._cogs.clients import api
from slm_operator.kube.objects_taken import Items
from slm_operator.settings import Settings
from slm_operator.watch.records import Key
from slm_operator.watch.watch_list import Caches, watched_kinds
from slm_operator.watch.world import World
from unit.kube.test_nesting import as_kopf
from unit.kube.web import connected, server

from tests.builders import page, raw_pod
from tests.nesting import DEEP, deep_json

if TYPE_CHECKING:
    from collections.abc import Iterable

PODS: list[dict[str, Any]] = [raw_pod(name) for name in "abc"]
"""As the API server writes them: with the same first key."""
ODD = [
    {"metadata": {"name": "text"}, "x": '},{"metadata":', "y": ["]", "}", '"', "\\"]},
    {"metadata": {"name": "list"}, "x": [{}, {"metadata": {"name": "no pod"}}, {"metadata": {}}]},
    {"metadata": {"name": "one"}},
]
EMPTY_LISTS = 5000
BIG = 12


def written(answer: Any) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()


def split(text: bytes, piece: int) -> tuple[list[Any], Any]:
    shown: list[Any] = []
    items = Items(shown.append)
    for start in range(0, len(text), piece):
        items.feed(text[start : start + piece])
    return shown, items.end()


@pytest.mark.parametrize("piece", [1, 7, 100, 1 << 20])
@pytest.mark.parametrize("objects", [[], PODS, PODS[:1], ODD, ODD[::-1], [*PODS, *ODD, *PODS]])
def test_items_are_shown_whole_and_in_order(objects: list[Any], piece: int) -> None:
    answer = page("Pod", *objects, more=True)
    last = {name: answer[name] for name in ("items", "kind", "metadata")}  # as a custom resource's list is written
    for text in (written(answer), written(last), json.dumps(answer).encode()):
        assert split(text, piece) == (objects, answer | {"items": []})


@pytest.mark.parametrize("piece", [1 << 12, 1 << 20])
def test_a_deep_item_is_cut_and_its_neighbours_are_whole(piece: int) -> None:
    deep = {"metadata": {"name": "deep"}, "x": DEEP, "y": 1}
    text = deep_json(page("Pod", *PODS, deep, *ODD)).replace(": ", ":").replace(", ", ",").encode()
    shown, _ = split(text, piece)
    assert [one["metadata"]["name"] for one in shown] == ["a", "b", "c", "deep", "text", "list", "one"]
    assert shown[3]["y"] == 1


@pytest.mark.parametrize("text", [b"", b"{", b'{"items":[{"a":1},{"a":', b'{"items":[{"a":1}', b'{"items":[{"a":"'])
def test_a_list_that_ends_too_early_is_no_list(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        split(text, 100)


def test_other_answers_are_given_as_they_are() -> None:
    assert split(b'{"kind":"Status","code":403}', 100) == ([], {"kind": "Status", "code": 403, "items": []})
    assert split(b'{"kind":"PodList","items":null}', 100) == ([], {"kind": "PodList", "items": []})


@pytest.mark.parametrize("harm", ['},{"metadata":', '"},{\\"metadata\\":', "[]" * 10, '"'])
def test_object_full_of_separators_is_split_in_linear_time(harm: str) -> None:
    """Counted are the calls of the decoder: a piece that was no object is not tried again and again."""
    big = {"metadata": {"name": "big"}, "x": [harm] * 2000, "y": [{}, {"metadata": {}}] * 2000}
    shown, _ = split(written(page("Pod", big, *PODS)), 1 << 12)
    assert shown == [big, *PODS]


def fat(name: str) -> dict[str, Any]:
    raw = raw_pod(name)
    raw["metadata"]["managedFields"] = [[]] * EMPTY_LISTS
    return raw


async def peak_bytes_of(text: Iterable[bytes], url: str) -> int:
    """Most memory that it takes to give this answer to Kopf, its text left out."""

    async def answered(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for piece in text:
            await answer.write(piece)
        return answer

    caches = Caches()
    world = World(watched_kinds(caches, Settings()), lambda _: None)
    async with server(answered) as address, connected(address) as connection:
        kopf = await as_kopf(connection, world)
        tracemalloc.start()
        try:
            if "watch" in url:
                assert [event["type"] async for event in api.stream(url, **kopf)] == ["BOOKMARK"] * BIG
            else:
                await api.get(url, **kopf)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert set(caches.pods.keys()) == {Key("team", f"fat-{number}") for number in range(BIG)}
    return peak


ONE = 64 * EMPTY_LISTS
"""What one of these objects takes once decoded, in bytes."""


async def test_a_page_of_big_objects_takes_the_memory_of_one() -> None:
    text = written(page("Pod", *(fat(f"fat-{number}") for number in range(BIG))))
    assert await peak_bytes_of([text], "/api/v1/pods") < 4 * ONE


async def test_a_watch_of_big_objects_takes_the_memory_of_one() -> None:
    lines = [written({"type": "ADDED", "object": fat(f"fat-{number}")}) + b"\n" for number in range(BIG)]
    assert await peak_bytes_of(lines, "/api/v1/pods?watch=true") < 4 * ONE
