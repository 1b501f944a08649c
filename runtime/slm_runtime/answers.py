"""Streamed answers, followed as cheaply as they can be.

An engine sends an event for each token, tens of thousands a second. Most answers are only waited for: their events
are looked at now and then, the more often the nearer the answer's end is. So the engine pays for streaming as it does
in service, and the client does not. A few answers are watched at every event.

Assumes server-sent events as OpenAI's API has them. Must never take an answer for whole that was cut short.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from slm_runtime.connection import RequestFailedError

if TYPE_CHECKING:
    from slm_runtime.connection import Connection

EVENT = b"data: {"
FAILURE = b'data: {"error"'
"""How an event begins that tells of a failure. No text can hold it: quotes are escaped in JSON."""
END = b"data: [DONE]"
_TAIL_BYTES = 32
"""What is kept of earlier bytes: more than any of these words, and than what follows the last one."""
LONGEST_REST_SECONDS = 0.25
"""Events of so much time fit into any socket's buffer: the engine is never held up."""
FEW_EVENTS = 4
"""So near to its end an answer is looked at at every event, for its place in the loop must not stay empty."""


class Answer:
    """The answer to the request that was just sent on a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tail = b""
        self.events = 0
        """Seen so far. An engine that is behind sends several tokens in one."""

    async def more(self) -> int:
        """Events that have come, as soon as there is one; 0 at the answer's end. Raises RequestFailedError."""
        while data := await self._connection.read():
            text = self._tail + data
            # NB: an engine that fails once it has answered 200 says so in the stream, and then ends it as if all were well.
            if FAILURE in text:
                raise RequestFailedError(f"in the stream: {text[text.index(FAILURE) :][:200].decode(errors='replace')}")
            events = text.count(EVENT) - self._tail.count(EVENT)
            self._tail = text[-_TAIL_BYTES:]
            if events:
                self.events += events
                return events
        if END not in self._tail:
            raise RequestFailedError(f"the stream ended after {self.events} events, and not with [DONE]")
        return 0

    async def finish(self, expected: float | None) -> None:
        """Read to the end, which is taken to come after `expected` events; None: no idea, so each is looked at."""
        began, first = time.monotonic(), self.events
        while await self.more():
            left = (expected or 0.0) - self.events
            if left > FEW_EVENTS:
                pace = (time.monotonic() - began) / (self.events - first)
                # Half of what is left, so that an answer which speeds up is not missed.
                await self._connection.rest(min(LONGEST_REST_SECONDS, left / 2 * pace))
