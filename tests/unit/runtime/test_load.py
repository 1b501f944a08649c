"""The closed loop asks as clients do, counts what failed as failed, and leaves no connection open, however it ends."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from slm_runtime.answers import Answer
from slm_runtime.connection import Connection, RequestFailedError
from slm_runtime.load import ClosedLoop
from slm_runtime.prompts import HEAD_TOKENS, text_tokens
from slm_runtime.workload import parse_lengths

TOKENS = text_tokens({"vocab_size": 512})
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[]}\n\n'
DONE = b"data: [DONE]\n\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Engine:
    """Answers every request by writing some parts, one after the other, and remembers what it was asked."""

    def __init__(
        self, parts: list[bytes], then: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None
    ) -> None:
        self._parts = parts
        self._then = then
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.connections: list[asyncio.StreamWriter] = []
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                self.bodies.append(json.loads(await reader.readexactly(length)))
                self.asked.set()
                for part in self._parts:
                    writer.write(part)
                    await writer.drain()
                if self._then:
                    await self._then(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            writer.close()


@asynccontextmanager
async def engine(
    *parts: bytes, then: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None
) -> AsyncIterator[Engine]:
    made = Engine(list(parts), then)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()


def loop_of(url: str, seed: int = 1) -> ClosedLoop:
    return ClosedLoop([url], "m", parse_lengths("24", "2"), TOKENS, seed)


async def some_answers(loop: ClosedLoop, width: int | None, answers: int, in_flight: int | None = None) -> None:
    async with asyncio.timeout(60), loop:
        loop.start(width, in_flight)
        while loop.answered + loop.errors < answers:  # noqa: ASYNC110 - what the workers count
            await asyncio.sleep(0)


WHOLE = (STREAM, chunk(EVENT), chunk(EVENT), chunk(DONE) + LAST)


async def test_every_request_is_streamed_with_the_models_own_sampling() -> None:
    async with engine(*WHOLE) as asked:
        await some_answers(loop_of(asked.url), 4, 40)
    for body in asked.bodies:
        assert body.pop("prompt")
        assert body.pop("max_tokens") in {1, 2}
        assert body == {"model": "m", "ignore_eos": True, "stream": True}


async def test_every_request_has_what_the_engine_wants() -> None:
    async with engine(*WHOLE) as asked:
        loop = loop_of(asked.url)
        loop.headers = {"Authorization": "Bearer key"}
        await some_answers(loop, 2, 8)
    assert all("\r\nAuthorization: Bearer key\r\n" in head for head in asked.heads)


async def test_loops_of_different_seeds_share_no_beginning() -> None:
    async with engine(*WHOLE) as asked:
        for seed in (1, 2):
            await some_answers(loop_of(asked.url, seed), 4, 40)
    heads = [tuple(body["prompt"][:HEAD_TOKENS]) for body in asked.bodies]
    assert len(heads) >= 80
    assert len(set(heads)) == len(heads)


async def test_each_place_of_the_loop_keeps_its_connection() -> None:
    async with engine(*WHOLE) as asked:
        await some_answers(loop_of(asked.url), 4, 40)
    assert len(asked.connections) == 4


async def test_the_first_token_of_every_answer_is_timed() -> None:
    async with engine(*WHOLE) as asked:
        loop = loop_of(asked.url)
        await some_answers(loop, 4, 40)
    assert loop.errors == 0
    assert len(loop.sample.ttft_ms) >= loop.answered


async def test_requests_in_flight_go_to_every_engine() -> None:
    async with engine(*WHOLE) as one, engine(*WHOLE) as other:
        loop = ClosedLoop([one.url, other.url], "m", parse_lengths("24", "2"), TOKENS, 1)
        await some_answers(loop, None, 60, in_flight=2)
    assert one.bodies
    assert other.bodies


async def test_how_many_events_a_token_makes_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    expected: list[float | None] = []
    finish = Answer.finish

    async def noting(answer: Answer, events: float | None) -> None:
        expected.append(events)
        await finish(answer, events)

    monkeypatch.setattr(Answer, "finish", noting)
    async with engine(STREAM, chunk(EVENT), chunk(DONE) + LAST) as asked:
        loop = ClosedLoop([asked.url], "m", parse_lengths("24", "64"), TOKENS, 1)
        loop._watched_allowed = 0
        await some_answers(loop, 1, 4)
    assert expected[0] is None
    assert expected[3] == 1, "all 64 tokens come in one event"


def test_as_many_answers_are_watched_as_their_tokens_permit() -> None:
    loop = loop_of("")
    for itl_seconds, watched in ((0.1, 50), (0.01, 5), (0.0, 1)):
        loop.open_window(itl_seconds)
        assert loop._watched_allowed == watched


class Timed:
    """An answer whose next events come every 40 ms, by the clock that it moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *events: int) -> None:
        self.now = 100.0
        self._events = iter(events)
        monkeypatch.setattr("slm_runtime.load.time.monotonic", lambda: self.now)

    async def more(self) -> int:
        self.now += 0.04
        return next(self._events)


async def test_stream_events_that_come_together_share_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    answer: Any = Timed(monkeypatch, 1, 4, 0)
    loop = loop_of("")
    await loop._watch(answer)
    assert loop.sample.itl_ms == pytest.approx([40, 10, 10, 10, 10])


