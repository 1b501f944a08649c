"""The throughput while a real engine is rolled, as a picture: docs/images/roll.svg from benchmarks/results/roll.json.

The record is written by the test that makes the roll, when it is told where:

    SLM_RECORD=benchmarks/results/roll.json pytest -m kind tests/e2e/test_serving_vllm.py && make generate
"""

from __future__ import annotations

import json
from pathlib import Path

from slm_operator.report.drawing import Frame, Scale, element, line, path, picture, round_ticks, text

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "results" / "roll.json"
PICTURE = ROOT / "docs" / "images" / "roll.svg"
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#57606a}.grid{stroke:#d0d7de}.base{stroke:#8c959f}"
    ".curve{stroke:#0969da;stroke-width:2}.mark{stroke:#cf222e;stroke-dasharray:4 3}"
)
WIDTH, HEIGHT = 720.0, 240.0


def roll_curve() -> dict[Path, str]:
    """The picture's file to its text; nothing where no roll was recorded."""
    return {PICTURE: draw(json.loads(RECORD.read_text()))} if RECORD.exists() else {}


def draw(record: dict[str, dict[str, float]]) -> str:
    """One SVG: chunks of streamed answers per second (a token each, or a few), with the moments of the roll."""
    counts = {int(second): count for second, count in record["chunksBySecond"].items()}
    last = max(counts)
    rates = [(float(second), float(counts.get(second, 0))) for second in range(last)]
    highest = max(rate for _, rate in rates) * 1.15
    frame = Frame(WIDTH, HEIGHT, Scale(0, last, 96, WIDTH - 12), Scale(0, highest, HEIGHT - 40, 24))
    box = frame.box
    drawn = []
    for what, at in record["moments"].items():
        x, (beside, anchor) = frame.x(at), (4, "start") if at < last / 2 else (-4, "end")
        drawn.append(line(x, box.y, x, box.y + box.height, class_="mark"))
        drawn.append(text(what, x + beside, box.y + 12, text_anchor=anchor))
    axes = frame.axes(round_ticks(last, 8), round_ticks(highest), "seconds", "chunks of streams per second")
    curve = path([(frame.x(second), frame.y(rate)) for second, rate in rates], class_="curve")
    background = element("rect", width=WIDTH, height=HEIGHT, fill="#ffffff")
    label = "Chunks of streamed answers per second while both engines of a pack are replaced under load"
    return picture(WIDTH, HEIGHT, label, element("style", STYLE), background, axes, *drawn, curve) + "\n"
