"""How news reaches one operator process: a list of each kind, then its watch, late, in order of the kind, now and then twice.

A watch may be cut: what was under way is lost, and everything of the kind is listed anew. Feeds the operator's real
`watch.World` through the methods that take Kopf's answers apart. Must never show what the API server does not have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from yarl import URL

from .situations import Situation

if TYPE_CHECKING:
    from slm_operator.watch import world as watch
    from slm_operator.watch.records import Key

    from .objects import Raw
    from .world import World

KIND_OF = {"DaemonPod": "Pod"}
"""What the API server calls it."""
PAGE = 5
CUT_RATE = 0.002
"""Share of writes at which the watch that would tell of it is cut."""

LONGEST_GAP_SECONDS = 12.0
"""Until what was cut is listed anew: longer than a loop waits for its own writes to be shown."""


@cache
def _url(path: str, *, is_first: bool) -> URL:
    return URL(f"https://api{path}{'' if is_first else '?continue=more'}")


@dataclass(slots=True)
class Stream:
    """The list and watch of a kind."""

    path: str
    version: int = -1
    """Of the last list. -1: not listed."""
    arrival: float = 0.0
    """When the last news that is under way arrives."""
    connection: int = 0
    """How often it was begun."""


@dataclass(slots=True)
class Watching:
    """All watches of one process."""

    world: World
    sees: watch.World
    is_on: bool = True
    cut_at: float = float("-inf")
    """When a watch was cut last."""
    _streams: dict[str, Stream] = field(init=False)

    def __post_init__(self) -> None:
        self._streams = {kind: Stream(watched.path()) for kind, watched in self.sees.watched.items()}
        for kind in self._streams:
            self.world.at(self.world.lag(0.05, 1), self._list, kind, 0)

    def changed(self, kind: str, key: Key) -> None:
        """Something was written."""
        kind, raw, version = KIND_OF.get(kind, kind), self.world.shows(kind, key), self.world.newest
        stream = self._streams[kind]
        if not self.is_on or stream.version < 0:
            return
        if self.world.happens(CUT_RATE):
            self.world.meets(Situation.LISTED_ANEW)
            self.cut_at = self.world.now
            stream.version, stream.connection = -1, stream.connection + 1
            self.world.at(self.world.lag(0.5, LONGEST_GAP_SECONDS), self._list, kind, stream.connection)
            return
        if raw is not None and not self._selects(kind, raw):
            return
        what = "DELETED" if raw is None else "MODIFIED"
        if raw is None:
            raw = {"metadata": {"name": key.name, "namespace": key.namespace, "resourceVersion": str(version)}}
        event = {"type": what, "object": raw}
        twice = self.world.happens(0.05)
        for _ in range(2 if twice else 1):
            self._sends(stream, self.world.lag(0.01, 1.5), self._take, stream, event, stream.connection)
        if twice:
            self.world.meets(Situation.TWICE)

    def _selects(self, kind: str, raw: Raw) -> bool:
        selector = self.sees.watched[kind].label_selector
        return not selector or selector in raw["metadata"].get("labels", {})

    def was_cut_since(self, time: float) -> bool:
        """Whether news may have been lost of what was written then."""
        return self.cut_at > time - LONGEST_GAP_SECONDS

    def _sends(self, stream: Stream, lag: float, do: Any, *about: Any) -> None:
        stream.arrival = max(self.world.now + lag, stream.arrival)
        self.world.at_time(stream.arrival, do, *about)

    def _take(self, stream: Stream, event: dict[str, Any], connection: int) -> None:
        if self.is_on and stream.connection == connection:
            self.sees.take_event(_url(stream.path, is_first=True), event)

    def _list(self, kind: str, connection: int) -> None:
        """All objects as they are now, page by page; what is written from now on comes after the last page."""
        stream = self._streams[kind]
        if not self.is_on or stream.connection != connection:
            return
        stream.version, stream.arrival = self.world.newest, self.world.now
        items = [raw for raw in self.world.everything(kind) if self._selects(kind, raw)]
        pages = [items[first : first + PAGE] for first in range(0, len(items), PAGE)] or [[]]
        for number, page in enumerate(pages):
            is_last = number == len(pages) - 1
            self._sends(stream, self.world.lag(0.01, 0.3), self._page, stream, page, number == 0, is_last)

    def _page(self, stream: Stream, items: list[Raw], is_first: bool, is_last: bool) -> None:  # noqa: FBT001
        if not self.is_on:
            return
        url = _url(stream.path, is_first=is_first)
        before = len(self._known(stream)) if stream.connection else 0
        self.sees.begin_page(url)
        for raw in items:
            self.sees.take_item(url, raw)
        more = {} if is_last else {"continue": "more"}
        self.sees.end_page(url, {"metadata": more | {"resourceVersion": str(stream.version)}})
        if is_last and stream.connection and len(self._known(stream)) < before:
            self.world.meets(Situation.VANISHED)

    def _known(self, stream: Stream) -> tuple[Key, ...]:
        kind = next(kind for kind, one in self._streams.items() if one is stream)
        return tuple(self.sees.watched[kind].fills[-1].cache.keys())
