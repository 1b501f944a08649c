"""The Grafana dashboards with a Prometheus's answers in them, drawn: docs/images/dashboard-*.svg.

    python -m benchmarks.dashboards.pictures      # from the recording that `recording.py` made

Exists because only an answer shows that a query is right. Draws what Grafana would: each panel's curves in their
place, with unit and legend. Assumes time series panels; must never need Grafana.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_operator.report.drawing import Frame, Scale, element, path, picture, round_ticks, text

from tests.testbed.grafana import Answered, Curve, Span, ask
from tests.testbed.prometheus import RECORDING, prometheus, read_recording

if TYPE_CHECKING:
    from tests.testbed.prometheus import Prometheus

ROOT = Path(__file__).parents[2]
BOARDS = sorted((ROOT / "charts/slm-operator/dashboards").glob("*.json"))
PICTURES = ROOT / "docs" / "images"
COLUMN, ROW = 40.0, 32.0
"""User units of one column and row of Grafana's grid."""
COLOURS = ("#0969da", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#57606a", "#1b7c83")
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#57606a}.title{font-weight:600;fill:#1f2328}.heading{font-size:15px}"
    ".grid{stroke:#d8dee4}.base{stroke:#8c959f}.curve{stroke-width:1.6;stroke-linejoin:round}"
)
UNITS = {
    "s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "bytes": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "bytes")),
    "ops": ((1, "per second"),),
    "reqps": ((1, "requests per second"),),
    "percentunit": ((0.01, "%"),),
    "short": ((1, ""),),
}
"""Grafana's units: what a value is divided by, and the name of the result; the first below the largest value is taken."""


def draw(board: dict[str, Any], answers: list[Answered], span: Span) -> str:
    """One SVG of a whole dashboard."""
    drawn = []
    for panel in board["panels"]:
        place = panel["gridPos"]
        curves = [curve for answered in answers if answered.panel is panel for curve in answered.curves]
        curves.sort(key=_height, reverse=True)  # the legend has no place for the least
        shift = f"translate({place['x'] * COLUMN + 12} {place['y'] * ROW + 40})"
        inside = _panel(panel, curves, span, place["w"] * COLUMN - 24, place["h"] * ROW - 16)
        drawn.append(element("g", inside, transform=shift))
    lowest = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    width, height = 24 * COLUMN, lowest * ROW + 40
    background = element("rect", width=width, height=height, fill="#ffffff")
    heading = text(board["title"], 12, 22, class_="title heading") + text(
        "minutes along each axis", width - 12, 22, text_anchor="end"
    )
    label = f"The dashboard {board['title']}, from recorded metrics"
    return picture(width, height, label, element("style", STYLE), background, heading, *drawn) + "\n"


def _panel(panel: dict[str, Any], curves: list[Curve], span: Span, width: float, height: float) -> str:
    largest = max((value for curve in curves for _, value in curve.points), default=0.0)
    steps = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    factor, unit = next((step for step in steps if largest >= step[0]), steps[-1] if largest else steps[0])
    highest = largest / factor * 1.1 or 1.0
    minutes = (span.end - span.start) / 60
    frame = Frame(width, height - 48, Scale(0, minutes, 40, width - 4), Scale(0, highest, height - 66, 30))
    lines = [
        path(
            [(frame.x((at - span.start) / 60), frame.y(value / factor)) for at, value in curve.points],
            class_="curve",
            stroke=_colour(number),
        )
        for number, curve in enumerate(curves)
    ]
    axes = element("g", frame.axes(round_ticks(minutes), round_ticks(highest, 4), "", ""))
    titles = text(panel["title"], 0, 8, class_="title") + text(unit, 0, 22)
    return titles + axes + "".join(lines) + _legend(curves, width, height - 26)


def _height(curve: Curve) -> float:
    return max(value for _, value in curve.points)


def _colour(number: int) -> str:
    return COLOURS[number] if number < len(COLOURS) else "#afb8c1"


def _legend(curves: list[Curve], width: float, top: float) -> str:
    """Coloured names in up to two lines; what has no place there is counted."""
    x, y, drawn = 0.0, top, []
    for number, curve in enumerate(curves):
        wide = 6.4 * len(curve.legend) + 20
        if x and x + wide > width:
            x, y = 0.0, y + 14
        if y > top + 14:
            drawn.append(text(f"and {len(curves) - number} more", width, y, text_anchor="end"))
            break
        drawn.append(element("rect", x=x, y=y - 5, width=8, height=3, fill=_colour(number)))
        drawn.append(text(curve.legend, x + 12, y))
        x += wide
    return "".join(drawn)


def pictures(server: Prometheus, span: Span) -> dict[Path, str]:
    """File to text of every dashboard's picture."""
    boards = {path: json.loads(path.read_text()) for path in BOARDS}
    return {
        PICTURES / f"dashboard-{path.stem}.svg": draw(board, ask(board, server, span), span)
        for path, board in boards.items()
    }


if __name__ == "__main__":
    recorded = read_recording(RECORDING)
    with prometheus(recorded) as server:
        for picture_file, svg in pictures(server, Span.of(recorded)).items():
            picture_file.write_text(svg)
