"""The Pareto frontier of throughput and latency (arXiv 2404.03353): what nobody beats in both."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from slm_operator.advisor.case import is_partial
from slm_operator.advisor.contradictions import is_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_runtime.document import Point


def pareto_frontier(points: Iterable[Point]) -> tuple[Point, ...]:
    """Trusted full-batch points, single engines and packs, that no other beats in throughput and mean ITL, by rising ITL."""
    frontier: list[Point] = []
    fastest = sorted(points, key=attrgetter("throughput_tokens_per_second"), reverse=True)
    for point in sorted(fastest, key=attrgetter("itl_ms.mean_ms")):  # stable: of equal ITL the fastest stays first
        ahead = not frontier or point.throughput_tokens_per_second > frontier[-1].throughput_tokens_per_second
        if ahead and is_trusted(point) and not is_partial(point):
            frontier.append(point)
    return tuple(frontier)
