"""The process of one stage: `python -m benchmarks.gpu_stages.child STAGE JOB`, started by the conductor.

Exists so that a hang or a CUDA fault takes one stage and no other. Ended by SIGTERM, it stops what it runs first; what
is left of its descendants then is killed. Must never outlive the conductor.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from slm_core.failure import EngineFault, ProfileError
from slm_runtime import processes

from benchmarks.gpu_stages import family
from benchmarks.gpu_stages.job import Job, Unfinished
from benchmarks.gpu_stages.machine import Kind
from benchmarks.gpu_stages.table import STAGES, Stage

ENDED = 128 + signal.SIGTERM


def main() -> int:
    """Run the stage. Returns the exit status."""
    name, reported = sys.argv[1:]
    stage = next(one for one in STAGES if one.name == name)
    words = json.loads(reported)
    job = Job(**words | {"kind": Kind(words["kind"]), "engine": tuple(words["engine"])})
    if stage.uid is not None:
        family.become_ordinary(stage.uid)
    processes.adopt_orphans()
    processes.end_with_parent(job.parent)
    because = None
    try:
        asyncio.run(_run(stage, job))
    except asyncio.CancelledError:
        return ENDED
    except (Unfinished, ProfileError, EngineFault) as error:
        because = str(error)
    finally:
        processes.end_descendants(os.getpid())
    job.end(because)
    return 0


async def _run(stage: Stage, job: Job) -> None:
    running = asyncio.ensure_future(stage.run(job))
    # Once: a second cancellation would interrupt the clean-up that the first has begun. SIGKILL always can.
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: (running.cancel(), loop.remove_signal_handler(signal.SIGTERM)))
    await running


if __name__ == "__main__":
    sys.exit(main())
