r"""Texts that others wrote, with nothing in them that a terminal, an editor or a reader's eye obeys.

An engine's log, a pod's last words and an error page reach status, events, terminals and archives. A terminal takes some
signs for commands (it clears, renames, copies), others turn the direction of what is read. They are written as what they
are: `\x1b[2J`. Applied once, where such texts come in: by the command line to every object that it fetches and every file
that it reads, by the operator to what it writes into a status.

Must never change a text that has no such sign, nor a newline or a tab.
"""

from __future__ import annotations

import re
from typing import Any

_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction
    "\u2028\u2029"  # other ends of lines
    "\ud800-\udfff]"  # halves of characters, which no stream takes
)


def visible(text: str) -> str:
    """The same text, with each such sign as a visible escape."""
    return text if _OBEYED.search(text) is None else _OBEYED.sub(_escaped, text)


def visible_in(value: Any) -> Any:
    """The same value, as JSON has it, with every text in it visible. Its nesting is bounded where it was decoded.

    NB: what needs no change is not copied: a hostile document may be a megabyte of empty lists.
    """
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        shown = {visible(key) if isinstance(key, str) else key: visible_in(inner) for key, inner in value.items()}
        same = all(key in value and value[key] is inner for key, inner in shown.items())
        return value if same and len(shown) == len(value) else shown
    if isinstance(value, list):
        parts = [visible_in(inner) for inner in value]
        return value if all(part is inner for part, inner in zip(parts, value, strict=True)) else parts
    return value


def _escaped(sign: re.Match[str]) -> str:
    code = ord(sign[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
