"""What Grafana asks for a dashboard, and what it would draw: the queries of its panels, its variables filled in.

Exists because only an answer shows that a query is right, and Grafana cannot be had here. Knows what our dashboards
use: panels with queries, variables with label_values(selector, label).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .prometheus import Prometheus, Series

STEP_S = 15.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a panel: its legend, and points of (Unix seconds, value)."""

    legend: str
    points: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Answered:
    """One query of a panel, and the curves that it gave."""

    panel: dict[str, Any]
    query: str
    curves: list[Curve]


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when a dashboard is looked at, in Unix seconds."""

    start: float
    end: float

    @classmethod
    def of(cls, recorded: list[Series]) -> Span:
        """All that was recorded."""
        moments = [at for series in recorded for at, _ in series.samples]
        return cls(min(moments), max(moments))


def ask(board: dict[str, Any], server: Prometheus, span: Span) -> list[Answered]:
    """Every query of every panel, with the first choice for each of the dashboard's variables."""
    chosen: dict[str, str] = {}
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            chosen[variable["name"]] = next(iter(choices(_filled(variable["query"], chosen), server, span)), "")
    return [
        Answered(panel, query := _filled(target["expr"], chosen), list(_curves(query, target, server, span)))
        for panel in board["panels"]
        for target in panel["targets"]
    ]


def choices(query: str, server: Prometheus, span: Span) -> list[str]:
    """What a variable's drop-down offers. Knows Grafana's label_values(selector, label)."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    assert found, query
    series = server.range(found[1], span.start, span.end, STEP_S)
    return sorted({one.labels[found[2]] for one in series if found[2] in one.labels})


def _filled(query: str, chosen: dict[str, str]) -> str:
    return re.sub(r"\$(\w+)", lambda name: chosen[name[1]], query)


def _curves(query: str, target: dict[str, Any], server: Prometheus, span: Span) -> Iterator[Curve]:
    for series in server.range(query, span.start, span.end, STEP_S):
        points = [(at, value) for at, value in series.samples if math.isfinite(value)]
        if points:
            legend = re.sub(r"{{(\w+)}}", lambda name, of=series.labels: of.get(name[1], ""), target["legendFormat"])
            yield Curve(legend, points)
