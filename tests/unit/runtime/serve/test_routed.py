"""A whole pack as in its pod, without Kubernetes: supervisor, HAProxy with the product's configuration, light engines."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from slm_core.engines.registry import default
from slm_operator.manifests.router import Router

from benchmarks.router.candidates import HAProxy, running
from tests.testbed.ports import free_ports
from tests.unit.runtime.serve.conftest import HANG_SECONDS, Pack, Serve, consecutive_ports

pytestmark = pytest.mark.slow
SLICED = ("--device", "cpu", "--sharing-mode", "time-slicing")
ENGINES = 3
LONG = 400
"""Tokens of a request that lasts until something has happened."""
STEP = {"LIGHT_ENGINE_STEP_MS": "5"}
ANSWERED, REFUSED, LOST = "answered", "refused", "lost"


@dataclass
class Routed:
    """A pack behind its router."""

    pack: Pack
    router: asyncio.subprocess.Process
    port: int
    key: str = ""
    """What clients send, if any."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """Of a load's requests."""

    async def status_of(self, path: str, key: str = "") -> int:
        """What a GET is answered with, or, below /v1, a request for tokens."""
        url, headers = f"http://127.0.0.1:{self.port}{path}", {"Authorization": f"Bearer {key}"} if key else {}
        body = {"model": "opt-tiny", "prompt": "a question", "max_tokens": 4} if path.startswith("/v1") else None
        method = "GET" if body is None else "POST"
        async with self.pack.session.request(method, url, json=body, headers=headers) as answer:
            return answer.status

    async def ask(self, tokens: int) -> str:
        """What came of one request: refused is only who was told so in order."""
        body = {"model": "opt-tiny", "prompt": "a question", "max_tokens": tokens}
        try:
            url, headers = f"http://127.0.0.1:{self.port}/v1/completions", {"Authorization": f"Bearer {self.key}"}
            async with self.pack.session.post(url, json=body, headers=headers) as answer:
                said = await answer.json()
                if answer.status == 200 and said["usage"]["completion_tokens"] == tokens:
                    return ANSWERED
                return REFUSED if answer.status == 503 and "Retry-After" in answer.headers else LOST
        except (aiohttp.ClientError, KeyError):
            return LOST

    @contextlib.asynccontextmanager
    async def load(self, clients: int = 4) -> AsyncIterator[None]:
        """Clients that go on asking, and whose last requests are awaited at the end."""
        is_over = False

        async def go_on() -> None:
            while not is_over:
                self.outcomes[await self.ask(tokens=8)] += 1

        tasks = [asyncio.create_task(go_on()) for _ in range(clients)]
        try:
            yield
        finally:
            is_over = True
            await asyncio.gather(*tasks)

    async def holds(self, requests: int) -> list[asyncio.Task[str]]:
        """So many long requests, spread evenly."""
        asked = [asyncio.create_task(self.ask(LONG)) for _ in range(requests)]
        for engine in range(ENGINES):
            await self.pack.runs(engine, requests // ENGINES)
        return asked

    async def metrics(self) -> str:
        async with self.pack.session.get(f"http://127.0.0.1:{self.port}/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            return await answer.text()

    async def becomes_ready(self, status: int = 200) -> None:
        """Until the pack says so."""
        async with asyncio.timeout(HANG_SECONDS):
            while (await self.pack.get("/readyz"))[0] != status:  # noqa: ASYNC110 - another process is asked
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def routed(serve: Serve, **variables: str) -> AsyncIterator[Routed]:
    """Everything up, and every engine used."""
    first, (status, agent, port, own) = consecutive_ports(ENGINES), free_ports(4)
    router = Router(
        port=port,
        metrics_port=own,
        engine_ports=tuple(range(first, first + ENGINES)),
        most_in_flight=16,
        agent_port=agent,
        status_port=status,
        paths=default().paths,
    )
    async with (
        running(HAProxy(), router) as process,
        serve(*SLICED, "--agent-port", str(agent), engines=ENGINES, ports=(first, status), **variables) as pack,
    ):
        made = Routed(pack, process, port, key=variables.get("VLLM_API_KEY", ""))
        await pack.serves(ENGINES)
        async with asyncio.timeout(HANG_SECONDS):
            while not all(finished(await made.metrics()).values()):
                await asyncio.gather(*(made.ask(tokens=4) for _ in range(2 * ENGINES)))
        yield made


def finished(page: str) -> dict[int, float]:
    """Requests that were answered through the router, by engine: a start's own one does not count."""
    families = {family.name: family for family in text_string_to_metric_families(page)}
    return {int(one.labels["engine"]): one.value - 1 for one in families["vllm:request_success"].samples}


async def test_pack_answers_streams_and_shows_all_engines(serve: Serve) -> None:
    async with routed(serve, TEST_TAKEN_OUT_SECONDS="0.1") as made:
        assert (await made.pack.get("/readyz"))[0] == 200
        assert [await made.ask(tokens=4) for _ in range(ENGINES)] == [ANSWERED] * ENGINES
        body = {"model": "opt-tiny", "prompt": "x", "max_tokens": 5, "stream": True}
        async with made.pack.session.post(f"http://127.0.0.1:{made.port}/v1/completions", json=body) as answer:
            events = [line for line in (await answer.text()).split("\n\n") if line]
        assert len(events) > 1  # an engine may send several tokens in one
        assert events[-1] == "data: [DONE]"
        families = {family.name: family for family in text_string_to_metric_families(await made.metrics())}
        for name in ("slm_pack_engine_up", "slm_pack_engine_ready", "vllm:num_requests_running"):
            assert [one.labels["engine"] for one in families[name].samples] == ["0", "1", "2"], name
        assert [one.value for one in families["slm_pack_router_asks"].samples] == [1]
        made.router.kill()
        await made.router.wait()
        await made.becomes_ready(503)
        assert (await made.pack.get("/healthz"))[0] == 200
        assert (await made.pack.status())["routerAsks"] is False


async def test_a_key_is_wanted_of_clients_and_of_nobody_else(serve: Serve) -> None:
    async with routed(serve, VLLM_API_KEY="hush") as made:
        assert await made.ask(tokens=4) == ANSWERED
        asked = [("/v1/completions", ""), ("/v1/completions", "other"), ("/v1/completions", "hush")]
        assert [await made.status_of(path, key) for path, key in asked] == [401, 401, 200]
        assert [await made.status_of(path) for path in ("/health", "/metrics")] == [200, 200]


async def test_engine_killed_under_load_costs_only_its_own(serve: Serve) -> None:
    async with routed(serve, **STEP) as made:
        asked = await made.holds(2 * ENGINES)  # before the load, beside which they would not be spread so
        async with made.load():
            await made.pack.kill(1)
            lost = Counter(await asyncio.gather(*asked))
            await made.pack.shows(lambda status: status["enginesReady"] == ENGINES)
            again = finished(await made.metrics())[1]
            async with asyncio.timeout(HANG_SECONDS):
                while finished(await made.metrics())[1] <= again + 1:  # noqa: ASYNC110 - the router is asked
                    await asyncio.sleep(0.05)
    assert lost == {ANSWERED: 2 * ENGINES - 2, LOST: 2}
    assert made.outcomes[ANSWERED]
    # What a load's clients lose is what engine 1 had begun of theirs, one each at most.
    assert made.outcomes[LOST] <= 4
    assert not made.outcomes[REFUSED]


async def test_end_of_a_pack_under_load_loses_nothing(serve: Serve) -> None:
    async with routed(serve, **STEP) as made:
        asked = await made.holds(2 * ENGINES)
        async with made.load():
            made.pack.process.terminate()
            await made.pack.says("the end was asked for")
            assert Counter(await asyncio.gather(*asked)) == {ANSWERED: 2 * ENGINES}
            assert await made.pack.ended() == 0
            assert await made.ask(tokens=4) == REFUSED
        assert made.outcomes[REFUSED]
        assert not made.outcomes[LOST]
        made.router.send_signal(signal.SIGUSR1)
        assert await made.router.wait() == 0
