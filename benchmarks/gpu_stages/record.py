"""What a stage has found, and the file that holds it: one JSON a stage, whole at every moment.

Exists so that a run can be cut short at any moment and continued. Assumes that one run at a time writes to a folder.
Must never hold the name of a machine or a path of it (`scrubbed`), nor let less replace more (`keep`).
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

SCHEMA = "slm-operator.io/gpu-evidence/v1"
ROOT = Path(__file__).resolve().parents[2]


class State(StrEnum):
    """Why a figure is not there."""

    NOT_AVAILABLE = "not available"
    """This machine does not have what it takes."""
    FAILED = "failed"
    """It was tried, and that is the finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """A figure that there is none of."""

    state: State
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One stage on one machine."""

    schema: str = SCHEMA
    stage: str
    machine: dict[str, Any]
    """See `machine.py`."""
    began: str
    """UTC, RFC 3339."""
    seconds: float = 0.0
    complete: bool = False
    """The stage came to its own end: every figure is here or in `lacking`."""
    incomplete_because: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    lacking: dict[str, Lack] = field(default_factory=dict)

    def with_figure(self, name: str, value: Any) -> Record:
        """This record and one figure more; a later one replaces an earlier one of its name."""
        return replace(self, figures=self.figures | {name: value})

    def without(self, name: str, lack: Lack) -> Record:
        """This record, knowing that there is no such figure."""
        return replace(self, lacking=self.lacking | {name: lack})


def read(folder: Path, stage: str) -> Record | None:
    """The record of a stage, or None where there is none that can be read."""
    try:
        raw = json.loads(path_of(folder, stage).read_text())
        lacking = {name: Lack(state=State(one["state"]), why=one["why"]) for name, one in raw.pop("lacking").items()}
        record = Record(**raw, lacking=lacking)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return record if record.schema == SCHEMA else None


def keep(folder: Path, record: Record) -> None:
    """Write a record, unless an earlier try of the same stage found more."""
    before = read(folder, record.stage)
    if before and before.began != record.began and _worth(before) > _worth(record):
        return
    text = json.dumps(asdict(record), indent=1, sort_keys=False)
    partial = folder / f".{record.stage}.partial"
    with partial.open("w") as out:
        out.write(scrubbed(text) + "\n")
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path_of(folder, record.stage))


def path_of(folder: Path, stage: str) -> Path:
    """Where the record of a stage lies."""
    return folder / f"{stage}.json"


def scrubbed(text: str) -> str:
    """The text without this machine's name and without the folders that only it has."""
    known = ((tempfile.gettempdir(), "$TMPDIR"), (str(ROOT), "$REPOSITORY"), (sys.prefix, "$PYTHON"))
    for word, instead in sorted([*known, (str(Path.home()), "~")], key=lambda pair: -len(pair[0])):
        if len(word) > 3:
            text = text.replace(word, instead)
    return re.sub(rf"\b{re.escape(socket.gethostname())}\b", "$HOST", text)


def _worth(record: Record) -> tuple[bool, int]:
    return record.complete, len(record.figures) + len(record.lacking)
