"""A thousand deployments on a real control plane: how long until all are settled, and what it costs.

    python -m benchmarks.scale --deployments 1000 --nodes 300 --json      one size, figures on stdout
    python -m benchmarks.scale --sweep                                    100, 300 and 1000: benchmarks/results/scale.*

In a sweep foreign pods grow with the deployments, up to --pods, and the smaller sizes are watched at rest for a minute at most.
Each size has a control plane of its own. `run.py` says what is real and what is played, `floor.py` what the
floor is, `results.py` how figures are shown. `make generate` takes them into docs/reference/performance.md.
"""

import argparse
import contextlib
import json
import shlex
import sys
from typing import Any

from benchmarks.scale.results import write_results
from benchmarks.scale.run import Load, Run
from tests.testbed.control_plane import control_plane

SIZES = (100, 300, 1000)
COMMAND = ["python", "-m", "benchmarks.scale"]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--deployments", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=300)
    parser.add_argument("--pods", type=int, default=10_000, help="foreign pods in the cluster when start is measured")
    parser.add_argument("--idle-seconds", type=float, default=60)
    parser.add_argument("--changes", type=int, default=150, help="single edits at rest")
    parser.add_argument("--no-floor", action="store_true", help="leave the bare client out")
    parser.add_argument("--sweep", action="store_true", help="several sizes, into benchmarks/results/")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="of a sweep (default: 100 300 1000)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.sweep:
        runs: list[dict[str, Any]] = []
        largest = max(arguments.sizes)
        for size in arguments.sizes:
            idle = arguments.idle_seconds if size == largest else min(60.0, arguments.idle_seconds)
            runs.append(measured(size, arguments, arguments.pods * size // largest, idle))
            # After each: what was measured stays, whatever ends the next.
            write_results(shlex.join(COMMAND + sys.argv[1:]), runs)
        return
    figures = measured(arguments.deployments, arguments, arguments.pods, arguments.idle_seconds)
    if arguments.json:
        print(json.dumps(figures, indent=1))
    else:
        print(*(f"{name:24} {value}" for name, value in figures.items()), sep="\n")


def measured(deployments: int, arguments: argparse.Namespace, pods: int, idle_seconds: float) -> dict[str, Any]:
    """The figures of one size, on a control plane of its own."""
    load = Load(
        deployments=deployments,
        nodes=arguments.nodes,
        pods=pods,
        changes=arguments.changes,
        idle_seconds=idle_seconds,
        floor=not arguments.no_floor,
    )
    with contextlib.redirect_stdout(sys.stderr), control_plane() as plane:
        return Run(plane, load).measure()


if __name__ == "__main__":
    main()
