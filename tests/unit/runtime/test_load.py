"""The closed loop counts what failed as failed, and leaves no connection open, however its end comes about."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from slm_runtime.load import ClosedLoop
from slm_runtime.workload import parse_lengths


async def test_a_loop_ended_twice_closes_its_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget may end the search in just the moment in which a fault does."""
    ending, may_end = asyncio.Event(), asyncio.Event()

    async def slow_to_end(_loop: ClosedLoop, _url: str | None) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await may_end.wait()

    monkeypatch.setattr(ClosedLoop, "_work", slow_to_end)
    loop = ClosedLoop(["http://127.0.0.1:9"], "m", parse_lengths("8", "8"), 512, seed=1)
    loaded = asyncio.Event()

    async def load() -> None:
        async with loop:
            loop.start(None, 2)
            await asyncio.sleep(0)
            loaded.set()
            await asyncio.Event().wait()

    loading = asyncio.create_task(load())
    await loaded.wait()
    loading.cancel()
    await ending.wait()
    loading.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with contextlib.suppress(asyncio.CancelledError):
        await loading
    assert loop._session is not None
    assert loop._session.closed


STREAMS = {
    "in a chunk of its own": [b'data: {"choices":[]}\n\n', b'data: {"error":{"message":"dead"}}\n\ndata: [DONE]\n\n'],
    "cut in two by the network": [
        b'data: {"choices":[]}\n\ndata: {"er',
        b'ror":{"message":"dead"}}\n\ndata: [DONE]\n\n',
    ],
}


@pytest.mark.parametrize("case", STREAMS)
async def test_a_failure_reported_in_the_stream_is_no_answer(case: str) -> None:
    async def read() -> AsyncIterator[bytes]:
        for part in STREAMS[case]:
            yield part

    response: Any = SimpleNamespace(content=SimpleNamespace(iter_any=read))
    loop = ClosedLoop(["http://127.0.0.1:9"], "m", parse_lengths("8", "8"), 512, seed=1)
    with pytest.raises(aiohttp.ClientPayloadError, match="dead"):
        await loop._follow(response, 0.0)
