"""The closed loop: a fixed number of requests in flight, at a cost that `python -m benchmarks.clients.cost` measures.

Every request is made as clients make it: its answer is streamed, and the model's own defaults say how its tokens are
sampled. The engine's counters count the tokens; of all answers the time to the first token is taken, and a few are
watched at every token, for percentiles of ITL, as far as their budget goes.

Assumes OpenAI completions with `ignore_eos`. Must never retry: a failed request is a finding.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from slm_runtime.answers import Answer
from slm_runtime.connection import Connection, RequestFailedError
from slm_runtime.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from slm_core.slo import Metric

    from slm_runtime.workload import Lengths

WATCHED_TOKENS_PER_SECOND = 500.0
"""Budget of the answers that are watched at every token."""
ERROR_PAUSE_SECONDS = 0.2
"""A refusing engine is not to be hammered."""
LEARNED_ANSWERS = 32
"""So many of the last answers say how many events a token makes: an engine that is behind sends several in one."""


class Sample:
    """What the answers showed since the window opened, in milliseconds: a list for each of `slo.METRICS`."""

    def __init__(self) -> None:
        self.opened = time.monotonic()
        self._processor = time.process_time()
        self.itl_ms: list[float] = []
        self.ttft_ms: list[float] = []

    def of(self, metric: Metric) -> list[float]:
        """The samples of one metric."""
        samples: list[float] = getattr(self, metric.field)
        return samples

    def core_fraction(self) -> float:
        """What this process has used of one core since then."""
        return (time.process_time() - self._processor) / max(1e-9, time.monotonic() - self.opened)


class ClosedLoop:
    """`async with ClosedLoop(...)` keeps `width` requests in flight; leaving it abandons those that are left."""

    def __init__(self, urls: Sequence[str], model: str, lengths: Lengths, tokens: Sequence[int], seed: int) -> None:
        """`tokens`: ids to make prompts of. `seed`: another one for each loop, or an engine meets its prompts again."""
        self._urls = tuple(urls)
        self.headers: Mapping[str, str] = {}
        """What the engines want with each request."""
        self._model = json.dumps(model)
        self._lengths = lengths
        self._rng = random.Random(seed)  # noqa: S311 - lengths and token ids, not secrets
        self._draws = lengths.draws(self._rng)
        self._prompts = Prompts(tokens, lengths.longest, self._rng)
        self._workers: list[asyncio.Task[None]] = []
        self._watched = 0
        self._watched_allowed = 1
        self._events_per_token: deque[float] = deque(maxlen=LEARNED_ANSWERS)
        self.sample = Sample()
        self.errors = 0
        self.answered = 0
        self.last_errors: deque[str] = deque(maxlen=3)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abandon what is in flight; the engines notice the closed connections."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def start(self, per_engine: int | None, in_flight: int | None) -> int:
        """Start the workers, `per_engine` bound to each engine or `in_flight` spread as a Service spreads them."""
        if per_engine is not None:
            bound = [url for url in self._urls for _ in range(per_engine)]
            self._workers = [asyncio.create_task(self._work(url)) for url in bound]
        else:
            self._workers = [asyncio.create_task(self._work(None)) for _ in range(in_flight or 1)]
        return len(self._workers)

    def open_window(self, itl_seconds: float, watched: int = 1) -> None:
        """Forget what was seen until now; watch as many answers as their rate of tokens permits, at least `watched`."""
        self.sample = Sample()
        self.errors = 0
        self._watched_allowed = max(watched, int(WATCHED_TOKENS_PER_SECOND * itl_seconds))

    async def _work(self, url: str | None) -> None:
        urls = (url,) if url else self._urls
        with contextlib.ExitStack() as opened:
            connections = [opened.enter_context(Connection(one, self.headers)) for one in urls]
            prompt, output = self._lengths.in_progress(self._rng)
            while True:
                connection = self._rng.choice(connections)
                try:
                    await self._request(connection, prompt, output)
                    self.answered += 1
                except (RequestFailedError, OSError) as error:
                    connection.close()
                    self.errors += 1
                    self.last_errors.append(f"{type(error).__name__}: {error}")
                    await asyncio.sleep(ERROR_PAUSE_SECONDS)
                prompt, output = next(self._draws)

    async def _request(self, connection: Connection, prompt: int, output: int) -> None:
        watched = self._watched < self._watched_allowed
        began = time.monotonic()
        self._watched += watched
        try:
            status = await connection.post("/v1/completions", self._body(prompt, output))
            if status != 200:
                said = (await connection.read())[:200].decode(errors="replace")
                raise RequestFailedError(f"status {status}: {said}")
            answer = Answer(connection)
            await self._first(answer, began)
            if watched:
                await self._watch(answer)
            else:
                await answer.finish(output * min(self._events_per_token) if self._events_per_token else None)
            self._events_per_token.append(answer.events / output)
        finally:
            self._watched -= watched

    async def _first(self, answer: Answer, began: float) -> None:
        if await answer.more() and began >= self.sample.opened:
            self.sample.ttft_ms.append(1000 * (time.monotonic() - began))

    async def _watch(self, answer: Answer) -> None:
        """Time each event of one answer. Those that arrive together share the time since the last."""
        last = time.monotonic()
        while events := await answer.more():
            now = time.monotonic()
            if last >= self.sample.opened:
                self.sample.itl_ms += [1000 * (now - last) / events] * events
            last = now

    def _body(self, prompt: int, output: int) -> bytes:
        # NB: no temperature nor any other sampling parameter: then the model's generation_config.json holds, as it does for
        # clients, whose cost is not that of the greedy choice (vllm/entrypoints/openai/completion/protocol.py).
        return (
            f'{{"model":{self._model},"prompt":[{self._prompts.draw(prompt)}],"max_tokens":{output},'
            f'"ignore_eos":true,"stream":true}}'
        ).encode()
