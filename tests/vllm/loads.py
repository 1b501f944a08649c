"""One engine as a profile measures it, and two that serve, at several loads. Run by the engines' own Python.

    PYTHONPATH=runtime:core:tests/e2e python loads.py MODEL CYCLES SEED KNOT... BATCH:CLIENTS... -- ENGINE_WORD...

All of them run for as long as it takes, one of them is loaded at a time. In each cycle every load has its turn, in an order that is
drawn: a machine that is slower for a minute is so for any of them. Prints a JSON line for each turn: a point of the profiler, or the
counters at both ends of a window.
"""

import asyncio
import json
import random
import sys
from dataclasses import dataclass

from closed_loop import counted
from slm_core.codec import to_json
from slm_core.configuration import EngineConfiguration
from slm_core.engines.registry import command_and_arguments
from slm_core.search.steps import Measure
from slm_core.search.sweep import SINGLE_SEQUENCE_REQUESTS
from slm_runtime.launches import Subject
from slm_runtime.ledger import read_config
from slm_runtime.load import ClosedLoop
from slm_runtime.measuring import Conditions
from slm_runtime.prompts import text_tokens
from slm_runtime.rig import EngineRig
from slm_runtime.window import Pace
from slm_runtime.workload import parse_lengths

NAME = "loads"
PACE = Pace(min_seconds=2.0, max_seconds=3.0)
"""Many short windows: what the machine does otherwise lasts longer than any of them, and the middle one has little of it."""
LENGTHS = parse_lengths("32", "48")


@dataclass(frozen=True, slots=True)
class Knot:
    """A point of the profiler."""

    size: int


@dataclass(frozen=True, slots=True)
class Load:
    """So many clients of the engine with this batch."""

    batch_size: int
    clients: int


def made(model: str, words: tuple[str, ...]) -> EngineRig:
    command, arguments = command_and_arguments(words)
    subject = Subject(model=model, served_name=NAME, command=command, arguments=arguments)
    return EngineRig(subject, LENGTHS, Conditions(pace=PACE), None, lambda _: None)


async def knot(rig: EngineRig, size: int) -> dict[str, object]:
    """As the search asks for it."""
    few = SINGLE_SEQUENCE_REQUESTS if size == 1 else None
    step = Measure(batch_size=size, in_flight=None, max_requests=few, min_samples=0, because="its turn")
    return {"point": to_json(await rig.measure(step))}


async def load(rig: EngineRig, size: Load, ids: tuple[int, ...], seed: int) -> dict[str, object]:
    (engine,) = rig._engines
    loop = ClosedLoop([engine.url], NAME, LENGTHS, ids, seed)
    return {"batchSize": size.batch_size, "window": await counted(engine.url, loop, size.clients, PACE)}


async def main(model: str, words: tuple[str, ...], cycles: int, drawn: random.Random, turns: list[Knot | Load]) -> None:
    ids = text_tokens(read_config(model))
    largest = {0: max(turn.size for turn in turns if isinstance(turn, Knot))}
    largest |= {turn.batch_size: turn.batch_size for turn in turns if isinstance(turn, Load)}
    rigs = {batch: made(model, words) for batch in largest}
    try:
        for batch, rig in rigs.items():
            await rig.start(EngineConfiguration(batch_size=largest[batch], max_num_batched_tokens=1024))
        for cycle, turn in ((cycle, turn) for cycle in range(cycles) for turn in drawn.sample(turns, len(turns))):
            if isinstance(turn, Knot):
                found = await knot(rigs[0], turn.size)
            else:
                found = await load(rigs[turn.batch_size], turn, ids, drawn.getrandbits(32))
            print(json.dumps({"cycle": cycle} | found), flush=True)
    finally:
        for rig in rigs.values():
            await rig.stop()


if __name__ == "__main__":
    own, words = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    model, cycles, seed, *asked = own
    turns = [Load(*map(int, one.split(":"))) if ":" in one else Knot(int(one)) for one in asked]
    asyncio.run(main(model, tuple(words), int(cycles), random.Random(int(seed)), turns))
