"""Closed loops of requests on one engine, one width after the other, and what its counters gained. Runs in a pod.

    PYTHONPATH=slm_runtime.pyz python3 closed_loop.py URL MODEL INPUT_TOKENS OUTPUT_TOKENS FIRST_ID LAST_ID WIDTH...

The loop, its window and its confidence interval are the profiler's own, so that what is seen differs from what was measured by
the engine alone. Prints a JSON line for each width. Needs the standard library and the runtime, whatever Python runs it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request
from dataclasses import asdict
from typing import Any

from slm_core.engines.registry import default
from slm_runtime.load import ClosedLoop
from slm_runtime.window import Pace, Scrape, facts, is_open, may_close
from slm_runtime.workload import parse_lengths

PACE = Pace(min_seconds=12.0)
REST_SECONDS = 0.2


async def scrape(url: str) -> Scrape:
    began = time.monotonic()
    page = await asyncio.to_thread(_page, f"{url}/metrics")
    return Scrape(at=(began + time.monotonic()) / 2, counters=default().read_counters(page))


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


async def window(url: str, loop: ClosedLoop, width: int, pace: Pace) -> list[Scrape]:
    """From when each place has its first token until the profiler would close it."""
    before = await scrape(url)
    loop.start(None, width)
    now = before
    # NB: of those that an engine has no room for, none gets its first token before another ends.
    while not is_open(now.counters, before.counters, width):
        await asyncio.sleep(pace.poll_seconds)
        now = await scrape(url)
    loop.open_window(0.0)
    seen = [await scrape(url)]
    while not may_close(seen, pace, None, enough_samples=True):
        await asyncio.sleep(pace.poll_seconds)
        seen.append(await scrape(url))
    return seen


async def rest(url: str) -> None:
    """Until what was abandoned has ended."""
    while (now := (await scrape(url)).counters).running or now.waiting:  # noqa: ASYNC110 - the engine tells nobody
        await asyncio.sleep(REST_SECONDS)


async def counted(url: str, made: ClosedLoop, width: int, pace: Pace) -> dict[str, Any]:
    """What the engine's counters were at both ends of a window; it rests before this is given."""
    async with made as loop:
        seen = await window(url, loop, width, pace)
        found, errors = facts(seen, loop.sample.core_fraction()), loop.errors
    await rest(url)
    return {
        "clients": width,
        "seconds": found.delta.seconds,
        "before": asdict(seen[0].counters),
        "after": asdict(seen[-1].counters),
        "ciFraction": found.ci_fraction,
        "errors": errors,
        "clientCoreFraction": round(found.client_core_fraction, 3),
    }


async def main(url: str, model: str, lengths: tuple[str, str], ids: range, widths: list[int]) -> None:
    for seed, width in enumerate(widths, time.time_ns()):
        loop = ClosedLoop([url], model, parse_lengths(*lengths), ids, seed)
        print(json.dumps(await counted(url, loop, width, PACE)), flush=True)


if __name__ == "__main__":
    url, model, inputs, outputs, first, last, *widths = sys.argv[1:]
    asyncio.run(main(url, model, (inputs, outputs), range(int(first), int(last)), [int(width) for width in widths]))
