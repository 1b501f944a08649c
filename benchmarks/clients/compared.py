"""What AIPerf, GuideLLM and the profiler say of one engine under one load, side by side. Pure.

Exists apart from the run that makes them (`python -m benchmarks.clients`), so that a table can be made of a record. Must never
read other programs' files, nor call two figures equal, in another way than the product's own.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from slm_core.codec import to_json
from slm_core.noise import of_comparison
from slm_core.results.registry import from_results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Figures:
    """What a client says of one closed loop."""

    output_tokens_per_second: float
    itl_ms: float
    """Mean."""
    ttft_ms: float
    """Median, as the client saw it: the mean is moved by a start in which all requests come at once."""


def of_result(name: str, raw: Any) -> Figures:
    """Of another client's file, as the product reads such files. Raises DocumentError where its batches were not full."""
    document, _ = from_results([(name, raw)])
    return of_points([to_json(point) for point in document.points])


def of_points(points: Sequence[Mapping[str, Any]]) -> Figures:
    """The means of the profiler's points of one load, as documents have them.

    NB: its mean TTFT is the engine's count and ends before the answer is on its way; the median is of what it saw itself.
    """
    return Figures(
        *(
            math.fsum(of(point) for point in points) / len(points)
            for of in (
                lambda point: point["outputTokensPerSecond"],
                lambda point: point["itlMs"]["meanMs"],
                lambda point: point["ttftMs"]["p50Ms"],
            )
        )
    )


def interval(points: Sequence[Mapping[str, Any]]) -> Figures:
    """How much another client's single run may differ from these points by chance, as fractions.

    The product's own measure of it, and never less than what the points differ by among themselves.
    """
    least = max(of_comparison(point.get("throughputCiFraction"), None) for point in points)
    each, means = [asdict(of_points([point])) for point in points], asdict(of_points(points))
    return Figures(*(max(least, *(abs(one[name] / mean - 1) for one in each)) for name, mean in means.items()))


def differences(points: Sequence[Mapping[str, Any]], other: Figures) -> Figures:
    """The other client's figures against the profiler's, as fractions."""
    ours = asdict(of_points(points))
    return Figures(*(figure / ours[name] - 1 for name, figure in asdict(other).items()))


def table(record: Mapping[str, Any]) -> str:
    """The record of a run as a table in Markdown: each difference, and in brackets what may be chance."""
    lines = [
        "| engine | B | profiler: tok/s, ITL, TTFT | client | tok/s | ITL | TTFT | within the interval |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for load in record["loads"]:
        ours, allowed = of_points(load["points"]), asdict(interval(load["points"]))
        said = f"{ours.output_tokens_per_second:.0f}, {ours.itl_ms:.1f} ms, {ours.ttft_ms:.0f} ms"
        for client, figures in load["clients"].items():
            found = asdict(differences(load["points"], Figures(**figures)))
            cells = [f"{found[name]:+.1%} (±{allowed[name]:.1%})" for name in found]
            verdict = _verdict(load["points"], [name for name in found if abs(found[name]) <= allowed[name]])
            lines.append(
                f"| {load['engine']} | {load['batch_size']} | {said} | {client} | {' | '.join(cells)} | {verdict} |"
            )
    return "\n".join(lines)


def _verdict(points: Sequence[Mapping[str, Any]], within: Sequence[str]) -> str:
    """What agrees; nothing can be said where the profiler doubts itself."""
    if doubts := sorted({mark for point in points for mark in point.get("marks", ())}):
        return f"not known: the profiler's own points are marked {' and '.join(doubts)}"
    return "all" if len(within) == len(_NAMES) else ", ".join(_NAMES[name] for name in within) or "none"


_NAMES = {"output_tokens_per_second": "tok/s", "itl_ms": "ITL", "ttft_ms": "TTFT"}
