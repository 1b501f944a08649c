"""Pages that tell what was measured: the tables between their markers, from the results that runs have kept.

The words round the tables are a person's; the figures are never. A result that is not there leaves its block empty, and
`tests/docs/test_measured.py` says so.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


from benchmarks.churn import results as churn
from benchmarks.clients import compared
from benchmarks.foreign import expected, sweep
from benchmarks.mutation import results as mutation
from benchmarks.mutation.explained import explained
from benchmarks.nvidia import results as nvidia
from benchmarks.provenance import provenance
from benchmarks.router import results as router
from benchmarks.scale.results import missed, parts, table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
UNRECORDED = "Not recorded yet."


def measured_pages() -> dict[Path, str]:
    """File to text of every page with a block of figures."""
    blocks = {
        "concepts/memory-gap.md": {"clients": _clients()},
        "contributing/mutation.md": {"mutation": _mutation()},
        "how-to/close-doors.md": {"doors": _doors()},
        "reference/nvidia-stack.md": {"nvidia": _nvidia()},
        "reference/performance.md": _scale_blocks() | {"foreign": _foreign(), "expected": _expected()},
        "reference/reliability.md": {"faults": _faults(), "churn": _churn(), "packs": _packs()},
        "adr/0028-haproxy-is-the-router-in-a-pack.md": {"router": _router()},
        "how-to/serving.md": {"many": _many(), "changes": _changes()},
    }
    return {ROOT / "docs" / page: _filled(page, lines) for page, lines in blocks.items()}


def _filled(page: str, blocks: dict[str, list[str]]) -> str:
    text = (ROOT / "docs" / page).read_text()
    for name, lines in blocks.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        text = before + start + "".join(f"{line}\n" for line in lines) + end + rest.partition(end)[2]
    return text


def _scale_blocks() -> dict[str, list[str]]:
    kept = _kept("scale.json")
    if kept is None:
        return {"goals": [], "missed": [], "change": []}
    runs = kept["runs"]
    about = provenance(kept["command"], runs[-1]["environment"])
    late = missed(runs)
    return {
        "goals": [about, "", *table(runs)],
        "missed": [f"Missed: {', '.join(late)}." if late else "Every goal in the table is met."],
        "change": parts(runs),
    }


def _foreign() -> list[str]:
    kept, about = _kept("foreign.json"), _kept("../records/foreign.json")
    if kept is None or about is None:
        return [UNRECORDED]
    story = sweep.Story(kept)
    reached = (
        f"The patched engine reached {story.reached:.1%} of the best of the sweep under the SLO (mean ITL of at most "
        f"{story.limits.itl_ms:.1f} ms); by chance alone the two may differ by {story.chance_fraction:.1%}. It was started with "
        f"{sweep.ratio(story.bad.full, story.best.full):.0%} of it."
    )
    return [provenance(about["command"], about), "", *sweep.steps(story), "", reached]


def _expected() -> list[str]:
    turns, about = _kept("expected.json"), _kept("../records/expected.json")
    if turns is None or about is None:
        return [UNRECORDED]
    return [provenance(about["command"], about), "", *expected.table(expected.compared(turns))]


def _faults() -> list[str]:
    kept = _kept("faults.json")
    if kept is None:
        return []
    rows = ["| fault | how it is injected | runs | met | restarts | converged after (s) | result |"]
    rows += ["|---|---|---|---|---|---|---|"]
    rows += [_row(list(runs)) for _, runs in groupby(kept["outcomes"], key=lambda one: one["fault"])]
    return [provenance(kept["about"]["command"], kept["about"]), "", *rows]


def _churn() -> list[str]:
    kept = _kept("churn.json")
    return [] if kept is None else churn.lines(kept)


def _clients() -> list[str]:
    kept, about = _kept("clients.json"), _kept("../records/clients.json")
    if kept is None or about is None:
        return []
    named = " and ".join(kept["clients"])
    return [f"{provenance(about['command'], about)} Clients: {named}.", "", *compared.table(kept).splitlines()]


def _mutation() -> list[str]:
    kept, about = _kept("mutation.json"), _kept("../records/mutation.json")
    if kept is None or about is None:
        return []
    return [provenance(about["command"], about), "", *mutation.lines(kept, explained())]


def _nvidia() -> list[str]:
    kept, about = _kept("nvidia.json"), _kept("../records/nvidia.json")
    if kept is None or about is None:
        return []
    return [f"{provenance(about['command'], about)} {nvidia.summary(kept)}", "", *nvidia.lines(kept)]


def _router() -> list[str]:
    kept, about = _kept("router.json"), _kept("../records/router.json")
    if kept is None or about is None:
        return []
    return [provenance(about["command"], about), "", *router.lines(kept)]


def _packs() -> list[str]:
    kept, about = _kept("packs.json"), _kept("../records/packs.json")
    if kept is None or about is None:
        return []
    figures = ("seconds", "ok", "refused", "failed", "truncated")
    rows = ["| what happens under load | seconds | answered | refused | without an answer | cut off |"]
    rows += ["|---|---|---|---|---|---|"]
    rows += [
        f"| {name} | {' | '.join(f'{one[key]:,}' for key in figures)} |"
        for name, one in kept.items()
        if "seconds" in one
    ]
    killed, measured = kept["an engine killed"], kept["throughput"]
    widths = (measured["measuredHalfWidth"], measured["servedHalfWidth"])
    said = (
        f"The engine that was killed had {killed['inFlight']} requests in flight. With {measured['inFlight']} requests in flight the profile "
        f"measured {measured['measured']:,} output tokens per second (half width of 95 % confidence {_share(widths[0])}), and the "
        f"pack served {measured['served']:,} ({_share(widths[1])}), {measured['served'] / measured['measured'] - 1:+.1%}."
    )
    return [provenance(about["command"], about), "", *rows, "", said]


def _doors() -> list[str]:
    kept, about = _kept("doors.json"), _kept("../records/doors.json")
    if kept is None or about is None:
        return []
    opened, closed, flood = kept["open"], kept["closed"], kept["flood"]
    searched = kept["the key"]["searched"] + kept["the key of a pack"]["searched"]
    rows = ["| tried | by default | behind closed doors |", "|---|---|---|"]
    rows += [
        f"| {tried} | {answer} | {closed[tried]} |"
        for tried, answer in opened.items()
        if tried in closed and tried != "about"
    ]
    said = (
        f"Load went on through them ({kept['load']['ok']:,} requests answered, none lost), the SLO monitor judged it, and a model was measured and served as a pack. While "
        f"somebody beside Prometheus tried {flood['401'] + flood['429']:,} false tokens in {flood['seconds']} s, and when the certificate was renewed, every scrape was answered. The key "
        f"stood in none of {searched} logs, lists of objects and outputs of commands."
    )
    return [provenance(about["command"], about), "", *rows, "", said]


def _share(fraction: float | None) -> str:
    return "not known" if fraction is None else f"{fraction:.1%}"


def _many() -> list[str]:
    kept = _kept("many.json")
    if kept is None:
        return []
    rows = [
        "| change | seconds | requests answered | refused | without an answer | cut off |",
        "|---|---|---|---|---|---|",
    ]
    figures = ("seconds", "ok", "refused", "failed", "truncated")
    rows += [f"| {name} | {' | '.join(f'{one[key]:,}' for key in figures)} |" for name, one in kept.items()]
    return rows


def _changes() -> list[str]:
    kept = _kept("changes.json")
    if kept is None:
        return []
    rows = ["| change | requests answered | refused | failed | cut off |", "|---|---|---|---|---|"]
    figures = ("ok", "refused", "failed", "truncated")
    return [*rows, *(f"| {name} | {' | '.join(f'{one[key]:,}' for key in figures)} |" for name, one in kept.items())]


def _row(runs: Sequence[Any]) -> str:
    """One fault: how often it was run, and the worst of its runs."""
    took = [one["converged_seconds"] for one in runs]
    longest = "-" if None in took else f"{max(took):.1f}"
    held = sum(one["result"] == "held" for one in runs)
    result = "held" if held == len(runs) else f"failed in {len(runs) - held}"
    figures = (len(runs), min(one["met"] for one in runs), max(one["restarts"] for one in runs), longest, result)
    return f"| {runs[0]['fault']} | {runs[0]['how']} | {' | '.join(map(str, figures))} |"


def _kept(name: str) -> Any:
    path = RESULTS / name
    return json.loads(path.read_text()) if path.exists() else None
