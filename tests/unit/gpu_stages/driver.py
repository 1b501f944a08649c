"""A run of `benchmarks/gpu.py` whose fate is given beforehand: `python -m tests.unit.gpu_stages.driver RESULTS JSON ENGINE_WORD...`

The JSON maps the beginning of a line that the run prints to what happens then, once: `over` ends its minutes, `kill` kills
the stage's process. So an end meets a stage at a known place, however slow the machine is.
"""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

from slm_runtime import processes

from benchmarks.gpu_stages.conductor import Asked, Conductor


class Fate:
    def __init__(self, what: dict[str, str]) -> None:
        self._what = what
        self._ahead = 0.0

    def now(self) -> float:
        return time.monotonic() + self._ahead

    def say(self, line: str) -> None:
        print(line, flush=True)
        for beginning in [one for one in self._what if line.startswith(one)]:
            getattr(self, self._what.pop(beginning))()

    def over(self) -> None:
        self._ahead = 3600.0

    def kill(self) -> None:
        for pid in processes.descendants(os.getpid()):
            if b"gpu_stages.child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    results, reported, *engine = sys.argv[1:]
    fate = Fate(json.loads(reported))
    asked = Asked(minutes=10, results=Path(results), engine=tuple(engine))
    sys.exit(asyncio.run(Conductor(asked, fate.say, fate.now).run()))
