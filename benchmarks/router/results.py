"""What was seen of the candidates, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

COSTS = {
    "p50_added_us": "p50 added, µs",
    "p99_added_us": "p99 added, µs",
    "cpu_us_per_request": "CPU a request, µs",
    "cpu_us_per_event": "CPU an event, µs",
    "requests_per_second": "requests a second",
    "memory_mib": "MiB",
}


def lines(kept: Mapping[str, Any]) -> list[str]:
    """The three tables, in Markdown."""
    return [*_points(kept["points"]), "", *_costs(kept["cost"]), "", *_balance(kept["balance"])]


def _points(points: Mapping[str, Any]) -> list[str]:
    names = next(iter(points.values())).keys()
    rows = [f"| point | {' | '.join(points)} |", "|---" * (1 + len(points)) + "|"]
    return rows + [
        f"| {name} | {' | '.join('kept' if seen[name]['kept'] else '**missed**' for seen in points.values())} |"
        for name in names
    ]


def _costs(costs: Mapping[str, Any]) -> list[str]:
    rows = [f"| cost | {' | '.join(COSTS.values())} |", "|---" * (1 + len(COSTS)) + "|"]
    return rows + [
        f"| {name} | {' | '.join(f'{cost[figure]:,}' for figure in COSTS)} |"
        for name, cost in costs.items()
        if name != "direct"
    ]


def _balance(balance: Mapping[str, Any]) -> list[str]:
    rows = [
        "| chosen by | load | waited beside a free place | refused | p50, s | p99, s | fullest - emptiest |",
        "|---|---|---|---|---|---|---|",
    ]
    return rows + [
        f"| {name} | {one['load']:.0%} | {one['waited_beside_a_free_place']:.1%} | {one['refused']:.1%} "
        f"| {one['p50_seconds']} | {one['p99_seconds']} | {one['spread']} |"
        for name, those in balance.items()
        for one in those
    ]
