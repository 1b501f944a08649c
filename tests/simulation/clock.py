"""Virtual time: an event loop whose clock jumps to whatever comes next.

The operator's tasks and everybody else's acts are entries of one agenda, in order of time and then of entry: so a run is the
same for ever, and a day takes as long as what happens in it. Must never wait, nor look at the machine's clock.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Entry:
    """Something that is to be done, unless it is cancelled."""

    __slots__ = ("args", "do")

    def __init__(self, do: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.do: Callable[..., object] | None = do
        self.args = args

    def cancel(self) -> None:
        """Nobody needs it any more."""
        self.do, self.args = None, ()


class VirtualLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as tasks, locks, queues and timeouts need."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        """Moments at which something happened."""
        self.broken: Exception | None = None
        """What ends the run: the first promise that was broken, or a bug."""
        self._agenda: list[tuple[float, int, Entry]] = []
        self._ready: deque[Entry] = deque()
        self._count = 0

    def run_until(self, time: float) -> None:
        """Let time pass. Raises what the run was broken by."""
        events._set_running_loop(self)
        try:
            self._finish_this_moment()
            while self._agenda and self._agenda[0][0] <= time:
                at, _, entry = heapq.heappop(self._agenda)
                self.now = max(self.now, at)  # NB: what takes time itself makes others late
                if entry.do is not None:
                    self.steps += 1
                    entry.do(*entry.args)
                    self._finish_this_moment()
        finally:
            events._set_running_loop(None)
        self.now = max(self.now, time)

    def _finish_this_moment(self) -> None:
        while self._ready:
            entry = self._ready.popleft()
            if entry.do is not None:
                entry.do(*entry.args)
        if self.broken is not None:
            raise self.broken

    def breaks(self, error: Exception) -> None:
        """End the run with this, unless something was broken before."""
        self.broken = self.broken or error

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self.now

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        entry = Entry(callback, args)
        self._ready.append(entry)
        return entry

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_at(self.now + delay, callback, *args)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        entry = Entry(callback, args)
        self._count += 1
        heapq.heappush(self._agenda, (when, self._count, entry))
        return entry

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Any = None) -> Any:
        return asyncio.Task(coro, loop=self, name=name)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.breaks(error if isinstance(error, Exception) else RuntimeError(context["message"]))

    def get_debug(self) -> bool:
        return False
