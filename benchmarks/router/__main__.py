"""The candidates against every point, what each costs, and how evenly it loads: tables, and $SLM_RECORD for the figures."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.router.balance import balances
from benchmarks.router.candidates import HAProxy, VllmRouter
from benchmarks.router.load import costs
from benchmarks.router.points import POINTS, seen
from benchmarks.router.results import lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.router.candidates import Candidate

KEPT_CONNECTIONS = HAProxy(
    name="haproxy, kept connections",
    edit=lambda text: text.replace("option http-server-close", "option http-keep-alive"),
)
"""Not what the product does: what its own connection for each request costs."""


async def compare(candidates: Sequence[Candidate], costing: Sequence[Candidate]) -> dict[str, Any]:
    """All figures."""
    points: dict[str, Any] = {}
    for candidate in candidates:
        for point in POINTS:
            found = await seen(candidate, point)
            points.setdefault(candidate.name, {})[point] = asdict(found)
            print(f"{candidate.name}: {point}: {'kept' if found.kept else 'MISSED'}: {found.saw}", flush=True)
    even = [one for one in costing if one is not KEPT_CONNECTIONS]
    return {"points": points, "cost": await costs(list(costing)), "balance": await balances(even)}


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.router", description=__doc__)
    parser.add_argument("--only", choices=("haproxy", "vllm-router"), help="one candidate; both when none is named")
    only = parser.parse_args().only
    judged = (HAProxy(), VllmRouter(), VllmRouter(name="vllm-router, retries", retries=True))
    costing = (HAProxy(), KEPT_CONNECTIONS, VllmRouter())
    judged_ones, costing_ones = (
        [one for one in those if only is None or one.name.startswith(only)] for those in (judged, costing)
    )
    found = asyncio.run(compare(judged_ones, costing_ones))
    print("\n".join(["", *lines(found)]))
    if record := os.environ.get("SLM_RECORD"):
        Path(record).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
