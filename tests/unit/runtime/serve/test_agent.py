"""Which engine may have requests is said to whoever asks, and an engine is handed over once the router acts by it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from slm_runtime.serve import agent as agents
from slm_runtime.serve.agent import Agent

from tests.testbed.ports import free_ports


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "ARRIVAL_SECONDS", 0)


@contextlib.asynccontextmanager
async def asked(port: int, line: bytes) -> AsyncIterator[bytes]:
    """A question, and its answer while the connection lasts."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(line)
    try:
        yield await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


async def answer(port: int, line: bytes) -> bytes:
    async with asked(port, line) as said:
        return said


async def test_each_engine_has_its_own_answer() -> None:
    agent, (port,) = Agent(2, lambda index: index == 1), free_ports(1)
    async with agent.serving(port):
        assert not agent.is_asked
        assert await answer(port, b"engine-0\n") == b"drain\n"
        assert await answer(port, b"engine-1\n") == b"ready\n"
        assert agent.is_asked


@pytest.mark.parametrize("line", [b"engine-2\n", b"GET / HTTP/1.1\r\n", b"\xff\n", b"x" * 2**17 + b"\n"])
async def test_question_of_somebody_else_has_no_answer(line: bytes) -> None:
    agent, (port,) = Agent(2, lambda _: True), free_ports(1)
    async with agent.serving(port):
        with contextlib.suppress(ConnectionError):
            assert await answer(port, line) == b""
        assert not agent.is_asked
        assert await answer(port, b"engine-1\n") == b"ready\n"


async def test_engine_is_handed_over_once_a_drain_was_taken() -> None:
    ready = {0, 1}
    agent, (port,) = Agent(2, lambda index: index in ready), free_ports(1)
    async with agent.serving(port):
        await answer(port, b"engine-1\n")
        ready.remove(1)
        over = asyncio.create_task(agent.hand_over(1))
        await answer(port, b"engine-0\n")
        async with asked(port, b"engine-1\n") as said:
            assert said == b"drain\n"
            assert await answer(port, b"engine-0\n") == b"ready\n"
            assert not over.done()  # the router may still be reading
        await asyncio.wait_for(over, 10)


async def test_answer_of_ready_hands_nothing_over() -> None:
    ready = True
    agent, (port,) = Agent(1, lambda _: ready), free_ports(1)
    async with agent.serving(port):
        async with asked(port, b"engine-0\n"):
            ready = False
            over = asyncio.create_task(agent.hand_over(0))
        await answer(port, b"somebody\n")
        assert not over.done()
        await answer(port, b"engine-0\n")
        await asyncio.wait_for(over, 10)


async def test_router_that_never_asked_is_not_waited_for() -> None:
    await asyncio.wait_for(Agent(1, lambda _: False).hand_over(0), 1)


async def test_router_that_stops_asking_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "TAKEN_OUT_SECONDS", 0.01)
    agent, (port,) = Agent(1, lambda _: False), free_ports(1)
    async with agent.serving(port):
        await answer(port, b"engine-0\n")
        await asyncio.wait_for(agent.hand_over(0), 10)


async def test_supervisor_held_up_still_waits_for_the_router(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "ROUTER_SILENT_SECONDS", 0)
    ready = True
    agent, (port,) = Agent(1, lambda _: ready), free_ports(1)
    async with agent.serving(port):
        await answer(port, b"engine-0\n")
        ready = False
        assert not agent.is_asked
        over = asyncio.create_task(agent.hand_over(0))
        await answer(port, b"somebody\n")
        assert not over.done()
        await answer(port, b"engine-0\n")
        await asyncio.wait_for(over, 10)


async def test_conversation_that_took_too_long_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "SURE_SECONDS", 0)
    agent, (port,) = Agent(1, lambda _: False), free_ports(1)
    async with agent.serving(port):
        await answer(port, b"engine-0\n")
        over = asyncio.create_task(agent.hand_over(0))
        await answer(port, b"engine-0\n")
        await answer(port, b"somebody\n")
        assert not over.done()
        over.cancel()
