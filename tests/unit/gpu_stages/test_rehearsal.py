"""The whole of `benchmarks/gpu.py` with the real vLLM and the mock NVML: interrupted, resumed, complete.

    make record gpu-rehearsal

Some minutes, a dozen starts of the engine, so it is recorded and no part of `make test`. What it measures is kept in
`benchmarks/results/gpu-rehearsal.json`: figures of two cores, which say that everything runs, and nothing of any GPU.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.gpu_stages.table import STAGES
from tests.testbed.engine_cpu import CPU_ENV, serve_command
from tests.unit.gpu_stages.conftest import ROOT, Bench

LIMITS = ("--max-model-len", "512", "--enforce-eager", "--gpu-memory-utilization", "0.1")
"""NB: on CPU the engine would take most of the machine for its KV pool, and minutes to compile."""
TRIES = 3
"""A stage may not fit into its time beside other work on this machine."""

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(7200),
    pytest.mark.record,
]


def run(bench: Bench, *, interrupted_at: str | None = None) -> int:
    """One run, ended by SIGINT at the first line that begins so. Returns its exit status."""
    words = [sys.executable, "benchmarks/gpu.py", "--minutes", "40", "--resume", str(bench.results), "--"]
    command = [*words, *serve_command(), *LIMITS]
    environment = bench.environment | CPU_ENV
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as going:
        assert going.stdout
        for line in going.stdout:
            print(line, end="", flush=True)
            if interrupted_at and line.startswith(interrupted_at):
                going.send_signal(signal.SIGINT)
    return going.returncode


def test_a_run_is_interrupted_resumed_and_complete(bench: Bench, device: dict[str, str], tmp_path: Path) -> None:
    # Without the mock libcuda, which the real engine would believe in, and without MPS.
    (tmp_path / "nvml").mkdir()
    library = tmp_path / "nvml" / "libnvidia-ml.so.1"
    library.write_bytes((Path(device["LD_LIBRARY_PATH"]) / library.name).read_bytes())
    bench.environment |= {"LD_LIBRARY_PATH": str(library.parent)}
    assert run(bench, interrupted_at="  points") == 128 + signal.SIGINT
    assert bench.found("mps").complete
    interrupted = bench.found("packs")
    assert interrupted.incomplete_because == "interrupted by SIGINT"
    assert len(interrupted.figures["points"]) >= 1
    assert bench.left_behind() == []
    tries = [run(bench) for _ in range(TRIES) if not all(bench.is_complete(stage.name) for stage in STAGES)]
    assert tries[-1] == 0
    found = {stage.name: bench.found(stage.name) for stage in STAGES}
    assert {one.machine["kind"] for one in found.values()} == {"mock"}
    for name in ("packs", "modern", "slicing"):
        assert found[name].figures["engine"] == {"name": "vllm", "version": "0.32.0"}
        assert len(found[name].figures["points"]) >= 2
    assert found["decode"].figures["all_watched"]["errors"] == 0
    assert bench.left_behind() == []
    kept = {"interrupted": asdict(interrupted), **{name: asdict(one) for name, one in found.items()}}
    Path(os.environ["SLM_RECORD"]).write_text(json.dumps(kept, indent=1) + "\n")
