"""Played engines with a candidate in front of them, and what a point may do with both.

Where a router acts by itself (a check, a poll) one waits for what must come to be seen, and what never comes is missed
by the limits below, far from what is usual. Nothing here judges how long anything took.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from slm_core.engines.registry import default
from slm_core.pack_pod import engine_name
from slm_operator.manifests.router import Router

from benchmarks.router.candidates import running
from benchmarks.router.played import PlayedEngine, PlayedSupervisor
from tests.testbed.ports import free_ports

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Callable

    from benchmarks.router.candidates import Candidate
    from benchmarks.router.played import Call

LIMIT_SECONDS, STEP_SECONDS = 60.0, 10.0
"""Guards against a hang: of a point, and of one step of it."""
ENGINES, MOST_IN_FLIGHT = 4, 3
COMPLETIONS = "/v1/completions"
PROMPT = b'{"model": "m", "prompt": "x"}'
STREAM = b'{"model": "m", "prompt": "x", "stream": true}'


class Missed(AssertionError):  # noqa: N818 - a point is missed
    """The router does not do it; the message says what it did."""


@dataclass(frozen=True, slots=True)
class Pack:
    """Played engines with a candidate in front of them."""

    candidate: Candidate
    router: Router
    engines: list[PlayedEngine]
    supervisor: PlayedSupervisor
    process: Process
    http: aiohttp.ClientSession
    asked: list[asyncio.Future[Any]] = field(default_factory=list)
    """Requests on their way, ended with the pack."""

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"http://127.0.0.1:{self.router.port}"

    async def ask(self, body: bytes = PROMPT, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """One request, to the end: status, headers, body."""
        async with self._post(body, headers) as answer:
            return answer.status, dict(answer.headers), await answer.read()

    async def order(self, method: str, path: str) -> int:
        """The status of a request to any path."""
        async with self.http.request(method, self.url + path) as answer:
            return answer.status

    def asking(self) -> asyncio.Task[tuple[int, dict[str, str], bytes]]:
        """One request that is on its way."""
        task = asyncio.create_task(self.ask())
        self.asked.append(task)
        return task

    def _post(self, body: bytes, headers: dict[str, str]) -> aiohttp.client._RequestContextManager:
        content = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return self.http.post(self.url + COMPLETIONS, data=io.BytesIO(body), headers=content)

    async def hold(self, count: int) -> None:
        """So many requests at once, each begun by an engine and held there."""
        for engine in self.engines:
            engine.holds = True
        before = self.begun
        for _ in range(count):
            self.asking()
        await until(lambda: self.begun >= before + count)

    async def set_out(self, index: int, *, out: bool) -> None:
        """Take an engine out, or in again."""
        try:
            await asyncio.wait_for(self.candidate.set_out(self, index, out=out), STEP_SECONDS)
        except TimeoutError:
            raise Missed("cannot be told that an engine is to be left out") from None

    @property
    def begun(self) -> int:
        """Requests that any engine has begun."""
        return sum(len(engine.begun) for engine in self.engines)

    @property
    def in_flight(self) -> list[int]:
        """Requests at each engine."""
        return [len(engine.open) for engine in self.engines]


async def until(seen: Callable[[], bool]) -> None:
    """Wait for what has no event of its own."""
    while not seen():  # noqa: ASYNC110 - others are asked
        await asyncio.sleep(0.01)


_lent: set[int] = set()


def own_ports(count: int) -> list[int]:
    """Ports that no other pack of this process has, for several may be made before the first listens."""
    while _lent & (ports := set(free_ports(count))):
        continue
    _lent.update(ports)
    return sorted(ports)


def router_for(engine_ports: list[int], most_in_flight: int) -> Router:
    """A router of these engines, on ports of its own."""
    port, metrics_port, agent_port, status_port = own_ports(4)
    return Router(
        port=port,
        metrics_port=metrics_port,
        engine_ports=tuple(engine_ports),
        most_in_flight=most_in_flight,
        agent_port=agent_port,
        status_port=status_port,
        paths=default().paths,
    )


@contextlib.asynccontextmanager
async def pack(candidate: Candidate, *, listening: bool = True) -> AsyncIterator[Pack]:
    """A candidate in front of engines that listen, and that it knows to be ready; or of engines that do not."""
    router = router_for(own_ports(ENGINES), MOST_IN_FLIGHT)
    engines = [PlayedEngine(engine_name(at), port) for at, port in enumerate(router.engine_ports)]
    supervisor = PlayedSupervisor(engines, router.agent_port, router.status_port)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(supervisor.serving())
        for engine in engines:
            stack.push_async_callback(engine.refuse)
            if listening:
                await engine.listen()
        process = await stack.enter_async_context(running(candidate, router))
        # A connection for each request: else a client's own pool would try again what a router has cut off.
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        made = Pack(candidate, router, engines, supervisor, process, http)
        if listening:
            await until_ready(made)
        try:
            yield made
        finally:
            for task in made.asked:
                task.cancel()
            await asyncio.gather(*made.asked, return_exceptions=True)


async def until_ready(made: Pack) -> None:
    """Until it answers, and has seen each engine's health."""
    for engine in made.engines:
        await engine.asked_for_health.wait()
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with made.http.get(made.url + "/health") as answer:
                if answer.status == 200:
                    return
        if made.process.returncode is not None:
            raise RuntimeError(f"{made.candidate.name} ended by itself with status {made.process.returncode}")
        await asyncio.sleep(0.02)


