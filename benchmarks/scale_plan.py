"""Time of one plan of the whole fleet at rest, against its size: what a pass over everything costs when one thing changed.

    python benchmarks/scale_plan.py [--json]

The fleet of tests/unit/planning/test_fleet_growth.py, where calls are counted: of three nodes one is partitioned for 16 co-tenants,
one gives four whole GPUs, one is idle. Processor time, the better of two passes.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from slm_operator.planning.fleet.plan import plan_fleet  # noqa: E402 - what is imported from the repository follows its path

from tests import builders as build  # noqa: E402
from tests.unit.planning.test_fleet_growth import world  # noqa: E402

SCALES = (10, 100, 1000, 3333)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [row(scale) for scale in SCALES]
    if arguments.json:
        print(json.dumps(rows))
        return
    for one in rows:
        print(f"{one['nodes']:>7,} nodes {one['deployments']:>7,} deployments {one['plan_ms']:>9,} ms")


def row(scale: int) -> dict[str, float]:
    """One size."""
    view = world(scale, running=True)
    took = []
    for _ in range(2):
        began = time.process_time()
        plan_fleet(view, build.SETTINGS, build.NOW)
        took.append(time.process_time() - began)
    return {"nodes": len(view.nodes), "deployments": len(view.demands), "plan_ms": round(1000 * min(took), 1)}


if __name__ == "__main__":
    main()
