"""An exhaustive sweep of one engine, for holding the search's choice against. Run by the engine's own Python.

    PYTHONPATH=runtime:core python sweep.py MODEL SIZE,SIZE,... WINDOW_SECONDS ENGINE_WORD...

Prints one JSON line per batch size: batchSize, throughputTokensPerSecond, throughputCiFraction, itlMeanMs.
"""

import asyncio
import json
import sys

from slm_core.configuration import EngineConfiguration
from slm_core.engines.registry import command_and_arguments
from slm_core.search.steps import Measure
from slm_runtime.launches import Subject
from slm_runtime.measuring import Conditions
from slm_runtime.rig import EngineRig
from slm_runtime.window import Pace
from slm_runtime.workload import parse_lengths


async def sweep(model: str, sizes: list[int], window_seconds: float, words: tuple[str, ...]) -> None:
    command, arguments = command_and_arguments(words)
    subject = Subject(model=model, served_name="sweep", command=command, arguments=arguments)
    conditions = Conditions(pace=Pace(max_seconds=window_seconds))
    rig = EngineRig(subject, parse_lengths("32", "128"), conditions, None, lambda _: None)
    try:
        await rig.start(EngineConfiguration(batch_size=max(sizes), max_num_batched_tokens=1024))
        for size in sizes:
            step = Measure(batch_size=size, in_flight=None, max_requests=None, min_samples=0, because="its turn")
            point = await rig.measure(step)
            line = {
                "batchSize": size,
                "throughputTokensPerSecond": point.throughput_tokens_per_second,
                "throughputCiFraction": point.throughput_ci_fraction,
                "itlMeanMs": point.itl_ms.mean_ms,
            }
            print(json.dumps(line), flush=True)
    finally:
        await rig.stop()


if __name__ == "__main__":
    model, sizes, seconds, *words = sys.argv[1:]
    asyncio.run(sweep(model, [int(size) for size in sizes.split(",")], float(seconds), tuple(words)))
