r"""Keys that need a pass: each at most once, none starved, failed ones later and later.

                 add                 take                 done
    (absent) ----------> ready ----------> active ----------> (absent), or ready if added meanwhile
        \--add_after--> later --due--^        \--failed--> later (backoff with jitter)

Kinds take turns, so that a thousand deployments never keep the fleet waiting. Clock and randomness are parameters; the
state machine never awaits, only `get` does. Assumes one event loop.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from typing import TYPE_CHECKING, Literal, NamedTuple

from slm_operator.watch.records import Key

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["fleet", "profile", "deployment"]

BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 120.0


class WorkKey(NamedTuple):
    """What a pass is about."""

    kind: Kind
    key: Key

    def __str__(self) -> str:
        return f"{self.kind} {self.key}".strip()


FLEET = WorkKey("fleet", Key("", ""))


class KeyedQueue:
    """The queue. Seconds throughout. `waited` gets how long each key was ready before it was taken."""

    def __init__(
        self,
        clock: Callable[[], float],
        random: Callable[[], float],
        waited: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._clock = clock
        self._waited = waited
        self._random = random
        self._ready: dict[Kind, deque[WorkKey]] = {"fleet": deque(), "profile": deque(), "deployment": deque()}
        self._since: dict[WorkKey, float] = {}
        self._later: dict[WorkKey, float] = {}
        self._heap: list[tuple[float, WorkKey]] = []
        self._active: set[WorkKey] = set()
        self._again: set[WorkKey] = set()
        self._failures: dict[WorkKey, int] = {}
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()

    def __len__(self) -> int:
        return sum(len(keys) for keys in self._ready.values())

    def add(self, key: WorkKey) -> None:
        """It needs a pass now."""
        self._later.pop(key, None)
        if key in self._active:
            self._again.add(key)
        elif key not in self._since:
            self._since[key] = self._clock()
            self._ready[key.kind].append(key)
            self._changed.set()

    def add_after(self, key: WorkKey, seconds: float) -> None:
        """It needs a pass in this time, unless one comes earlier."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock() + seconds
        if key in self._since or self._later.get(key, float("inf")) <= due:
            return
        self._later[key] = due
        heapq.heappush(self._heap, (due, key))
        self._changed.set()

    def take(self) -> WorkKey | None:
        """The next key, now active, or None."""
        self._promote()
        for kind, keys in list(self._ready.items()):
            if keys:
                self._ready[kind] = self._ready.pop(kind)  # this kind goes to the end of the turn
                key = keys.popleft()
                self._waited(self._clock() - self._since.pop(key))
                self._active.add(key)
                return key
        return None

    def done(self, key: WorkKey, look_again_seconds: float | None = None) -> None:
        """Its pass went well."""
        self._failures.pop(key, None)
        self._finish(key)
        if look_again_seconds is not None:
            self.add_after(key, look_again_seconds)

    def failed(self, key: WorkKey, at_least_seconds: float = 0.0) -> float:
        """Its pass failed: it comes again after a backoff, whatever was added meanwhile. Gives the seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._active.discard(key)
        self._again.discard(key)
        longest = min(LONGEST_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0 ** min(failures, 20))
        delay = max(at_least_seconds, longest * (0.5 + self._random() / 2))
        self.add_after(key, delay)
        return delay

    def forget(self, key: WorkKey) -> None:
        """Its object is gone: nothing is remembered of it."""
        self._failures.pop(key, None)
        self._later.pop(key, None)

    def next_due(self) -> float | None:
        """When the next delayed key is due, on the clock; None when there is none."""
        while self._heap and self._later.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # superseded
        return self._heap[0][0] if self._heap else None

    async def get(self) -> WorkKey:
        """The next key, when there is one.

        NB: one worker waits for it, and the others for their turn: a key that wakes them all costs more than most passes.
        """
        async with self._turn:
            while True:
                self._changed.clear()
                key = self.take()
                if key is not None:
                    return key
                due = self.next_due()
                try:
                    async with asyncio.timeout(None if due is None else max(0.0, due - self._clock())):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    def _promote(self) -> None:
        now = self._clock()
        due = self.next_due()
        while due is not None and due <= now:
            self.add(heapq.heappop(self._heap)[1])
            due = self.next_due()

    def _finish(self, key: WorkKey) -> None:
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
