"""`python -m tests.suite [STAGE...]`: every stage of `make test`, or the named ones."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from .runner import run_all, say
from .stages import LANES
from .summary import busy_seconds, summary


def main() -> int:
    """Run them; exit status 0 where all passed, 1 where one failed."""
    known = [stage.name for lane in LANES.values() for stage in lane]
    parser = argparse.ArgumentParser(prog="python -m tests.suite", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(known)}; all when none is named")
    wanted = parser.parse_args().stages or known
    if unknown := sorted(set(wanted) - set(known)):
        parser.error(f"no stage named {', '.join(unknown)}; known are {', '.join(known)}")
    began, busy = time.monotonic(), busy_seconds()
    run = asyncio.run(run_all([[one for one in lane if one.name in wanted] for lane in LANES.values()], say))
    for line in summary(run.outcomes, (time.monotonic() - began) / 60, (busy_seconds() - busy) / 60):
        print(line, flush=True)
    return 0 if run.outcomes and all(one.ok for one in run.outcomes) and len(run.outcomes) == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
