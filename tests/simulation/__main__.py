"""Simulated runs by hand.

`python -m tests.simulation SEED` tells one, line by line, and how it ended; `python -m tests.simulation FIRST-LAST` plays
many on all cores and tells the first that broke a promise.
"""

import argparse
import os
import sys
import time

from .many import play_in_parallel
from .objects import BrokenPromiseError
from .run import drawn, live


def tell(seed: int) -> int:
    """One run."""
    made = drawn(seed, narrated=True)
    broken = None
    try:
        live(made)
    except BrokenPromiseError as error:
        broken = f"broken: {error}"
    finally:  # a bug in the simulation itself is told with what went before it
        print(*made.world.told, "", sep="\n")
    print(broken or "every promise kept")
    return 1 if broken else 0


def tally(seeds: range) -> int:
    """Many runs."""
    began = time.perf_counter()
    played = play_in_parallel(seeds, os.cpu_count() or 1)
    print(f"{played} in {time.perf_counter() - began:.1f} s")
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
    parser.add_argument("seeds", type=seeds, metavar="SEED|FIRST-LAST", help="one is told, many are tallied")
    asked = parser.parse_args().seeds
    return tell(asked[0]) if len(asked) == 1 else tally(asked)


if __name__ == "__main__":
    sys.exit(main())
