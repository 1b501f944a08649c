"""The Pareto frontier of throughput and latency (arXiv 2404.03353): what nobody beats in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.advisor.case import is_partial

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_core.measurements import Point


def pareto_frontier(points: Iterable[Point]) -> tuple[Point, ...]:
    """Trusted full-batch points, single engines and packs, that no other beats in throughput and mean ITL, by rising ITL."""
    frontier: list[Point] = []
    fastest = 0.0
    for point in sorted(points, key=lambda p: p.itl_ms.mean_ms):
        if point.throughput_tokens_per_second > fastest and point.is_trusted and not is_partial(point):
            fastest = point.throughput_tokens_per_second
            if frontier and frontier[-1].itl_ms.mean_ms == point.itl_ms.mean_ms:
                frontier.pop()  # as soon, and slower
            frontier.append(point)
    return tuple(frontier)
