"""The figures of the scale benchmark for people: goals with what was measured beside them, and how they grow.

Pure functions of `benchmarks/results/scale.json`, which `python -m benchmarks.scale --sweep` writes. A figure that was not measured is a
dash, never a guess.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slm_operator.report.drawing import Frame, Scale, element, path, picture, round_ticks, short, text

from benchmarks.provenance import provenance

RESULTS = Path(__file__).parents[1] / "results"
Figures = dict[str, Any]


class Goal(NamedTuple):
    """One goal: the figure, what it is called, the most it may be, and the size that it is about where not all are."""

    key: str
    title: str
    most: float | None
    deployments: int | None = None


GOALS = (
    Goal("settled_seconds", "settled after (s)", 60, deployments=1000),
    Goal("floor_seconds", "the same writes by a bare client (s)", None),
    Goal("ratio", "settled / floor", None),
    Goal("operator_peak_mib", "operator, peak memory (MiB)", 150),
    Goal("operator_cpu_seconds", "operator, CPU until settled (s)", None),
    Goal("writes", "writes until settled", None),
    Goal("floor_writes", "writes of the bare client", None),
    Goal("idle_seconds", "watched at rest for (s)", None),
    Goal("idle_writes", "writes at rest", 0),
    Goal("idle_reads", "reads at rest, watches not counted", 0),
    Goal("start_seconds", "start to first useful status (s)", 3),
    Goal("pods", "foreign pods in the cluster at start", None),
    Goal("change_p50_ms", "one change until its status, median (ms)", None),
    Goal("change_p99_ms", "one change until its status, p99 (ms)", 300),
)
COLOURS = ("#0b6e99", "#c4572c")
STYLE = "text{font:12px sans-serif;fill:#666}.grid{stroke:#ddd}.base{stroke:#999}.name{font-weight:600}"
WIDTH, HEIGHT = 560.0, 320.0


def table(runs: Sequence[Figures]) -> list[str]:
    """Goals and figures, a column a size, as lines of Markdown."""
    head = [f"{run['deployments']:,} deployments, {run['nodes']} nodes" for run in runs]
    lines = [f"| | goal | {' | '.join(head)} |", f"|---|---|{'---|' * len(runs)}"]
    for goal in GOALS:
        wanted = "" if goal.most is None else f"at most {short(goal.most)}" if goal.most else "none"
        wanted += f" with {goal.deployments:,}" if goal.deployments else ""
        cells = [_cell(goal, run.get(goal.key), run["deployments"]) for run in runs]
        lines.append(f"| {goal.title} | {wanted} | {' | '.join(cells)} |")
    load = [f"{run['environment']['load_before']} / {run['environment']['load_after']}" for run in runs]
    return [*lines, f"| load of the machine before and after | | {' | '.join(load)} |"]


def missed(runs: Sequence[Figures]) -> list[str]:
    """Titles of the goals that some run misses."""
    return [goal.title for goal in GOALS if any(_misses(goal, run.get(goal.key), run["deployments"]) for run in runs)]


def parts(runs: Sequence[Figures]) -> list[str]:
    """Where the time of one change goes, as lines of Markdown: p50 / p99 in ms."""
    head = [f"{run['deployments']:,} deployments" for run in runs]
    lines = [f"| one change at rest, p50 / p99 (ms) | {' | '.join(head)} |", f"|---|{'---|' * len(runs)}"]
    for part in runs[0]["change_parts_ms"]:
        cells = [
            f"{run['change_parts_ms'][part]['p50']:.0f} / {run['change_parts_ms'][part]['p99']:.0f}" for run in runs
        ]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return lines


def plot(runs: Sequence[Figures]) -> str:
    """Seconds until settled, and the floor, against the number of deployments."""
    high = 1.15 * max(max(run["settled_seconds"], run.get("floor_seconds", 0)) for run in runs)
    sizes = [float(run["deployments"]) for run in runs]
    frame = Frame(WIDTH, HEIGHT, Scale(0, 1.05 * sizes[-1], 54, 540), Scale(0, high, 270, 26))
    lines = []
    for colour, key, name in zip(
        COLOURS, ("settled_seconds", "floor_seconds"), ("operator", "bare client"), strict=True
    ):
        points = [(frame.x(run["deployments"]), frame.y(run[key])) for run in runs if key in run]
        lines += [path(points, stroke=colour, stroke_width=2)] if points else []
        lines += [element("circle", cx=x, cy=y, r=4, fill=colour) for x, y in points]
        lines += [text(name, x - 8, y - 9, text_anchor="end", class_="name") for x, y in points[-1:]]
    axes = frame.axes(sizes, round_ticks(high), "deployments", "seconds until all are settled")
    return picture(WIDTH, HEIGHT, "Seconds until settled against deployments", element("style", STYLE), axes, *lines)


def write_results(command: str, runs: Sequence[Figures]) -> None:
    """scale.json, scale.md and scale.svg."""
    RESULTS.mkdir(exist_ok=True)
    kept = {"command": command, "runs": list(runs)}
    (RESULTS / "scale.json").write_text(json.dumps(kept, indent=1) + "\n")
    (RESULTS / "scale.svg").write_text(plot(runs) + "\n")
    page = [
        "# Scale",
        "",
        provenance(command, runs[-1]["environment"]),
        "",
        *table(runs),
        "",
        "![growth](scale.svg)",
        "",
    ]
    (RESULTS / "scale.md").write_text("\n".join(page))


def _cell(goal: Goal, value: Any, deployments: int) -> str:
    if value is None:
        return "-"
    shown = f"{value:,}" if isinstance(value, int) else f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{shown} (missed)" if _misses(goal, value, deployments) else shown


def _misses(goal: Goal, value: Any, deployments: int) -> bool:
    return value is not None and goal.most is not None and value > goal.most and goal.deployments in {None, deployments}
