"""The Pareto frontier of throughput and latency (arXiv 2404.03353): what nobody beats in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.advisor.case import is_partial

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_runtime.document import Point


def pareto_frontier(points: Iterable[Point]) -> tuple[Point, ...]:
    """Trusted full-batch points, single engines and packs, that no other beats in throughput and mean ITL, by rising ITL."""
    clean = [p for p in points if not (p.doubts or p.preemptions or p.errors or is_partial(p))]
    frontier: list[Point] = []
    for point in sorted(clean, key=lambda p: (p.itl_ms.mean_ms, -p.throughput_tokens_per_second)):
        if not frontier or point.throughput_tokens_per_second > frontier[-1].throughput_tokens_per_second:
            frontier.append(point)
    return tuple(frontier)
