"""What a profile pod has printed so far: the runtime's JSON lines, read as one value.

The format is the runtime's (slm_runtime.events). Lines that are no JSON objects with an `event` are the engine's own
and are passed over. Assumes the whole log from its start: reading it again is how an operator that was killed knows
what it knew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_runtime.codec import DocumentError, parse_document

from slm_operator.decoding import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_runtime.document import MeasurementDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileLog:
    """Progress, result and failure, each None until it was printed."""

    point: int | None = None
    """The point that is being measured, counted from 1."""
    of: int | None = None
    """Points expected at most."""
    doing: str | None = None
    document: MeasurementDocument | None = None
    raw_document: dict[str, Any] | None = None
    failure_class: str | None = None
    failure: str | None = None
    mend: str | None = None


def read_log(text: str | None) -> ProfileLog:
    """The last word of each kind in a log."""
    found: dict[str, Any] = {}
    for event in _events(text or ""):
        match event["event"]:
            case "phase" | "progress":
                names = {"point": "point", "of": "of", "message": "doing"}
                found |= {ours: event[theirs] for theirs, ours in names.items() if event.get(theirs) is not None}
            case "result":
                found |= _result(event.get("document"))
            case "failed":
                found |= {
                    "failure_class": event.get("class"),
                    "failure": event.get("message"),
                    "mend": event.get("mend"),
                }
            case _:
                pass  # points and ledgers come again in the result
    return ProfileLog(**found)


def _result(raw: object) -> dict[str, Any]:
    try:
        return {"document": parse_document(raw), "raw_document": raw}
    except DocumentError as error:
        return {
            "failure_class": "UnreadableResult",
            "failure": f"the runtime's document cannot be read: {error}",
            "mend": "use a runtime and an operator of one version",
        }


def _events(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if line.startswith('{"event"'):
            try:
                event = decode(line)
            except ValueError:
                continue  # cut off while it was being written: the next pass reads it whole
            if isinstance(event, dict):
                yield event
