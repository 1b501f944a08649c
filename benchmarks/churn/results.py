"""The figures of a run of churn for people: what was done, what was judged, and memory over time.

Pure functions of `benchmarks/results/churn.json`, but for the one that writes it.
"""

import json
from pathlib import Path
from typing import Any

from slm_operator.report.drawing import Frame, Scale, element, line, path, picture, round_ticks, text

from benchmarks.provenance import provenance

RESULTS = Path(__file__).parents[1] / "results"
Figures = dict[str, Any]
STYLE = (
    "text{font:12px sans-serif;fill:#666}.grid{stroke:#ddd}.base{stroke:#999}"
    ".curve{stroke:#0b6e99;stroke-width:1.5}.mark{stroke:#c4572c;stroke-dasharray:4 3}"
)
WIDTH, HEIGHT = 720.0, 240.0


def write_results(command: str, figures: Figures) -> None:
    """churn.json and churn.svg."""
    RESULTS.mkdir(exist_ok=True)
    samples = "[" + ",\n ".join(map(json.dumps, figures["memory_mib"])) + "]"
    kept = json.dumps({"command": command} | figures | {"memory_mib": "SAMPLES"}, indent=1)
    (RESULTS / "churn.json").write_text(kept.replace('"SAMPLES"', samples) + "\n")
    (RESULTS / "churn.svg").write_text(plot(figures) + "\n")


def lines(kept: Figures) -> list[str]:
    """What a run was and what it showed, as lines of Markdown."""
    acts = kept["acts"]
    grown = kept["memory_last_fifth_mib"] - kept["memory_second_fifth_mib"]
    memory = f"{kept['memory_second_fifth_mib']} and {kept['memory_last_fifth_mib']} ({grown:+.1f})"
    return [
        provenance(kept["command"], kept["environment"]),
        "",
        "| | |",
        "|---|---|",
        f"| churned for (min) | {kept['seconds'] / 60:.0f} |",
        f"| acts | {sum(acts.values()):,}: {', '.join(f'{what} {count}' for what, count in sorted(acts.items()))} |",
        f"| judged | {', '.join(f'{what} {count}' for what, count in sorted(kept['judged'].items()))} |",
        f"| broken | {'; '.join(kept['broken']) or 'nothing'} |",
        f"| at rest after each calm (s), most of {len(kept['rest_seconds'])} | {max(kept['rest_seconds']):.0f} |",
        f"| the last process lived (min) | {kept['last_life_seconds'] / 60:.0f} |",
        f"| its memory, median of the second fifth of its life and of the last (MiB) | {memory} |",
        f"| peak of all (MiB) | {kept['memory_peak_mib']} |",
    ]


def plot(figures: Figures) -> str:
    """Memory of the operator's processes over the run; where one was followed by the next, a line."""
    samples = [(at / 60, mib) for at, mib in figures["memory_mib"]]
    last, high = figures["seconds"] / 60, 1.15 * max(mib for _, mib in samples)
    frame = Frame(WIDTH, HEIGHT, Scale(0, last, 54, WIDTH - 12), Scale(0, high, HEIGHT - 40, 24))
    axes = frame.axes(round_ticks(last, 8), round_ticks(high), "minutes", "memory of the operator (MiB)")
    begins = max(0.0, last - figures["last_life_seconds"] / 60)
    marks = [
        line(frame.x(begins), frame.box.y, frame.x(begins), frame.box.y + frame.box.height, class_="mark"),
        text("one process from here", frame.x(begins) + 4, frame.box.y + 12),
    ]
    curve = path([(frame.x(at), frame.y(mib)) for at, mib in samples], class_="curve")
    return picture(WIDTH, HEIGHT, "Memory of the operator over time", element("style", STYLE), axes, *marks, curve)
