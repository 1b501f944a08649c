"""Time of one plan of the whole fleet at rest, against its size: what a pass over everything costs when one thing changed.

    python -m benchmarks.scale.plan [--json]

The fleet of tests/unit/planning/test_fleet_growth.py, where calls are counted: of three nodes one is partitioned for 16 co-tenants,
one gives four whole GPUs, one is idle. Processor time, the better of two passes.
"""

import argparse
import json
import time

from slm_operator.planning.fleet.plan import plan_fleet

from tests import builders as build
from tests.unit.planning.test_fleet_growth import world

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
