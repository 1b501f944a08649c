"""JSON that others wrote, decoded so that no nesting of it can end this process.

The API server takes objects nested 10,000 levels deep. Python's own decoder raises RecursionError at a depth that differs
by its version (994 in 3.11.7, 1,497 in 3.12.1, 9,998 in 3.13.0), and whatever then walks such values raises it sooner. So
texts are parsed by pydantic's parser, whose limit is its own and the same everywhere; where it refuses one, what lies
deeper is cut out of the text first. Nothing that Kubernetes or this operator defines comes near the limit: what is lost
is nobody's, and a field of our kinds that is nested as deep is refused by its type (`api.parts.RawObject`).

Must never give a value that is nested deeper than MOST_LEVELS, nor raise anything but ValueError.
"""

from __future__ import annotations

import gc
import json
import re
from typing import Any

from pydantic_core import from_json

MOST_LEVELS = 200
"""Deepest nesting that pydantic_core parses (jiter, DEFAULT_RECURSION_LIMIT)."""

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|([\[{])|[\]}]', re.DOTALL)
"""A string, also one that never ends, or a bracket, opening ones in group 1. NB: possessive, so that it is linear."""


def decode(text: str | bytes) -> Any:
    """The value of a JSON text; null stands for what is nested deeper than MOST_LEVELS. Raises ValueError."""
    try:
        return parse(text)
    except ValueError:
        # Nested too deeply, or no JSON; what only the standard library takes (a lone surrogate), it may have.
        return json.loads(_cut(_bytes(text)).decode("utf-8", "replace"))


def parse(text: str | bytes | bytearray) -> Any:
    """The value of a JSON text that is not nested deeper. Raises ValueError.

    NB: without the garbage collector, which finds nothing in JSON: 430,000 lists took 0.37 s with it, 0.04 s without.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return from_json(text)
    finally:
        if collects:
            gc.enable()


def _cut(text: bytes | bytearray) -> bytes:
    """NB: in a text that is no JSON the levels are wrong only after the place at which every decoder gives up."""
    kept, start, level = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[1]:
            if level == MOST_LEVELS:
                kept.append(text[start : token.start()])
            level += 1
        elif token[0] in b"]}":
            level -= 1
            if level == MOST_LEVELS:
                kept.append(b"null")
                start = token.end()
    return b"".join(kept) if level > MOST_LEVELS else b"".join((*kept, text[start:]))


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "replace") if isinstance(text, str) else text
