"""Kubernetes events, few and never twice: what a person sees in `kubectl describe`.

Kopf's own are not aggregated: a message repeated each pass would be a write each pass. Here the same message about the
same object within the window is dropped, and each object has a small budget. Losing an event is harmless (conditions
hold the truth), so nothing is retried, and they are written beside the passes at a rate of their own: with a thousand
deployments half of all writes were events. Must never hold a pass up.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from slm_operator.kube.errors import ApiError
from slm_operator.kube.rate import TokenBucket
from slm_operator.kube.resources import EVENT
from slm_operator.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from slm_operator.kube.client import Client, Object

log = logging.getLogger(__name__)

WINDOW_SECONDS = 600.0
WRITTEN_PER_SECOND, WRITTEN_BURST = 20.0, 50.0
LONGEST_QUEUE = 1000
PER_OBJECT_BURST = 15.0
PER_OBJECT_PER_SECOND = 1 / 60
REMEMBERED = 4096
NOTE_LENGTH = 1024
NAME_LENGTH = 220
"""Characters of an object's name that its events' names begin with: they are DNS subdomains too, of 253."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The object an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(slots=True, kw_only=True)
class EventRecorder:
    """Writes events of one reporting controller."""

    client: Client
    controller: str
    instance: str
    clock: Callable[[], float]
    now: Callable[[], datetime]
    _queue: asyncio.Queue[tuple[str, Object]] = field(init=False)
    _said: dict[int, float] = field(default_factory=dict, init=False)
    """When a message was last said, by its hash: the words of thousands would be megabytes."""
    _budgets: dict[str, TokenBucket] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._queue = asyncio.Queue(LONGEST_QUEUE)

    def emit(self, about: About, event_type: str, reason: str, message: str) -> bool:
        """Have an event written unless it was just said or a budget is used up. Says whether it will be."""
        if self._queue.full() or not self._may_say(about.uid, reason, message):
            return False
        namespace = about.namespace or "default"
        self._queue.put_nowait((namespace, self._event(about, namespace, event_type, reason, message)))
        return True

    async def run(self) -> None:
        """Write what was emitted, until cancelled."""
        limit = TokenBucket(WRITTEN_PER_SECOND, WRITTEN_BURST, self.clock)
        while True:
            namespace, event = await self._queue.get()
            await limit.wait()
            try:
                await self.client.create(EVENT, namespace, event)
            except ApiError as error:
                log.debug("event not written", extra={"object": event["metadata"]["name"], "because": error.message})

    def _may_say(self, uid: str, reason: str, message: str) -> bool:
        at = self.clock()
        said = hash((uid, reason, message))
        if at - self._said.get(said, float("-inf")) < WINDOW_SECONDS:
            return False
        budget = self._budgets.get(uid) or TokenBucket(PER_OBJECT_PER_SECOND, PER_OBJECT_BURST, self.clock)
        _remember(self._budgets, uid, budget)
        if not budget.try_take():
            return False
        _remember(self._said, said, at)
        return True

    def _event(self, about: About, namespace: str, event_type: str, reason: str, message: str) -> Object:
        now = self.now()
        text = visible(message)
        note = text if len(text) <= NOTE_LENGTH else f"{text[: NOTE_LENGTH - 3]}..."
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {
                "name": f"{about.name[:NAME_LENGTH].rstrip('-.')}.{int(now.timestamp() * 1e6):x}",
                "namespace": namespace,
            },
            "regarding": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
            "type": event_type,
            "reason": reason,
            "action": reason,
            "note": note,
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": self.controller,
            "reportingInstance": self.instance[:128],
        }


def _remember(known: dict[K, V], key: K, value: V) -> None:
    """As the newest. Memory stays bounded: a dict keeps its order, so the first is what was longest not touched."""
    known.pop(key, None)
    while len(known) >= REMEMBERED:
        known.pop(next(iter(known)))
    known[key] = value
