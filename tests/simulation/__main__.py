"""Simulated runs by hand.

`python -m tests.simulation SEED` tells one, line by line, and how it ended; `python -m tests.simulation FIRST-LAST` plays
many on all cores and tells the first that broke a promise.
"""

import os
import sys
import time

from . import run as running
from .many import play_in_parallel
from .objects import BrokenPromiseError
from .world import World


def tell(seed: int) -> int:
    """One run."""
    told: list[str] = []
    World.tell = lambda self, who, what: told.append(f"{self.now:6.0f}s  {who:10} {what}")  # type: ignore[method-assign]
    end = "every promise kept"
    try:
        running.run(seed)
    except BrokenPromiseError as error:
        end = f"broken: {error}"
    print(*told, "", end, sep="\n")
    return 0 if end == "every promise kept" else 1


def tally(seeds: range) -> int:
    """Many runs."""
    began = time.perf_counter()
    played = play_in_parallel(seeds, os.cpu_count() or 1)
    print(f"{played} in {time.perf_counter() - began:.1f} s")
    print(played.broken or "every promise kept")
    return 1 if played.broken else 0


def main() -> int:
    """By the form of the argument."""
    first, _, last = sys.argv[1].partition("-")
    return tally(range(int(first), int(last) + 1)) if last else tell(int(first))


if __name__ == "__main__":
    sys.exit(main())
