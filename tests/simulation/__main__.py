"""`python -m tests.simulation SEED` tells one random run, line by line, and how it ended."""

import sys

from . import run as running
from .objects import BrokenPromiseError
from .world import World


def main() -> int:
    """Tell the run of a seed."""
    told: list[str] = []
    World.tell = lambda self, who, what: told.append(f"{self.now:6.0f}s  {who:10} {what}")  # type: ignore[method-assign]
    try:
        made = running.run(int(sys.argv[1]))
    except BrokenPromiseError as error:
        print("\n".join(told), f"\nbroken: {error}", sep="\n")
        return 1
    print("\n".join(sorted([*told, *made.people.said])), "\nevery promise kept", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