async def until_listening(made: Pack) -> None:
    """Until its port takes connections."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", made.router.port)
            writer.close()
            await writer.wait_closed()
            return
        if made.process.returncode is not None:
            raise RuntimeError(f"{made.candidate.name} ended by itself with status {made.process.returncode}")
        await asyncio.sleep(0.02)


async def until_answers(made: Pack) -> None:
    """Until a request is answered."""
    while (await made.ask())[0] != 200:  # noqa: ASYNC110 - others are asked
        await asyncio.sleep(0.05)


async def first_call(made: Pack) -> Call:
    """The next request that any engine begins."""
    waiting = [asyncio.create_task(engine.next_call()) for engine in made.engines]
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in waiting:
            task.cancel()


@contextlib.asynccontextmanager
async def streaming(made: Pack) -> AsyncIterator[tuple[Call, aiohttp.ClientResponse]]:
    """A stream of which an engine has sent the first event, and the client has it."""
    for engine in made.engines:
        engine.holds = True
    content = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
    asking = asyncio.ensure_future(made.http.post(made.url + COMPLETIONS, data=STREAM, headers=content))
    made.asked.append(asking)
    call = await first_call(made)
    await call.send(b"data: begins\n\n")
    try:
        answer = await asyncio.wait_for(asking, STEP_SECONDS)
    except TimeoutError:
        raise Missed("nothing of an answer arrives while it goes on") from None
    async with answer:
        await read_event(answer, b"begins")
        yield call, answer


async def read_event(answer: aiohttp.ClientResponse, expected: bytes) -> None:
    """The next event."""
    try:
        event = await asyncio.wait_for(answer.content.readuntil(b"\n\n"), STEP_SECONDS)
    except TimeoutError:
        raise Missed(f"event {expected.decode()} was sent and does not arrive before the next one is") from None
    if event != b"data: " + expected + b"\n\n":
        raise Missed(f"event {expected!r} came as {event!r}")


async def until_begun(made: Pack, index: int) -> None:
    """Until that engine begins a request; each is answered at once."""
    before = len(made.engines[index].begun)
    for engine in made.engines:
        engine.holds = False
    while len(made.engines[index].begun) == before:
        await made.ask()
        await asyncio.sleep(0.02)


async def until_unused(made: Pack, engine: PlayedEngine) -> None:
    """Until an engine has no part in four rounds of requests, none of which may fail."""
    while True:
        before = len(engine.begun)
        answers = {(await made.ask())[0] for _ in range(4 * ENGINES)}
        if answers != {200}:
            raise Missed(f"while engines fall out, answers are {sorted(answers)}")
        if len(engine.begun) == before:
            return
        await asyncio.sleep(0.1)


async def until_refuses(made: Pack) -> None:
    """Until its port takes no connections."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", made.router.port)
        except OSError:
            return
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
