"""`kubectl slm profile diff A B`: what differs between two measurements, each of the cluster or of a file. Reads only."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text
from slm_core.codec import to_json
from slm_core.measurements import camel

from slm_operator.cli.cluster import Cluster, ask
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.differences import Differences, Pair, Same, differences
from slm_operator.cli.inputs.files import document_in, from_results, measured, read_all
from slm_operator.cli.render.for_scripts import print_json
from slm_operator.cli.render.terminal import bare_table, console
from slm_operator.visible import visible

if TYPE_CHECKING:
    from argparse import Namespace

    from rich.console import RenderableType
    from rich.table import Table
    from slm_core.measurements import MeasurementDocument

    from slm_operator.cli.inputs.differences import Change

SCHEMA = "slm-operator.io/differences/v1"
WITH_TTFT = 107
"""Columns of a terminal that the whole table needs. A narrower one goes without what is not judged."""
FILES = (".json", ".yaml", ".yml")


def run(arguments: Namespace) -> int:
    """Print what differs."""
    a, b = arguments.of_a, arguments.of_b
    if a == b == "-":
        raise Refused("A and B are both stdin, which can be read once only: give one of them a file")
    found = differences(*_documents(arguments, a, b))
    a, b = visible(a), visible(b)
    if arguments.output == "json":
        print_json(plain(a, b, found))
    else:
        out = console()
        out.print(view(a, b, found, with_ttft=out.width >= WITH_TTFT))
    return 0


def _documents(arguments: Namespace, *named: str) -> tuple[MeasurementDocument, MeasurementDocument]:
    """NB: files are read first: what is wrong there costs no request."""
    held = {one: _read(one) for one in named if is_file(one)}

    async def fetch(cluster: Cluster) -> dict[str, MeasurementDocument]:
        return {one: _of_cluster(await cluster.profile(one), one) for one in named if one not in held}

    if len(held) < len(set(named)):
        held |= ask(arguments, fetch)
    a, b = (held[one] for one in named)
    return a, b


def is_file(named: str) -> bool:
    """Whether an argument means a file: it looks like one, or there is one. Names of objects have no slash."""
    return named == "-" or "/" in named or named.endswith(FILES) or os.path.isfile(named)  # noqa: PTH113 - Path raises for a long name


def _read(filename: str) -> MeasurementDocument:
    files = read_all([filename])
    return from_results(files) or document_in(files)


def _of_cluster(raw: dict[str, Any], name: str) -> MeasurementDocument:
    found = measured(raw, f"SLMProfile {name}")
    if found is None:
        raise Refused(f"SLMProfile {name} holds no measurements yet: `kubectl slm watch` shows progress")
    return found


def plain(a: str, b: str, found: Differences) -> dict[str, Any]:
    """For scripts. Fractions: 0.1 is 10 % more in B; null from 0, of which nothing is a part."""
    return {
        "schema": SCHEMA,
        "a": a,
        "b": b,
        "subject": [asdict(one) for one in found.subject],
        "points": [_plain(one) for one in found.pairs],
        "onlyA": [_key(one) for one in found.only_a],
        "onlyB": [_key(one) for one in found.only_b],
    }


def _key(same: Same) -> dict[str, Any]:
    return {camel(name): to_json(value) for name, value in asdict(same).items()}


def _plain(pair: Pair) -> dict[str, Any]:
    return _key(pair.same) | {
        "throughputTokensPerSecond": _change(pair.throughput),
        "itlMs": _change(pair.itl),
        "ttftMs": None if pair.ttft is None else _change(pair.ttft),
        "chanceFraction": pair.chance_fraction,
        "beyondChance": list(pair.beyond_chance),
        "doubted": pair.is_doubted,
    }


def _change(change: Change) -> dict[str, float | None]:
    return asdict(change) | {"changeFraction": change.fraction}


def view(a: str, b: str, found: Differences, *, with_ttft: bool = True) -> RenderableType:
    """For people: what was measured differently, then the points."""
    parts: list[RenderableType] = [_subject(a, b, found), Text()]
    if found.pairs:
        ttft = _NOT_JUDGED if with_ttft else f"TTFT needs {WITH_TTFT} columns, or -o json."
        parts += [_points(found, with_ttft=with_ttft), Text(), Text(f"{_LEGEND} {ttft}", style="dim")]
    else:
        parts.append(Text("no point of the same batch, engines, mode and load is in both", style="yellow"))
    for name, few in ((a, found.only_a), (b, found.only_b)):
        if few:
            parts.append(Text(f"only in {name}: {', '.join(map(_words, few))}", style="dim"))
    return Group(*parts)


_LEGEND = (
    "CHANCE: what two measurements of the same may differ by, from both confidence intervals, at 95 %. "
    "BEYOND: what differs by more. Doubted: one of the two is marked."
)
_NOT_JUDGED = "TTFT has no interval and is not judged."


def _subject(a: str, b: str, found: Differences) -> RenderableType:
    if not found.subject:
        return Text("the same model, engine, GPU and workload")
    grid = _table("", a, b)
    for one in found.subject:
        grid.add_row(one.field, one.a or Text("-", style="dim"), one.b or Text("-", style="dim"))
    return grid


def _table(first: str, *folded: str) -> Table:
    grid = bare_table()
    grid.add_column(first, no_wrap=True)
    for heading in folded:
        grid.add_column(heading, overflow="fold")
    return grid


def _points(found: Differences, *, with_ttft: bool) -> Table:
    """NB: in a narrow terminal the figures fold, which all else is about, and nothing is cut."""
    grid = bare_table()
    for heading in ("ENGINES", "BATCH", "LOAD"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for heading in ("TOK/S", "ITL MS", *(("TTFT MS",) if with_ttft else ())):
        grid.add_column(heading, justify="right", overflow="fold")
        grid.add_column("", justify="right", no_wrap=True)
    grid.add_column("CHANCE", justify="right", no_wrap=True)
    grid.add_column("BEYOND", overflow="fold")
    for pair in found.pairs:
        same, beyond = pair.same, pair.beyond_chance
        ttft = ("", "") if pair.ttft is None else _cells(pair.ttft, 0)
        grid.add_row(
            _engines(same),
            str(same.batch_size),
            str(same.load),
            *_cells(pair.throughput, 0),
            *_cells(pair.itl, 1),
            *(ttft if with_ttft else ()),
            f"±{pair.chance_fraction:.1%}",
            ", ".join((*beyond, *(("doubted",) if pair.is_doubted else ()))),
            style="" if beyond else "dim",
        )
    return grid


def _cells(change: Change, digits: int) -> tuple[str, str]:
    fraction = "" if change.fraction is None else f"{change.fraction:+.1%}"
    return f"{change.a:,.{digits}f} → {change.b:,.{digits}f}", fraction


def _engines(same: Same) -> str:
    return "1" if same.replicas == 1 else f"{same.replicas} {same.sharing_mode}"


def _words(same: Same) -> str:
    load = "" if same.load == same.batch_size * same.replicas else f" at {same.load}"
    return f"B={same.batch_size}{'' if same.replicas == 1 else f' x {_engines(same)}'}{load}"
