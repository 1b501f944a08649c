"""How evenly a pack's engines are loaded, by a router and by a plain Service.

Engines have places and a line behind them, as a batch has; a request takes as long as its answer is long, which nobody
knows before. Arrivals, lengths and limits are the same for everyone who chooses. A plain Service is kube-proxy: at
random by iptables, in turn by IPVS, and nothing is known of what is in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from benchmarks.router.bed import own_ports, router_for
from benchmarks.router.candidates import running
from benchmarks.router.played import HEALTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.router.candidates import Candidate

ENGINES, PLACES = 4, 8
REQUESTS, MEAN_SECONDS, SPREAD = 2000, 0.25, 1.0
"""Log-normal, as lengths of answers are."""
LOADS = (0.6, 0.8)
"""Of what all places together can do."""
SEED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Evenness:
    """What came of one choice at one load."""

    load: float
    waited_beside_a_free_place: float
    """Share of requests that found their engine full while another had a place."""
    refused: float
    """Share that found places and line of their engine full."""
    p50_seconds: float
    p99_seconds: float
    """From request to answer."""
    spread: float
    """Between the fullest and the emptiest engine, requests in flight, mean over arrivals."""


@dataclass(slots=True)
class _Engine:
    port: int
    all_of_them: list[_Engine]
    in_flight: int = 0
    waited: int = 0
    spreads: list[int] = field(default_factory=list)
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PLACES))

    async def listen(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get(HEALTH, self._health)
        app.router.add_post("/v1/completions", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        return runner

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _take(self, request: web.Request) -> web.Response:
        others = [one.in_flight for one in self.all_of_them]
        self.spreads.append(max(others) - min(others))
        if self.in_flight >= 2 * PLACES:
            return web.Response(status=503)
        self.waited += self.in_flight >= PLACES > min(others)
        self.in_flight += 1
        try:
            async with self.places:
                await asyncio.sleep(float(request.headers["X-Seconds"]))
            return web.json_response({"id": "x", "object": "text_completion", "choices": []})
        finally:
            self.in_flight -= 1


async def balances(candidates: list[Candidate]) -> dict[str, Any]:
    """Everyone's at every load."""
    found: dict[str, Any] = {}
    for load in LOADS:
        ways: list[tuple[str, Candidate | None]] = [("Service (iptables)", None), ("Service (IPVS)", None)]
        for name, candidate in [*ways, *((one.name, one) for one in candidates)]:
            found.setdefault(name, []).append(asdict(await _even(name, candidate, load)))
    return found


async def _even(name: str, candidate: Candidate | None, load: float) -> Evenness:
    engine_ports = own_ports(ENGINES)
    router = router_for(engine_ports, 2 * PLACES)
    engines: list[_Engine] = []
    engines += [_Engine(one, engines) for one in engine_ports]
    dice, turn = random.Random(SEED), itertools.cycle(engine_ports)
    choices: dict[str, Callable[[], int]] = {
        "Service (iptables)": lambda: dice.choice(engine_ports),
        "Service (IPVS)": lambda: next(turn),
    }
    async with contextlib.AsyncExitStack() as stack:
        for engine in engines:
            stack.push_async_callback((await engine.listen()).cleanup)
        if candidate is not None:
            await stack.enter_async_context(running(candidate, router))
        connector = aiohttp.TCPConnector(force_close=True, limit=0)  # a Service chooses for each connection
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        choose = choices.get(name, lambda: router.port)
        while candidate is not None and not await _ready(http, router.port):  # noqa: ASYNC110 - the router is asked
            await asyncio.sleep(0.1)
        answers = await _load(http, choose, load)
    taken = sorted(seconds for status, seconds in answers if status == 200)
    return Evenness(
        load=load,
        waited_beside_a_free_place=round(sum(one.waited for one in engines) / REQUESTS, 4),
        refused=round(1 - len(taken) / REQUESTS, 4),
        p50_seconds=round(statistics.median(taken), 3),
        p99_seconds=round(taken[int(0.99 * len(taken))], 3),
        spread=round(statistics.fmean(spread for one in engines for spread in one.spreads), 2),
    )


async def _ready(http: aiohttp.ClientSession, port: int) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with http.get(f"http://127.0.0.1:{port}{HEALTH}") as answer:
            return answer.status == 200
    return False


async def _load(http: aiohttp.ClientSession, choose: Callable[[], int], load: float) -> list[tuple[int, float]]:
    """Requests that come whether or not the former ones are answered: status and seconds of each."""
    dice, loop = random.Random(SEED + 1), asyncio.get_running_loop()
    rate = load * ENGINES * PLACES / MEAN_SECONDS
    centre = -(SPREAD**2) / 2

    async def one(seconds: float) -> tuple[int, float]:
        began = loop.time()
        headers = {"X-Seconds": f"{seconds:.4f}"}
        body = {"model": "m", "prompt": "x"}
        async with http.post(f"http://127.0.0.1:{choose()}/v1/completions", json=body, headers=headers) as answer:
            await answer.read()
            return answer.status, loop.time() - began

    tasks, at = [], loop.time()
    for _ in range(REQUESTS):
        at += dice.expovariate(rate)
        await asyncio.sleep(max(0.0, at - loop.time()))
        tasks.append(asyncio.create_task(one(MEAN_SECONDS * dice.lognormvariate(centre, SPREAD))))
    return await asyncio.gather(*tasks)
