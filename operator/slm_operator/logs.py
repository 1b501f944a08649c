"""One line a decision: when, how grave, what, about which object, which action, because of what.

JSON, or `key=value` on a terminal. Libraries speak at WARNING and above. Must never log a request body or a header.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_FIELDS = ("object", "action", "because")


class Lines(logging.Formatter):
    """A record as one line."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= {name: str(getattr(record, name)) for name in _FIELDS if hasattr(record, name)}
        if not record.name.startswith("slm_operator"):
            line["logger"] = record.name
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        if self._as_json:
            return json.dumps(line)
        return " ".join(f"{name}={_quoted(value)}" for name, value in line.items())


def start_logging(*, verbose: bool = False) -> None:
    """Log to stderr: JSON for machines, key=value where a person looks."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(as_json=not sys.stderr.isatty()))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("slm_operator").setLevel(logging.DEBUG if verbose else logging.INFO)
    # NB: asyncio keeps quiet about what Kopf cancels; Kopf's own object loggers would add a line an event.
    logging.getLogger("kopf").setLevel(logging.INFO if verbose else logging.WARNING)


def _quoted(value: str) -> str:
    return (
        value
        if value.isascii() and value.isprintable() and " " not in value and '"' not in value
        else json.dumps(value)
    )
