"""What an image that means harm may answer when its /metrics are asked for, as handlers of an HTTP server.

`page` is a good one, so that an answer differs from it in one thing only.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from functools import cache

from aiohttp import web

from tests.light_engine.arguments import Settings
from tests.light_engine.exposition import exposition
from tests.light_engine.scheduler import Scheduler

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
MANY_BYTES = 150 << 20
"""More than a reader may hold: the chart gives the operator 256 MiB."""
RUNNING = "vllm:num_requests_running"


def page(running: str = "3") -> str:
    """vLLM's page, with this figure for the requests that run."""
    good = exposition(Scheduler(Settings(), 8, 2048, 100), "chat", {})
    return "".join(
        f"{line.rpartition(' ')[0]} {running}\n" if line.startswith(RUNNING) else f"{line}\n"
        for line in good.splitlines()
    )


def says(text: str | bytes, status: int = 200, **headers: str) -> Answer:
    """This body, with these headers (an underscore is a dash)."""

    async def answer(_: web.Request) -> web.Response:
        body = text if isinstance(text, bytes) else text.encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers={"Content-Type": "text/plain"} | named)

    return answer


async def plain_flood(request: web.Request) -> web.StreamResponse:
    """150 MiB, unpacked, without saying how much comes."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(MANY_BYTES >> 16):
        await answer.write(b"#" * (1 << 16))
    return answer


async def without_end(request: web.Request) -> web.StreamResponse:
    """A little at a time, for ever."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b"# more\n")
        await asyncio.sleep(0.001)


def bomb(coding: str, wbits: int) -> Answer:
    """150 MiB of zeros, packed; not before somebody asks."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return await says(_packed(wbits), Content_Encoding=coding)(request)

    return answer


@cache
def _packed(wbits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(MANY_BYTES >> 20))
    return packed + packer.flush()


REFUSED: dict[str, Answer] = {
    "a gzip bomb": bomb("gzip", 31),
    "a deflate bomb": bomb("deflate", 15),
    "a good page in gzip": says(zlib.compress(page().encode(), wbits=31), Content_Encoding="gzip"),
    "150 MiB": plain_flood,
    "a redirect away": says("", 302, Location="http://127.0.0.1:9/"),
    "a redirect to itself": says("", 307, Location="/metrics"),
    "a redirect to nowhere": says("", 302),
    "an error": says("no", 500),
    "an unheard-of status": says(page(), 299),
    "an error nested deeply": says("[" * 100_000, 500, Content_Type="application/json"),
    "bytes of no text": says(bytes(range(128, 256)) * 4000),
    "another page": says("<html></html>"),
    **{f"the figure {odd[:12]}": says(page(odd)) for odd in ("inf", "-inf", "NaN", "1e999", "-1", "word", "9" * 500_000)},
}  # fmt: skip
"""Answers that are no metrics, and no harm either. One that never ends is `without_end`."""

READ: dict[str, Answer] = {
    f"charset={codec}": says(page(), Content_Type=f"text/plain; charset={codec}")
    for codec in ("punycode", "rot13", "utf-16", "zlib", "nonsense", "idna")
} | {"a byte that is no UTF-8": says(b"# \xff\n" + page().encode())}
"""Answers that are a good page, whatever codec they name."""
