"""AIPerf and GuideLLM against the profiler: one engine, the same concurrency, the same lengths, streamed by all.

    make record clients                          # both engines
    python -m benchmarks.clients --engine light  # one of them: light, or vllm (the real one on CPU)

The profiler takes a point before, between and after the others' runs, so its own spread on this machine is known. The
engine has half of the cores to itself, and whoever loads it the others: a client of many processes slows no engine. The
others take the first event *with text* for the first token, so the model is held to letters. The clients get an
environment of their own in the cache: they need packages that the product must not. Figures that differ are kept as
they are; docs/concepts/memory-gap.md says why they do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import hashlib
import json
import math
import os
import shlex
import signal
import string
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slm_core.codec import to_json
from slm_core.configuration import EngineConfiguration
from slm_core.search.steps import Measure
from slm_runtime.engine_process import EngineProcess, Launch, start_engine
from slm_runtime.ledger import read_config
from slm_runtime.measuring import Conditions, Measurement, Running
from slm_runtime.prompts import text_tokens
from slm_runtime.window import Pace
from slm_runtime.workload import parse_lengths

from benchmarks.clients.compared import Figures, of_result, table
from tests.testbed.engine_cpu import CPU_ENV, cache, serve_command
from tests.testbed.tiny_model import tiny_model

ROOT = Path(__file__).parents[2]
CLIENTS = ("aiperf==0.13.0", "guidellm==0.8.1")
INPUT_TOKENS, OUTPUT_TOKENS, OUTPUT_DEVIATION = 161, 64, 18
"""Answers differ in length, as anybody's do. NB: equal ones come in waves, all prompts in one step and none between."""
CORES = sorted(os.sched_getaffinity(0))
ENGINES, LOADERS = CORES[: len(CORES) // 2], CORES[len(CORES) // 2 :]
LONGEST_SECONDS = 30
"""Of a profiler's window."""


@dataclass(frozen=True, slots=True)
class Server:
    """An engine to compare on."""

    command: tuple[str, ...]
    environment: dict[str, str]
    rounds: int
    """How often each place of the loop is filled: a client's start and end count in its means."""


def servers() -> dict[str, Server]:
    """The light engine, whose law is known (ITL = 40 ms + 0.5 ms for each sequence), and the real one."""
    model, limits = str(tiny_model()), ("--max-model-len", "512", "--served-model-name", "m", "--max-num-seqs", "16")
    return {
        "light": Server(
            (sys.executable, "-m", "light_engine", model, *limits),
            {"PYTHONPATH": str(ROOT / "tests"), "LIGHT_ENGINE_STEP_MS": "40", "LIGHT_ENGINE_SEQUENCE_MS": "0.5"},
            rounds=12,
        ),
        "vllm": Server(
            (*serve_command(), model, *limits, "--enforce-eager", "--kv-cache-memory-bytes", "256M"),
            CPU_ENV,
            rounds=40,
        ),
    }


def clients() -> Path:
    """The environment of the two clients, installed on first use (6 GB, a few minutes)."""
    folder = cache() / "clients" / hashlib.sha256(repr(CLIENTS).encode()).hexdigest()[:12]
    ready = folder.with_suffix(".ready")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not ready.exists():
            uv = cache() / "uv/bin/uv"
            for words in (["venv", "--clear", folder], ["pip", "install", "--python", folder / "bin/python", *CLIENTS]):
                subprocess.run([uv, "--quiet", *words], check=True)
            ready.touch()
    return folder / "bin"


def letters() -> list[int]:
    """Ids of the tokens whose text comes with their own event: of random weights half of the tokens have none."""
    vocabulary = json.loads((tiny_model() / "tokenizer.json").read_text())["model"]["vocab"]
    return sorted(number for token, number in vocabulary.items() if len(token) == 1 and token in string.ascii_letters)


def aiperf(url: str, batch_size: int, requests: int, folder: Path) -> tuple[list[str], Path]:
    """Its command, and the file that it leaves."""
    words = f"""profile --model m --url {url} --endpoint-type completions --streaming --tokenizer {tiny_model()}
        --concurrency {batch_size} --request-count {requests} --isl {INPUT_TOKENS} --isl-stddev 0 --osl {OUTPUT_TOKENS} --osl-stddev {OUTPUT_DEVIATION}
        --use-legacy-max-tokens --use-server-token-count --ui-type none
        --no-gpu-telemetry --no-server-metrics --output-artifact-dir {folder}"""
    extra = json.dumps({"ignore_eos": True, "allowed_token_ids": letters()})
    return ["aiperf", *words.split(), "--extra-inputs", extra], folder / "profile_export_aiperf.json"


def guidellm(url: str, batch_size: int, requests: int, folder: Path) -> tuple[list[str], Path]:
    """Its command, and the file that it leaves."""
    path = folder / "guidellm.json"
    backend = {"kind": "openai_http", "target": url, "model": "m", "request_format": "/v1/completions"}
    backend["extras"] = {"body": {"allowed_token_ids": letters()}}
    words = f"""--profile kind=concurrent,streams={batch_size} --constraint kind=max_requests,count={requests}
        --tokenizer kind=huggingface_auto,model={tiny_model()} --output kind=json,path={path}
        --data kind=synthetic_text,prompt_tokens={INPUT_TOKENS},output_tokens={OUTPUT_TOKENS},output_tokens_stdev={OUTPUT_DEVIATION}
        --disable-console"""
    return ["guidellm", "run", "--backend", json.dumps(backend), *words.split()], path


async def ask(made: tuple[list[str], Path]) -> Figures:
    """Run a client to its end and read its figures. Raises RuntimeError with its last words."""
    (program, *words), path = made
    print("  " + shlex.join([program, *words]), flush=True)
    process = await asyncio.create_subprocess_exec(
        clients() / program,
        *words,
        cwd=path.parent,
        env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):  # whatever it has left running
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode or not path.exists():
        raise RuntimeError(f"{program}: exit status {process.returncode}: {said[-2000:].decode(errors='replace')}")
    return of_result(path.name, json.loads(path.read_text()))


async def point(engine: EngineProcess, batch_size: int, seed: int) -> dict[str, Any]:
    """The profiler's own, as a document has it."""
    spread = round(math.sqrt(3) * OUTPUT_DEVIATION)
    running = Running(
        engines=(engine,),
        on=EngineConfiguration(batch_size=batch_size, max_num_batched_tokens=2048),
        kv_pool_bytes=0,
        served_name="m",
        tokens=text_tokens(read_config(str(tiny_model()))),
        lengths=parse_lengths(str(INPUT_TOKENS), f"uniform:{OUTPUT_TOKENS - spread},{OUTPUT_TOKENS + spread}"),
        device=None,
    )
    step = Measure(batch_size=batch_size, in_flight=None, max_requests=None, min_samples=0, because="compared")
    taken = await Measurement(
        running, step, Conditions(pace=Pace(min_seconds=15, max_seconds=LONGEST_SECONDS)), seed
    ).take()
    made: dict[str, Any] = to_json(taken)
    return made


async def compare(name: str, server: Server, batch_size: int) -> dict[str, Any]:
    """One load: the profiler three times, and between them the others."""
    print(f"{name}, B = {batch_size}", flush=True)
    requests, seen = batch_size * server.rounds, {}
    command = ("taskset", "--cpu-list", ",".join(map(str, ENGINES)), *server.command)
    engine = await start_engine(Launch(command=command, environment=server.environment))
    try:
        points = [await point(engine, batch_size, seed=1)]
        for seed, client, made in ((2, "AIPerf", aiperf), (3, "GuideLLM", guidellm)):
            with tempfile.TemporaryDirectory() as folder:
                seen[client] = asdict(await ask(made(engine.url, batch_size, requests, Path(folder))))
            points.append(await point(engine, batch_size, seed))
    finally:
        await engine.stop()
    return {"engine": name, "batch_size": batch_size, "requests": requests, "points": points, "clients": seen}


def compare_all(names: list[str], batch_sizes: list[int], record: Path | None) -> None:
    """Print each load's table as it comes, and keep what there is by then."""
    lengths = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, "output_deviation": OUTPUT_DEVIATION}
    loads: list[dict[str, Any]] = []
    for name in names:
        for size in batch_sizes:
            loads.append(asyncio.run(compare(name, servers()[name], size)))
            print(table({"loads": loads[-1:]}), flush=True)
            if record:
                record.write_text(json.dumps({"clients": list(CLIENTS), **lengths, "loads": loads}, indent=1) + "\n")


def main() -> None:
    """Compare, print the table, and keep the figures where a record is made."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clients", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=list(servers()), action="append", help="default: all")
    parser.add_argument("--batch-size", type=int, action="append", help="default: 8")
    asked = parser.parse_args()
    record = os.environ.get("SLM_RECORD")
    os.sched_setaffinity(0, LOADERS)
    compare_all(asked.engine or list(servers()), asked.batch_size or [8], Path(record) if record else None)


if __name__ == "__main__":
    main()
