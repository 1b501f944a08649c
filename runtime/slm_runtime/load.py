"""The closed loop: a fixed number of requests in flight, whose cost to this machine stays small.

Nearly all requests are answered in one piece and counted by the engine; a few are streamed, for percentiles of TTFT
and ITL, and their number is held to a rate of tokens that costs a few per cent of a core. Prompts are random token ids
that begin differently each time, so no prefix cache makes them cheaper than the workload.

Assumes OpenAI completions with `ignore_eos`. Must never retry: a failed request is a finding.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from slm_core.slo import Metric

    from slm_runtime.workload import Lengths

STREAMED_TOKENS_PER_SECOND = 500.0
"""Budget of the streamed sample: about 3 % of a core."""
ERROR_PAUSE_SECONDS = 0.2
"""A refusing engine is not to be hammered."""
STREAM_ERROR = b'data: {"error"'
"""How an event begins that tells of a failure. No text can hold it: quotes are escaped in JSON."""


class Sample:
    """What the streamed requests showed since the window opened, in milliseconds: a list for each of `slo.METRICS`."""

    def __init__(self) -> None:
        self.opened = time.monotonic()
        self.itl_ms: list[float] = []
        self.ttft_ms: list[float] = []

    def of(self, metric: Metric) -> list[float]:
        """The samples of one metric."""
        samples: list[float] = getattr(self, metric.field)
        return samples


class ClosedLoop:
    """`async with ClosedLoop(...)` keeps `width` requests in flight; leaving it abandons those that are left."""

    def __init__(self, urls: Sequence[str], model: str, lengths: Lengths, vocab_size: int, seed: int) -> None:
        self._urls = tuple(urls)
        self.headers: Mapping[str, str] = {}
        """What the engines want with each request."""
        self._model = model
        self._lengths = lengths
        self._vocab_size = vocab_size
        self._rng = random.Random(seed)  # noqa: S311 - lengths and token ids, not secrets
        self._draws = lengths.draws(self._rng)
        self._filler = ",".join(str(self._token()) for _ in range(lengths.longest))
        # Where each token id ends in the filler, so that any prompt is one slice of it.
        self._ends = [i for i, letter in enumerate(self._filler) if letter == ","]
        self._workers: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._streams = 0
        self._streams_allowed = 1
        self.sample = Sample()
        self.errors = 0
        self.answered = 0
        self.last_errors: deque[str] = deque(maxlen=3)

    async def __aenter__(self) -> Self:
        """Open the connections."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abandon what is in flight; the engines notice the closed connections."""
        for worker in self._workers:
            worker.cancel()
        try:
            await asyncio.gather(*self._workers, return_exceptions=True)
        finally:  # also when the search is ended in just this moment
            if self._session:
                await self._session.close()

    def start(self, per_engine: int | None, in_flight: int | None) -> int:
        """Start the workers, `per_engine` bound to each engine or `in_flight` spread as a Service spreads them."""
        if per_engine is not None:
            bound = [url for url in self._urls for _ in range(per_engine)]
            self._workers = [asyncio.create_task(self._work(url)) for url in bound]
        else:
            self._workers = [asyncio.create_task(self._work(None)) for _ in range(in_flight or 1)]
        return len(self._workers)

    def open_window(self, itl_seconds: float, streams: int = 1) -> None:
        """Forget what was seen until now; stream as many requests as their rate of tokens permits, at least `streams`."""
        self.sample = Sample()
        self.errors = 0
        self._streams_allowed = max(streams, int(STREAMED_TOKENS_PER_SECOND * itl_seconds))

    async def _work(self, url: str | None) -> None:
        prompt, output = self._lengths.in_progress(self._rng)
        while True:
            target = url or self._rng.choice(self._urls)
            try:
                await self._request(target, prompt, output)
                self.answered += 1
            except (aiohttp.ClientError, OSError) as error:
                self.errors += 1
                self.last_errors.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(ERROR_PAUSE_SECONDS)
            prompt, output = next(self._draws)

    async def _request(self, url: str, prompt: int, output: int) -> None:
        assert self._session, "used outside `async with`"
        stream = self._streams < self._streams_allowed
        body = self._body(prompt, output, stream=stream)
        headers = {"Content-Type": "application/json", **self.headers}
        began = time.monotonic()
        self._streams += stream
        try:
            async with self._session.post(f"{url}/v1/completions", data=body, headers=headers) as response:
                if response.status != 200:
                    said = (await response.text())[:200]
                    raise aiohttp.ClientPayloadError(f"status {response.status}: {said}")
                if stream:
                    await self._follow(response, began)
                else:
                    await response.read()
        finally:
            self._streams -= stream

    async def _follow(self, response: aiohttp.ClientResponse, began: float) -> None:
        """Time the chunks of one streamed answer. Chunks that arrive together share the time since the last."""
        last, tail = 0.0, b""
        async for data in response.content.iter_any():
            now = time.monotonic()
            # NB: an engine that fails once it has answered 200 says so in the stream, and then ends it as if all were well.
            if STREAM_ERROR in tail + data:
                raise aiohttp.ClientPayloadError(f"in the stream: {data[-200:].decode(errors='replace').strip()}")
            tail = data[-len(STREAM_ERROR) :]
            chunks = data.count(b"data: {")
            if not chunks:
                continue
            sample = self.sample
            if not last:
                if began >= sample.opened:
                    sample.ttft_ms.append(1000 * (now - began))
            elif last >= sample.opened:
                sample.itl_ms += [1000 * (now - last) / chunks] * chunks
            last = now

    def _body(self, prompt: int, output: int, *, stream: bool) -> bytes:
        """A request of `prompt` random tokens. Its first tokens are new each time: prefix caches go by the beginning."""
        fresh = [str(self._token()) for _ in range(min(prompt, 4))]
        rest = prompt - len(fresh)
        ids = ",".join(fresh) + ("," + self._filler[: self._end_of(rest)] if rest else "")
        flag = "true" if stream else "false"
        return (
            f'{{"model":"{self._model}","prompt":[{ids}],"max_tokens":{output},"ignore_eos":true,'
            f'"temperature":0,"stream":{flag}}}'
        ).encode()

    def _end_of(self, tokens: int) -> int:
        return self._ends[tokens - 1] if tokens - 1 < len(self._ends) else len(self._filler)

    def _token(self) -> int:
        # The lowest ids are special tokens in every tokenizer worth the name.
        return self._rng.randrange(min(100, self._vocab_size // 2), self._vocab_size)
