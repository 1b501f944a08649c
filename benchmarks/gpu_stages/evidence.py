"""The page that tells what GPUs have said: docs/reference/gpu-evidence.md, from the results that are kept in the repository.

A result is a folder of `benchmarks/gpu.py`, put whole below `benchmarks/results/gpu`. Pure but for reading these files.
Must never show a figure of anything but a GPU, nor one without its machine, versions and commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_stages import record
from benchmarks.gpu_stages.machine import Kind
from benchmarks.gpu_stages.record import Record
from benchmarks.gpu_stages.table import STAGES

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "benchmarks" / "results" / "gpu"
PAGE = ROOT / "docs" / "reference" / "gpu-evidence.md"
NOT_YET = "No GPU has run any of this yet"
"""The sentence of README.md and docs/how-to/install.md, for as long as there is no result."""
HOW = """What was measured on GPUs, by `python benchmarks/gpu.py`; [benchmarks/gpu.md](../../benchmarks/gpu.md) says how to run it, on
machines without a network too. Every figure below is from a file in `benchmarks/results/gpu`; nothing here is edited by hand."""
GIB = 2**30
Runs = Mapping[str, Sequence[Record]]


def kept_runs(folder: Path = KEPT) -> dict[str, list[Record]]:
    """Name of each kept folder to its records, in the order of the stages."""
    runs = {}
    for run in sorted(path for path in folder.glob("*") if path.is_dir()):
        found = (record.read(run, stage.name) for stage in STAGES)
        runs[run.name] = [one for one in found if one is not None]
    return runs


def of_gpus(runs: Runs) -> dict[str, list[Record]]:
    """Only what a GPU has said."""
    seen = {name: [one for one in records if one.machine["kind"] == Kind.GPU] for name, records in runs.items()}
    return {name: records for name, records in seen.items() if records}


def gpu_evidence() -> dict[Path, str]:
    """File to text of the page."""
    return {PAGE: page(of_gpus(kept_runs()))}


def page(runs: Runs) -> str:
    """The page. `runs`: records of GPUs only."""
    lines = ["# What GPUs have said", "", HOW, ""]
    if not runs:
        lines += [f"{NOT_YET}."]
    for name, records in runs.items():
        lines += [f"## {records[0].machine['product']}, {name}", "", _about(records[0]), ""]
        for one in records:
            lines += [*_stage(one, records[0]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _about(one: Record) -> str:
    machine = one.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"Driver {machine['driver']}, CUDA {machine['cuda']}, {_shown('_bytes', machine['memory_bytes'])} GiB, compute mode "
        f"{machine['compute_mode']}, power limit {_shown('', machine['power_limit_watts'])} W; "
        f"{machine['cpus']} CPUs; {versions}; commit {machine['commit'] or 'not recorded'}; begun {one.began}."
    )


def _stage(one: Record, first: Record) -> list[str]:
    """A stage. `first`: the run's first, whose machine the heading tells; a resumed run may have gone on otherwise."""
    title = next(stage.title for stage in STAGES if stage.name == one.stage)
    state = "complete" if one.complete else f"**incomplete**: {one.incomplete_because}"
    lines = [f"### {title}", "", f"{one.seconds:.0f} s, {state}."]
    if any(one.machine[key] != first.machine[key] for key in ("driver", "cuda", "versions", "commit")):
        lines += ["", _about(one)]
    windows = {name: value for name, value in one.figures.items() if _is_window(value)}
    if windows:
        lines += ["", *_table([{"window": _words(name), **dict(_flat("", value))} for name, value in windows.items()])]
    rows = []
    for name, value in one.figures.items():
        if name == "points":
            lines += ["", *_table(value)]
        elif name not in windows:
            rows += [(_words(key), _shown(key, found)) for key, found in _flat(name, value)]
    rows += [(_words(name), _shown("", f"{lack.state}: {lack.why}")) for name, lack in one.lacking.items()]
    if rows:
        lines += ["", "| what | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]
    return lines


def _is_window(value: object) -> bool:
    return isinstance(value, dict) and "window_seconds" in value


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One row each; a column for every key that any of them has."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"| {' | '.join(_words(key) for key in keys)} |", "|" + "---|" * len(keys)]
    return lines + [f"| {' | '.join(_shown(key, row.get(key)) for key in keys)} |" for row in rows]


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Leaves, each under the names that lead to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{name}, {key}" if name else key, item)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value, 1):
            yield from _flat(f"{name} {number}", item)
    else:
        yield name, value


def _words(name: str) -> str:
    words = name.replace("_", " ")
    return words.replace(" bytes", " (GiB)").replace(" fraction", " (%)")


def _shown(name: str, value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return "; ".join(map(str, value)) or "none"
        case int() | float() if name.endswith("_bytes"):
            return f"{value / GIB:.2f}"
        case int() | float() if name.endswith("_fraction"):
            return f"{100 * value:.1f}"
        case float():
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        case int():
            return f"{value:,}" if value >= 10_000 else str(value)
        case _:
            return str(value).replace("|", "\\|")
