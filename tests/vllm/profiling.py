"""The profiler under the engine's own Python, as in a profile Job, and an exhaustive sweep beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_core.codec import parse_document

from tests.testbed.engine_cpu import CPU_ENV, python, serve_command
from tests.testbed.tiny_model import tiny_model

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument

ROOT = Path(__file__).parents[2]
ENGINE = ["--enforce-eager"]
STOP_SECONDS = 60
SOURCES = f"{ROOT / 'runtime'}:{ROOT / 'core'}"
"""What scripts under the engine's own Python import of ours."""
ENGINE_LIMITS = ("--max-model-len", "512", "--dtype", "bfloat16")
QUESTION = [
    *("--input-tokens", "32", "--output-tokens", "128", "--slo-itl-factor", "2", "--max-batch-size", "128"),
    *("--max-num-batched-tokens", "1024", "--max-window-seconds", "12", "--max-gpu-minutes", "30"),
]


@dataclass(frozen=True, slots=True)
class Run:
    """What one profile said."""

    status: int
    events: list[dict[str, object]]

    @property
    def document(self) -> MeasurementDocument:
        return parse_document(next(e["document"] for e in self.events if e["event"] == "result"))

    @property
    def failed(self) -> dict[str, object]:
        return next(e for e in self.events if e["event"] == "failed")


def profile(runtime: Path, model: Path, *words: str, engine: tuple[str, ...] = ()) -> Run:
    command = [str(python()), str(runtime), "profile", "--model", str(model), *QUESTION, *words]
    command += ["--", *serve_command(), *ENGINE, *engine]
    done = subprocess.run(command, env=os.environ | CPU_ENV, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr[-3000:]
    return Run(done.returncode, [json.loads(line) for line in done.stdout.splitlines()])


@dataclass(frozen=True, slots=True)
class Swept:
    """One step of an exhaustive sweep; tokens per second."""

    batch_size: int
    throughput: float
    ci_fraction: float
    itl_ms: float


def exhaustive_sweep(sizes: tuple[int, ...]) -> list[Swept]:
    """One engine at every size, in this order, by `sweep.py`."""
    asked = ",".join(map(str, sizes))
    words = [str(python()), str(Path(__file__).with_name("sweep.py")), str(tiny_model()), asked, "12"]
    env = os.environ | CPU_ENV | {"PYTHONPATH": SOURCES}
    said = lines_of([*words, *serve_command(), *ENGINE, *ENGINE_LIMITS], env)
    return [
        Swept(p["batchSize"], p["throughputTokensPerSecond"], p["throughputCiFraction"] or 0.0, p["itlMeanMs"])
        for p in said
    ]


def lines_of(command: list[str], env: dict[str, str]) -> list[dict[str, Any]]:
    """The JSON lines that a script of engines prints.

    NB: `subprocess.run` kills it a quarter of a second after Ctrl-C, and its engines stay. It is interrupted once, by us, and waited for.
    """
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True) as script:
        assert script.stdout is not None
        try:
            found = [json.loads(line) for line in script.stdout]
        except BaseException:
            script.send_signal(signal.SIGINT)
            script.wait(STOP_SECONDS)
            raise
    assert script.returncode == 0, f"{command[1]}: exit status {script.returncode}"
    return found
