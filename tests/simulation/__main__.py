"""Simulated runs by hand.

`python -m tests.simulation SEED` tells one, line by line, and how it ended; `python -m tests.simulation FIRST-LAST` plays
many on all cores and tells the first that broke a promise. `--besieged SEED` tells one beside an attacker.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial

from .attacker import live_beside, under_attack
from .many import play_in_parallel
from .objects import BrokenPromiseError
from .run import Cluster, drawn, live
from .situations import table


def tell(made: Cluster, play: Callable[[Cluster], None]) -> int:
    """One run."""
    broken = None
    try:
        play(made)
    except BrokenPromiseError as error:
        broken = f"broken: {error}"
    finally:  # a bug in the simulation itself is printed with what went before it
        print(*made.world.lines, "", sep="\n")
    print(broken or "every promise kept")
    return 1 if broken else 0


def tally(seeds: range) -> int:
    """Many runs."""
    began = time.perf_counter()
    played = play_in_parallel(seeds, os.cpu_count() or 1)
    print(f"{played} in {time.perf_counter() - began:.1f} s")
    print(table(played.met))
    print(played.broken or "every promise kept")
    return 1 if played.broken else 0


def seeds(text: str) -> range:
    """SEED, or FIRST-LAST. Raises ValueError."""
    first, _, last = text.partition("-")
    found = range(int(first), int(last or first) + 1)
    if not found:
        raise ValueError(text)
    return found


def main() -> int:
    """By how many seeds are given."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulated runs by hand.")
    parser.add_argument("seeds", type=seeds, metavar="SEED|FIRST-LAST", help="one is printed, many are tallied")
    parser.add_argument("--besieged", action="store_true", help="one beside an attacker (attacker.py)")
    asked = parser.parse_args()
    first: int = asked.seeds[0]
    if asked.besieged:
        return tell(under_attack(first, narrated=True), partial(live_beside, seed=first))
    return tell(drawn(first, narrated=True), live) if len(asked.seeds) == 1 else tally(asked.seeds)


if __name__ == "__main__":
    sys.exit(main())
