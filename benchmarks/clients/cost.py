"""What the load generator costs: the fraction of a core it takes at 10,000 generated tokens per second.

    python -m benchmarks.clients.cost [--json]

The light engine plays an engine of that speed in a process of its own, and streams every answer; the cost is this
process's CPU time, with the closed loop, the watched answers and the polling of metrics as in a profile. Goal: at most
0.15 of a core, on a machine that is idle otherwise.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from slm_runtime.engine_process import EngineProcess, Launch, start_engine
from slm_runtime.load import ClosedLoop
from slm_runtime.prompts import text_tokens
from slm_runtime.workload import Lengths, parse_lengths

TESTS = Path(__file__).parents[2] / "tests"
TOKENS_PER_SECOND = 10_000
BATCH_SIZE = 64
POLL_SECONDS = 0.5
CONFIG = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 50272,
    "max_position_embeddings": 8192,
}
WORKLOADS = (("161", "338"), ("lognormal:111,800", "lognormal:292,1000"), ("32", "64"))


async def cost(engine: EngineProcess, lengths: Lengths, seconds: float) -> dict[str, float | str | int]:
    """Fraction of a core over `seconds`, after the loop has opened."""
    async with ClosedLoop([engine.url], "m", lengths, text_tokens(CONFIG), seed=1) as loop:
        loop.start(BATCH_SIZE, None)
        while (await engine.counters()).ttft_count < BATCH_SIZE:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.1)
        loop.open_window(BATCH_SIZE / TOKENS_PER_SECOND)
        before = (await engine.counters()).output_tokens
        wall, cpu = time.monotonic(), time.process_time()
        while time.monotonic() - wall < seconds:
            await asyncio.sleep(POLL_SECONDS)
            now = await engine.counters()
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        rate = (now.output_tokens - before) / wall
        return {
            "workload": lengths.source,
            "output_tokens_per_second": round(rate),
            "core_fraction": round(cpu / wall, 4),
            "core_fraction_at_10000": round(cpu / wall * TOKENS_PER_SECOND / rate, 4),
            "watched_tokens": len(loop.sample.itl_ms),
            "errors": loop.errors,
        }


async def main(model: str, seconds: float) -> list[dict[str, float | str | int]]:
    """One measurement for each workload."""
    command = (sys.executable, "-m", "light_engine", "--model", model, "--served-model-name", "m")
    speed = {
        "LIGHT_ENGINE_STEP_MS": str(1000 * BATCH_SIZE / TOKENS_PER_SECOND),
        "LIGHT_ENGINE_SEQUENCE_MS": "0",
        "LIGHT_ENGINE_PREFILL_MS": "0",
    }
    environment = {"PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}", **speed}
    results = []
    for inputs, outputs in WORKLOADS:
        engine = await start_engine(Launch(command=command, environment=environment, timeout_seconds=30))
        try:
            results.append(await cost(engine, parse_lengths(inputs, outputs), seconds))
        finally:
            await engine.stop()
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of sentences")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(CONFIG))
        measured = asyncio.run(main(folder, given.seconds))
    if given.json:
        worst = max(m["core_fraction_at_10000"] for m in measured)
        print(json.dumps({"client_core_fraction_at_10000_tokens_per_second": worst, "runs": measured}))
    else:
        for m in measured:
            print(
                f"{m['workload']}: {m['core_fraction_at_10000']:.1%} of a core at 10,000 tokens/s "
                f"(measured at {m['output_tokens_per_second']}, {m['errors']} errors)"
            )
