"""Throughput while a real engine's deployment is changed, as a picture: docs/images/changes.svg.

The record is written by the test that makes the changes, when it is given a path:

    make record changes && make generate
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slm_operator.report.drawing import Frame, Scale, element, line, path, picture, round_ticks, text

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "results" / "changes.json"
PICTURE = ROOT / "docs" / "images" / "changes.svg"
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#57606a}.what{font-weight:600;fill:#1f2328}.grid{stroke:#d0d7de}"
    ".base{stroke:#8c959f}.curve{stroke:#0969da;stroke-width:1.5}.mark{stroke:#cf222e;stroke-dasharray:4 3}"
)
WIDTH, ROW, LEFT, FOOT = 720.0, 112.0, 96.0, 44.0
BIN_SECONDS = 5


def change_curves() -> dict[Path, str]:
    """The picture's file to its text; nothing where no change was recorded."""
    return {PICTURE: draw(json.loads(RECORD.read_text()))} if RECORD.exists() else {}


def draw(changes: dict[str, dict[str, Any]]) -> str:
    """One SVG: a row for each change, all on the same scales."""
    curves = {name: _rates(record) for name, record in changes.items()}
    last = max(curve[-1][0] for curve in curves.values())
    highest = max(rate for curve in curves.values() for _, rate in curve) * 1.1
    height = ROW * len(changes) + FOOT
    across = Scale(0, last, LEFT, WIDTH - 12)
    rows = ""
    for number, (name, curve) in enumerate(curves.items()):
        frame = Frame(WIDTH, height, across, Scale(0, highest, ROW * (number + 1) - 4, ROW * number + 26))
        across_ticks, title = (round_ticks(last, 8), "seconds") if number == len(curves) - 1 else ([], "")
        rows += frame.axes(across_ticks, round_ticks(highest, 2), title, "")
        rows += _row(name, changes[name], curve, frame)
    background = element("rect", width=WIDTH, height=height, fill="#ffffff")
    label = "Chunks of streamed answers per second while two engines are changed under load, change by change"
    return picture(WIDTH, height, label, element("style", STYLE), background, rows) + "\n"


def _rates(record: dict[str, Any]) -> list[tuple[float, float]]:
    """Middle of each few seconds, and chunks a second in them; the last, which is not whole, is left out."""
    counts = {int(second): count for second, count in record["chunksBySecond"].items()}
    starts = range(0, max(counts) - BIN_SECONDS + 1, BIN_SECONDS)
    sums = ((start, sum(counts.get(start + step, 0) for step in range(BIN_SECONDS))) for start in starts)
    return [(start + BIN_SECONDS / 2, total / BIN_SECONDS) for start, total in sums]


def _row(name: str, record: dict[str, Any], curve: list[tuple[float, float]], frame: Frame) -> str:
    top, bottom = frame.box.y, frame.box.y + frame.box.height
    lost = record["failed"] + record["truncated"]
    said = f"{name}: {record['ok']} answered, {record['refused']} refused, {lost} failed or cut off"
    marks = "".join(
        line(frame.x(at), top, frame.x(at), bottom, class_="mark")
        + text(what, frame.x(at) - 3, top + 11, text_anchor="end")
        for what, at in record["moments"].items()
    )
    drawn = path([(frame.x(second), frame.y(rate)) for second, rate in curve], class_="curve")
    return text(said, LEFT, top - 10, class_="what") + marks + drawn