async def test_token_begun_before_the_window_is_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    answer: Any = Timed(monkeypatch, 1, 1, 1, 0)
    loop = loop_of("")
    began, loop.sample.opened = answer.now, answer.now + 0.05
    await loop._first(answer, began)
    await loop._watch(answer)
    assert loop.sample.ttft_ms == []
    assert loop.sample.itl_ms == pytest.approx([40])


FAILED = {
    "an error in a chunk of its own": (STREAM + chunk(EVENT), chunk(b'data: {"error":{"message":"dead"}}\n\n' + DONE) + LAST),
    "an error cut in two by the network": (STREAM + b'29\r\ndata: {"er', b'ror":{"message":"dead"}}\n\n\r\n' + chunk(DONE) + LAST),
    "a stream that ends without its end": (STREAM + chunk(EVENT), LAST),
    "a stream without chunks that is no stream": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",),
    "a refusal": (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nfull",),
    "no HTTP": (b"hello\r\n\r\n",),
}  # fmt: skip
SAYS = {
    "a refusal": "status 503: full",
    "no HTTP": "no HTTP",
    "a stream that ends without its end": "after 1 events, and not with",
    "a stream without chunks that is no stream": "after 0 events, and not with",
}


@pytest.mark.parametrize("case", FAILED)
@pytest.mark.parametrize("watched", [1, 0], ids=["watched", "waited-for"])
async def test_an_answer_that_failed_is_counted_as_failed(
    case: str, watched: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slm_runtime.load.ERROR_PAUSE_SECONDS", 0)
    async with engine(*FAILED[case]) as asked:
        loop = loop_of(asked.url)
        loop._watched_allowed = watched
        await some_answers(loop, 1, 3)
    assert loop.answered == 0
    assert all(SAYS.get(case, "dead") in said for said in loop.last_errors)


async def test_a_connection_closed_in_the_middle_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slm_runtime.load.ERROR_PAUSE_SECONDS", 0)

    async def hang_up(writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    async with engine(STREAM, chunk(EVENT), then=hang_up) as asked:
        loop = loop_of(asked.url)
        await some_answers(loop, 1, 3)
    assert loop.answered == 0
    assert "closed before the answer's end" in loop.last_errors[-1]


async def test_long_answer_is_looked_at_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events gather while nobody looks, and the end is found all the same."""
    rests: list[float] = []
    parts: list[float] = []
    events = 512
    fed = 0

    class Slow:
        """A thousandth of a second for each event, by a clock of its own."""

        now = 0.0

        async def read(self) -> bytes:
            nonlocal fed
            self.now = max(self.now, 0.001 * (fed + 1))
            here = min(events, round(self.now * 1000)) - fed
            fed += here
            return EVENT * here + DONE * (fed == events) if here else b""

        async def rest(self, seconds: float) -> None:
            rests.append(seconds)
            parts.append(seconds * 1000 / (events - fed))
            self.now += seconds

    slow: Any = Slow()
    monkeypatch.setattr("slm_runtime.answers.time.monotonic", lambda: slow.now)
    answer = Answer(slow)
    await answer.more()
    await answer.finish(float(events))
    assert answer.events == events
    assert len(rests) < 12
    assert max(rests) <= 0.25
    assert max(parts) < 0.6, "an answer that speeds up must not be missed"


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_an_answer_cut_anywhere_is_read_to_its_end(size: int) -> None:
    whole = chunk(EVENT) + chunk(EVENT) + chunk(DONE) + LAST
    connection = Connection("http://127.0.0.1:9", {})
    connection._reader, connection._end = asyncio.StreamReader(), b"\r\n"
    answer = Answer(connection)
    reading = asyncio.create_task(answer.finish(None))
    for at in range(0, len(whole), size):
        connection._reader.feed_data(whole[at : at + size])
        for _ in range(3):
            await asyncio.sleep(0)  # until it has read that
    assert reading.done()
    assert answer.events == 2


async def test_load_loop_closes_its_connections_at_its_end() -> None:
    async def never(_: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with engine(STREAM, then=never) as asked:
        async with asyncio.timeout(60):
            async with loop_of(asked.url) as loop:
                loop.start(1, None)
                await asked.asked.wait()
            (connection,) = asked.connections
            with contextlib.suppress(ConnectionError):
                while True:
                    connection.write(b"x")
                    await connection.drain()
                    await asyncio.sleep(0)


async def test_connection_closed_by_the_server_is_opened_anew() -> None:
    async with engine(*WHOLE, then=_close) as asked, asyncio.timeout(60):
        with Connection(asked.url, {}) as connection:
            for _ in range(2):
                assert await connection.post("/v1/completions", b"{}") == 200
                await Answer(connection).finish(None)
                while connection._reader and not connection._reader.at_eof():  # noqa: ASYNC110 - the transport tells
                    await asyncio.sleep(0)
    assert len(asked.connections) == 2


async def test_a_connection_that_lay_idle_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may be about to close it."""
    async with engine(*WHOLE) as asked, asyncio.timeout(60):
        with Connection(asked.url, {}) as connection:
            for idle_seconds in (60, 60, 0):
                monkeypatch.setattr("slm_runtime.connection.IDLE_SECONDS", idle_seconds)
                await connection.post("/v1/completions", b"{}")
                await Answer(connection).finish(None)
    assert len(asked.connections) == 2


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_refused_connection_is_a_failure_of_the_system() -> None:
    with Connection("http://127.0.0.1:9", {}) as connection, pytest.raises((OSError, RequestFailedError)):
        await connection.post("/v1/completions", b"{}")
