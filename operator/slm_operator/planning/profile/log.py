"""What a profile pod has printed so far: the runtime's JSON lines, read as one value.

The format is the runtime's (slm_runtime.events), each line behind its time, as the kubelet gives it. Lines that are no JSON
objects with an `event` are the engine's own and are passed over. A log is read piece by piece, and of each kind the last
word counts, so that a line that is read twice changes nothing. Assumes no good will: an image prints what it likes, so each
field is taken only in its type, and cut to a length, before anything is planned from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from slm_core.codec import DocumentError, parse_document

from slm_operator.api.reasons import Reason
from slm_operator.decoding import decode
from slm_operator.visible import visible_in

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument


MOST_POINTS = 10_000
MOST_GPU_SECONDS = 86_400
"""The largest budget."""
MOST_DOING, MOST_FAILURE, MOST_REMEDY = 512, 4096, 1024
"""Longest texts that are taken, in characters."""
MOST_DOCUMENT_BYTES = 1 << 20
"""Longest line with a document that is taken, in characters of ASCII as the runtime writes it: etcd refuses an object of
1.5 MiB, and spec and managed fields need room in it."""
_REASON = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d) ")
_EVENT = re.compile(rb'^[^ \n]+ (\{"event": ?"?([a-z]*)[^\n]*)\n', re.MULTILINE)
"""A whole line with its time before it: group 1 is the event's text, group 2 its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileLog:
    """Progress, result and failure, each None until it was printed."""

    point: int | None = None
    """The point that is being measured, counted from 1."""
    of: int | None = None
    """Points expected at most."""
    doing: str | None = None
    gpu_seconds: float | None = None
    """GPU time that it has taken so far, as it says. None: nothing has begun."""
    document: MeasurementDocument | None = None
    partial: MeasurementDocument | None = None
    """What is measured so far, former points included."""
    failure_class: str | None = None
    failure: str | None = None
    remedy: str | None = None
    until: str | None = None
    """Second of the last line that was read, RFC 3339: where to read on. None: at the start."""
    is_cut: bool = False
    """Whether there is more to read than was taken."""

    @property
    def has_begun(self) -> bool:
        """Whether the runtime has said anything."""
        return self.has_ended or any(said is not None for said in (self.gpu_seconds, self.doing, self.point))

    @property
    def has_ended(self) -> bool:
        """Whether the runtime's last word is there."""
        return self.document is not None or self.failure is not None


NOTHING_PRINTED = ProfileLog()


def read_log(text: bytes, before: ProfileLog = NOTHING_PRINTED, *, is_cut: bool = False) -> ProfileLog:
    """What is known after a further piece of the log, whose lines begin with their time. `is_cut`: more follows it."""
    until = _until(text)
    # NB: where one second has more lines than are taken at once, those asked for again would be the same.
    if is_cut and until is not None and until == before.until:
        until = _next(until)
    found: dict[str, Any] = {"until": until or before.until, "is_cut": is_cut}
    for line in _EVENT.finditer(text):
        found |= _said(line)
    return replace(before, **found)


def _said(line: re.Match[bytes]) -> dict[str, Any]:
    """What one line tells. NB: its value goes with this frame: a hostile one takes thirty times its text."""
    size_bytes = line.end(1) - line.start(1)
    if size_bytes > MOST_DOCUMENT_BYTES:
        return _result(size_bytes, None) if line[2] == b"result" else {}
    try:
        event = visible_in(decode(line[1]))
    except ValueError:
        return {}
    kind = event.get("event") if isinstance(event, dict) else None
    match kind:
        case "phase" | "progress":
            said = {
                "point": _count(event.get("point")),
                "of": _count(event.get("of")),
                "doing": _words(event.get("message"), MOST_DOING),
                "gpu_seconds": _seconds(event.get("gpuSeconds")),
            }
            return {name: value for name, value in said.items() if value is not None}
        case "partial":
            return _partial(event.get("document"))
        case "result":
            return _result(size_bytes, event.get("document"))
        case "failed":
            return {
                "failure_class": _reason(event.get("class")),
                "failure": _words(event.get("message"), MOST_FAILURE) or "it gives no message",
                "remedy": _words(event.get("remedy"), MOST_REMEDY),
            }
        case _:
            return {}  # points and ledgers come again in the result


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_POINTS else None


def _seconds(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value <= MOST_GPU_SECONDS else None


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


def _partial(raw: object) -> dict[str, Any]:
    """NB: what cannot be read is left out: the whole document comes at the end, and is refused in words."""
    try:
        return {"partial": parse_document(raw)}
    except DocumentError:
        return {}


def _unreadable(because: str) -> dict[str, Any]:
    return {
        "failure_class": Reason.UNREADABLE_RESULT,
        "failure": _words(f"the runtime's document cannot be read: {because}", MOST_FAILURE),
        "remedy": "use a runtime and an operator of one version",
    }


def _until(text: bytes) -> str | None:
    """Second of the last line that has a time; the line may be cut off, and is then read again from its start."""
    end = len(text)
    for _ in range(2):
        start = text.rfind(b"\n", 0, end) + 1
        if (found := _TIME.match(text, start)) is not None:
            return (found[1] + found[2]).decode()
        end = max(start - 1, 0)
    return None


def _next(second: str) -> str:
    try:
        return (datetime.fromisoformat(second) + timedelta(seconds=1)).isoformat()
    except (ValueError, OverflowError):  # what a kubelet never writes
        return second
