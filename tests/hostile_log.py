"""What an image that means harm may print where the profiler's log is read."""

import json
from typing import Any

from slm_core.codec import to_json

from tests import builders as build
from tests.nesting import DEEP, deep_json

LONG = "m" * 40_000
DOCUMENT = to_json(build.imported())


def line(**event: Any) -> str:
    return json.dumps({"event": event.pop("event", "progress"), **event}, separators=(",", ":"))


def result(**changes: Any) -> str:
    return line(event="result", document=DOCUMENT | changes)


def failed(**event: Any) -> str:
    return line(event="failed", **event)


LOGS: dict[str, str] = {
    "a long failure": failed(**{"class": "Died", "message": LONG, "remedy": ""}),
    "a long remedy": failed(**{"class": "Died", "message": "died", "remedy": LONG}),
    "a long class": failed(**{"class": LONG, "message": "died"}),
    "a class of many words": failed(**{"class": "It died, and\nhow", "message": "died"}),
    "a failure of other types": failed(**{"class": 7, "message": ["died"], "remedy": {"a": 1}}),
    "a failure without a word": failed(),
    "long progress": line(point=1, of=2, message=LONG),
    "progress of other types": line(point="one", of=[2], message={"a": 1}),
    "progress beyond all numbers": line(point=10**30, of=-1, message="B = 1"),
    "progress that is true": line(point=True, of=1e300, message="B = 1"),
    "signs outside of Unicode's first plane": failed(**{"class": "Died", "message": "died \U0001f480 \U0010ffff"}),
    "control characters": failed(**{"class": "Died", "message": "died \x00 \x1b[31m \x7f \x85 \x9b \u2028 \ufeff \uffff"}),
    "half a character": failed(**{"class": "Died", "message": "died \ud83d"}),
    "a long reason to end early": result(complete=False, incompleteBecause=LONG),
    "a document with figures as fractions": result(points=[one | {"requests": 64.0} for one in DOCUMENT["points"]]),
    "a document with nothing in its optional fields": result(ledger=None, cost=None, provenance=None),
    "a document too large for an object": result(provenance="p" * (2 << 20)),
    "a document of another type": line(event="result", document=[1]),
    "an event nested deeply": deep_json({"event": "result", "document": DEEP}).replace(": ", ":", 1),
    "an event of another type": '{"event":["a"]}',
}  # fmt: skip
