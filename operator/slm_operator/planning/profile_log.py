"""What a profile pod has printed so far: the runtime's JSON lines, read as one value.

The format is the runtime's (slm_runtime.events). Lines that are no JSON objects with an `event` are the engine's own
and are passed over. Assumes the whole log from its start: reading it again is how an operator that was killed knows
what it knew. And assumes no good will: an image prints what it likes, so each field is taken only in its type, and cut to
a length, before anything is planned from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_runtime.codec import DocumentError, parse_document

from slm_operator.decoding import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_runtime.document import MeasurementDocument


MOST_POINTS = 10_000
MOST_DOING, MOST_FAILURE, MOST_MEND = 512, 4096, 1024
"""Longest texts that are taken, in characters."""
MOST_DOCUMENT_BYTES = 1 << 20
"""Longest line with a document that is taken, in characters of ASCII as the runtime writes it: etcd refuses an object of
1.5 MiB, and spec and managed fields need room in it."""
_REASON = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileLog:
    """Progress, result and failure, each None until it was printed."""

    point: int | None = None
    """The point that is being measured, counted from 1."""
    of: int | None = None
    """Points expected at most."""
    doing: str | None = None
    document: MeasurementDocument | None = None
    failure_class: str | None = None
    failure: str | None = None
    mend: str | None = None


def read_log(text: str | None) -> ProfileLog:
    """The last word of each kind in a log."""
    found: dict[str, Any] = {}
    for size_bytes, event in _events(text or ""):
        match event["event"]:
            case "phase" | "progress":
                said = {
                    "point": _count(event.get("point")),
                    "of": _count(event.get("of")),
                    "doing": _words(event.get("message"), MOST_DOING),
                }
                found |= {name: value for name, value in said.items() if value is not None}
            case "result":
                found |= _result(size_bytes, event.get("document"))
            case "failed":
                found |= {
                    "failure_class": _reason(event.get("class")),
                    "failure": _words(event.get("message"), MOST_FAILURE) or "it gives no message",
                    "mend": _words(event.get("mend"), MOST_MEND),
                }
            case _:
                pass  # points and ledgers come again in the result
    return ProfileLog(**found)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_POINTS else None


def _words(value: object, most: int) -> str | None:
    if not isinstance(value, str):
        return None
    return value if len(value) <= most else f"{value[: most - 1]}…"


def _reason(value: object) -> str | None:
    """A condition's reason is one word, which tools and alerts know it by."""
    return value if isinstance(value, str) and _REASON.fullmatch(value) else None


def _result(size_bytes: int, raw: object) -> dict[str, Any]:
    if size_bytes > MOST_DOCUMENT_BYTES:
        return _unreadable(f"it is larger than {MOST_DOCUMENT_BYTES >> 10} KiB, and an object holds no more")
    try:
        return {"document": parse_document(raw)}
    except DocumentError as error:
        return _unreadable(str(error))


def _unreadable(because: str) -> dict[str, Any]:
    return {
        "failure_class": "UnreadableResult",
        "failure": _words(f"the runtime's document cannot be read: {because}", MOST_FAILURE),
        "mend": "use a runtime and an operator of one version",
    }


def _events(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each event, with the length of its line in bytes."""
    for line in text.splitlines():
        if line.startswith('{"event"'):
            try:
                event = decode(line)
            except ValueError:
                continue  # cut off while it was being written: the next pass reads it whole
            if isinstance(event, dict):
                yield len(line.encode()), event
