"""vLLM's scheduler in small: continuous batching, chunked prefill, a KV pool in blocks, preemption.

Exists so that tests meet the engine's behaviour without its weight. A step takes a + b x decoding + c x prefilled
tokens, on a clock of its own that the real one catches up with: a busy machine delays answers and falsifies no
counter. It must never know of HTTP.
"""

import asyncio
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence as Tokens

from .arguments import Settings
from .prefix_cache import BLOCK_TOKENS, PrefixCache

STEPS_AT_ONCE = 8
"""Most steps that are made before the front end has its turn, where the clock is behind."""
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Sum, count and cumulative buckets."""

    def __init__(self) -> None:
        self.sum = 0.0
        self.count = 0
        self.buckets = [0] * len(BUCKETS)

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count `times` observations of the same value."""
        self.sum += seconds * times
        self.count += times
        for i, bound in enumerate(BUCKETS):
            if seconds <= bound:
                self.buckets[i] += times


class Sequence:
    """One request on its way."""

    def __init__(self, prompt: Tokens[int], max_tokens: int) -> None:
        self.prompt = prompt
        self.prompt_tokens = prompt_tokens = len(prompt)
        self.max_tokens = max_tokens
        self.generated = 0
        self.prefill_left = prompt_tokens
        self.blocks = 0
        self.arrived = self.admitted = self.first = self.last = time.monotonic()
        self.tokens: asyncio.Queue[int | None] = asyncio.Queue()
        self.finished = asyncio.get_running_loop().create_future()

    def blocks_for(self, extra: int) -> int:
        """Blocks that hold all tokens so far and `extra` more."""
        return -(-(self.prompt_tokens + self.generated + extra) // BLOCK_TOKENS)


class Scheduler:
    """The engine core. `run` is its loop."""

    def __init__(self, settings: Settings, max_num_seqs: int, max_num_batched_tokens: int, num_blocks: int) -> None:
        self.settings = settings
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self.num_blocks = num_blocks
        self.free_blocks = num_blocks
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.counters: Counter[str] = Counter()
        self.histograms = {
            name: Histogram()
            for name in (
                *("time_to_first_token", "inter_token_latency", "e2e_request_latency"),
                *("request_queue_time", "request_prefill_time"),
            )
        }
        self.prefixes = PrefixCache(num_blocks)
        self.work = asyncio.Event()
        self.idle = asyncio.Event()
        self.dead = False
        """The core is no more, and the process about to end."""

    def add(self, sequence: Sequence) -> None:
        """Queue a request."""
        self.waiting.append(sequence)
        self.idle.clear()
        self.work.set()

    def abort(self, sequence: Sequence) -> None:
        """Forget a request whose client has gone, or that is done."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._release(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    async def run(self) -> None:
        """Step for ever."""
        now, behind = time.monotonic(), 0
        while True:
            if not self.running and not self.waiting:
                self.work.clear()
                self.idle.set()
                await self.work.wait()
                now = time.monotonic()
            self._admit(now)
            await self._misbehave()
            prefilled = self._prefill()
            decoding = [s for s in self.running if not s.prefill_left]
            now += self._step_seconds(len(decoding), prefilled)
            behind = behind + 1 if now < time.monotonic() else 0
            # NB: vLLM's core is a process of its own, and steps on while its front end is behind.
            if not behind % STEPS_AT_ONCE > 0:
                await asyncio.sleep(max(0.0, now - time.monotonic()))
            for sequence in decoding:
                self._token(sequence, now)

    async def _misbehave(self) -> None:
        limit = self.settings.fault_at("die-at")
        if limit is not None and len(self.running) >= limit:
            _write_last_words()
            os._exit(1)
        limit = self.settings.fault_at("die-slowly-at")
        if limit is not None and len(self.running) >= limit:
            # As vLLM when its core has died: every request fails at once, and its server ends when it has seen that.
            _write_last_words()
            self.dead = True
            loop = asyncio.get_running_loop()
            loop.call_later(1, os._exit, 1)
            for sequence in (*self.running, *self.waiting):
                sequence.finished.cancel()
                sequence.tokens.put_nowait(None)
            await loop.create_future()
        limit = self.settings.fault_at("hang-at")
        if limit is not None and len(self.running) >= limit:
            await asyncio.get_running_loop().create_future()

    def _step_seconds(self, decoding: int, prefilled: int) -> float:
        s = self.settings
        return (s.step_ms + s.sequence_ms * decoding + s.prefill_ms * prefilled) / 1000

    def _admit(self, now: float) -> None:
        while self.waiting and len(self.running) < self.max_num_seqs:
            sequence = self.waiting[0]
            needed = sequence.blocks_for(1)
            if needed > self.free_blocks:
                return
            self.waiting.popleft()
            self.free_blocks -= needed
            sequence.blocks = needed
            sequence.admitted = now
            # The engine's clock may be behind the real one, by which arrivals are noted.
            sequence.arrived = min(sequence.arrived, now)
            if not sequence.generated:
                self.histograms["request_queue_time"].observe(now - sequence.arrived)
                sequence.prefill_left -= self.prefixes.hit(sequence.prompt)
            self.running.append(sequence)

    def _prefill(self) -> int:
        budget = self.max_num_batched_tokens - sum(not s.prefill_left for s in self.running)
        used = 0
        for sequence in self.running:
            chunk = min(sequence.prefill_left, budget - used)
            sequence.prefill_left -= chunk
            used += chunk
        return used

    def _token(self, sequence: Sequence, now: float) -> None:
        if sequence not in self.running:  # aborted or preempted while the step ran
            return
        if not self._grow(sequence):
            return
        if sequence.generated:
            self.histograms["inter_token_latency"].observe(now - sequence.last)
        else:
            self.counters["prompt_tokens"] += sequence.prompt_tokens
            self.histograms["time_to_first_token"].observe(now - sequence.arrived)
            sequence.first = now
        sequence.last = now
        sequence.generated += 1
        self.counters["generation_tokens"] += 1
        sequence.tokens.put_nowait(sequence.generated)
        if sequence.generated >= sequence.max_tokens:
            self.histograms["e2e_request_latency"].observe(now - sequence.arrived)
            self.histograms["request_prefill_time"].observe(sequence.first - sequence.admitted)
            self.counters["request_success"] += 1
            self.abort(sequence)
            sequence.tokens.put_nowait(None)
            if not sequence.finished.done():
                sequence.finished.set_result(None)

    def _grow(self, sequence: Sequence) -> bool:
        """Give the sequence room for one more token; preempt the newest where there is none. False: it was itself."""
        while sequence.blocks_for(1) > sequence.blocks:
            if self.free_blocks:
                self.free_blocks -= 1
                sequence.blocks += 1
                continue
            victim = self.running.pop()
            self._release(victim)
            victim.prefill_left = victim.prompt_tokens + victim.generated
            self.waiting.appendleft(victim)
            self.counters["num_preemptions"] += 1
            if victim is sequence:
                return False
        return True

    def _release(self, sequence: Sequence) -> None:
        self.free_blocks += sequence.blocks
        sequence.blocks = 0


def _write_last_words() -> None:
    sys.stdout.write("(EngineCore pid=1) ERROR [core.py:1] RuntimeError: CUDA error: an illegal memory access\n")
    sys.stdout.flush()
