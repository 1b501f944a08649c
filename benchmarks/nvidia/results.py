"""The kept rows as tables: what happened in each case, and what status and `check` said of it. Must never judge anew."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INSTALLERS = {"chart": "NVIDIA's chart", "gpu-operator": "the GPU Operator"}
VERDICTS = {True: "right", False: "**wrong**"}


def lines(kept: Mapping[str, Any]) -> list[str]:
    """A table for each release and installer, and what was said below it."""
    found: list[str] = []
    for (release, installer), rows in groupby(kept["rows"], key=lambda one: (one["release"], one["installer"])):
        found += [f"### {release}, {INSTALLERS[installer]}", "", *_table(list(rows)), ""]
    return found[:-1]


def summary(kept: Mapping[str, Any]) -> str:
    """How many cases were right."""
    rows = kept["rows"]
    right = sum(one["right"] for one in rows)
    return f"{right} of {len(rows)} right."


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = ["| case | right is | what happened | |", "|---|---|---|---|"]
    found += [
        f"| {one['case']}: {_cell(one['what'])} | {_cell(one['expected'])} | {_cell(one['happened'])} | {VERDICTS[one['right']]} |"
        for one in rows
    ]
    said = [line for one in rows for line in _said(one)]
    return [*found, "", "What was said:", "", *said] if said else found


def _said(row: Mapping[str, Any]) -> list[str]:
    found = [f"- {row['case']}, status: {_cell(row['said'])}"] if row["said"] else []
    return found + [f"- {row['case']}, `check`: {_cell(one)}" for one in row["check"]]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
