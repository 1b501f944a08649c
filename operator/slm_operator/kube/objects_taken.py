"""Lists and watches as they arrive: each object is decoded alone, shown, and let go before the next one.

Exists because decoded JSON takes ten to fifty times its text, an object of a tenant may have several megabytes of it, and
a page has hundreds. Assumes the API server's own writing of JSON, without blanks between items; what is written otherwise
is taken all the same, as a whole. Must never hold more than the text of one object and one piece of the connection.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from slm_operator.decoding import decode, parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import StreamReader
    from yarl import URL

Object = dict[str, Any]

_ITEMS = b'"items":['
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|(\\?\Z))|[\[{]|[\]}]', re.DOTALL)
"""A string or a bracket; group 1 at the end of a string that has not ended yet."""


class Taker(Protocol):
    """Who takes the objects of Kopf's lists and watches out of the answers to it."""

    def takes(self, url: URL) -> bool:
        """Whether this is a list or a watch of objects that are taken."""

    def begin_page(self, url: URL) -> None:
        """A page of a list begins."""

    def take_item(self, url: URL, raw: Object) -> None:
        """One object of the page."""

    def end_page(self, url: URL, page: Object) -> None:
        """The page has ended; the rest of it, without items."""

    def take_event(self, url: URL, event: Object) -> Object:
        """Take one event of a watch. Gives what Kopf is to see."""


@dataclass(slots=True)
class Items:
    """Splits the text of a list's page, piece by piece, and shows each item.

    The items of a page begin with the same key, so their ends are looked for by that. Where that finds something else (an
    object may hold such a text), or an item is nested too deeply, brackets are counted: slower, and linear too.
    """

    show: Callable[[Object], None]
    _text: bytearray = field(default_factory=bytearray, init=False)
    _head: bytes | None = field(default=None, init=False)
    _looked: int = field(default=0, init=False)
    _level: int = field(default=0, init=False)
    _counts: bool = field(default=False, init=False)

    def feed(self, piece: bytes) -> None:
        """The next piece of the text."""
        self._text += piece
        if self._head is None:
            found = self._text.find(_ITEMS)
            if found < 0:
                return
            self._head = bytes(self._text[: found + len(_ITEMS)])
            del self._text[: len(self._head)]
        while self._next():
            pass

    def end(self) -> Object:
        """The text has ended: the page without its items. Raises ValueError."""
        if self._head is None:
            page: Object = decode(bytes(self._text))
            if isinstance(page, dict):
                for raw in page.pop("items", None) or ():
                    self.show(raw)
                page["items"] = []
            return page
        while self._text.startswith((b"{", b",")):
            if not self._next(is_last=True):
                raise ValueError("the list ends within an object")
        rest: Object = decode(self._head + bytes(self._text))
        return rest

    def _next(self, *, is_last: bool = False) -> bool:
        """Show the next item, if it is here. Whether there is more to do now."""
        if self._text.startswith(b","):
            del self._text[:1]
        if is_last and not self._counts:
            self._counts, self._looked = True, 0
        return self._counted() if self._counts else self._guessed()

    def _guessed(self) -> bool:
        """An item that ends where the next one seems to begin."""
        text = self._text
        colon = text.find(b":", 0, 64)
        between = b"}," + text[: colon + 1]
        found = text.find(between, self._looked) if text.startswith(b"{") and colon > 0 else -1
        if found < 0:
            self._looked = max(0, len(text) - len(between))
            return False
        try:
            raw = parse(text[: found + 1])
        except ValueError:
            self._counts, self._looked = True, 0
            return True
        self._show(raw, found + 1)
        return True

    def _counted(self) -> bool:
        """An item that ends where its brackets do, counted on from where that was left."""
        end = self._end_by_brackets()
        if end is None:
            return False
        self._show(decode(bytes(self._text[:end])), end)
        return True

    def _end_by_brackets(self) -> int | None:
        for token in _TOKEN.finditer(self._text, self._looked):
            if token[1] is not None:
                return None
            self._looked = token.end()
            self._level += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(token[0], 0)
            if self._level == 0:
                return token.end()
        return None

    def _show(self, raw: Object, end: int) -> None:
        del self._text[:end]
        self._looked, self._level, self._counts = 0, 0, False
        self.show(raw)


async def taken_page(content: StreamReader, url: URL, taker: Taker) -> Object:
    """Read a page and show what is in it; gives it without objects. Raises ValueError."""
    items = Items(lambda raw: taker.take_item(url, raw))
    taker.begin_page(url)
    async for piece in content.iter_any():
        items.feed(piece)
        await asyncio.sleep(0)
    page = items.end()
    taker.end_page(url, page)
    return page


@dataclass(slots=True)
class TakenEvents:
    """The stream of a watch, as Kopf reads one: each line is decoded once, here, and what is left for Kopf is short."""

    stream: StreamReader
    url: URL
    taker: Taker

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """As the stream's own, but of lines."""
        begun = bytearray()
        async for piece in self.stream.iter_chunked(size):
            begun += piece
            if b"\n" in piece:
                *lines, begun = begun.split(b"\n")
                for line in lines:
                    yield self._taken(line)
                await asyncio.sleep(0)
        if begun:
            yield self._taken(begun)

    def _taken(self, line: bytearray) -> bytes:
        if not line:
            return b""
        return json.dumps(self.taker.take_event(self.url, decode(bytes(line)))).encode() + b"\n"
