"""The time, the files and the processes of a run: whatever ends it, the record says so and nothing is left."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu_stages import record
from benchmarks.gpu_stages.table import STAGES
from tests.mock_device import LIGHT
from tests.unit.gpu_stages.conftest import CPU, NEVER_HEALTHY, ROOT, Bench, a_record

pytestmark = pytest.mark.slow
NAMES = [stage.name for stage in STAGES]
COMMAND = (sys.executable, str(ROOT / "benchmarks/gpu.py"))
MOCK = CPU | {"kind": "mock", "product": "Mock-GPU-8GB", "memory_bytes": 8 * 2**30}


@pytest.mark.parametrize("stage", NAMES)
def test_the_minutes_end_in_any_stage(bench: Bench, device: dict[str, str], stage: str) -> None:
    bench.have(*NAMES[: NAMES.index(stage)], machine=MOCK)
    reached = "  plain_client" if stage == "mps" else "  model"
    assert bench.run({reached: "over"}, **device, **NEVER_HEALTHY) == 1
    kept = bench.found(stage)
    assert not kept.complete
    assert kept.incomplete_because
    assert "s were over" in kept.incomplete_because
    assert kept.figures  # what was measured until then
    assert [name for name in NAMES if record.read(bench.results, name)] == NAMES[: NAMES.index(stage) + 1]
    assert bench.left_behind() == []


def test_a_stage_that_dies_takes_no_other(bench: Bench) -> None:
    """Its engine ignores SIGTERM and has lost its parent: only the conductor can still end it."""
    bench.have("mps", "packs", "serve")
    fate = {"  ledger_with_graphs": "kill", "modern:": "over"}
    assert bench.run(fate, LIGHT_ENGINE_FAULT="ignores-sigterm") == 1
    assert bench.found("decode").incomplete_because == "it ended with status -9: it printed nothing"
    assert "ledger_with_graphs" in bench.found("decode").figures
    assert not bench.found("modern").complete
    assert bench.left_behind() == []


def test_a_signal_ends_all_and_is_reported(bench: Bench) -> None:
    bench.have("mps")
    command = [*COMMAND, "--resume", str(bench.results), "--", *LIGHT]
    with subprocess.Popen(command, env=bench.environment | NEVER_HEALTHY, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        for line in run.stdout:
            if line.startswith("  model"):
                run.send_signal(signal.SIGTERM)
        assert run.wait() == 128 + signal.SIGTERM
    assert bench.found("packs").incomplete_because == "interrupted by SIGTERM"
    assert record.read(bench.results, "decode") is None
    assert bench.left_behind() == []


def test_a_signal_while_the_machine_is_asked_ends_all(bench: Bench, device: dict[str, str]) -> None:
    hangs = bench.environment | device | {"MOCK_CUDA_HANGS": "1"}
    with subprocess.Popen([*COMMAND, "--resume", str(bench.results), "--", *LIGHT], env=hangs) as run:
        while not any("cuda_client" in one for one in bench.left_behind()):
            assert run.poll() is None
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        assert run.wait() == 128 + signal.SIGINT
    assert list(bench.results.iterdir()) == []
    assert bench.left_behind() == []


def test_resumed_complete_stages_stay_and_the_rest_is_measured(bench: Bench) -> None:
    bench.have_all_but("decode")
    record.keep(bench.results, a_record("decode", figures={"model": "of the first try"}))
    before = {path: path.read_bytes() for path in bench.results.glob("*.json") if path.stem != "decode"}
    assert bench.run() == 0, bench.said
    assert {path: path.read_bytes() for path in before} == before
    decode = bench.found("decode")
    assert decode.complete
    assert decode.machine["kind"] == "cpu"
    assert decode.figures["all_watched"]["watched"]
    assert decode.figures["on_1_cpus"]["engine_cores"] <= 1.05
    assert decode.figures["board_at_16"]["errors"] == 0
    assert decode.figures["board_at_16"]["readings"] == 0  # no board, no figure of one
    assert decode.figures["ledger_eager"]["weights_bytes"] == 512 * 2**20
    assert bench.left_behind() == []


def test_results_of_another_machine_are_not_gone_on_with(bench: Bench) -> None:
    record.keep(bench.results, a_record("mps", machine=CPU | {"kind": "gpu", "product": "NVIDIA-H200"}))
    command = [*COMMAND, "--resume", str(bench.results), "--", *LIGHT]
    done = subprocess.run(command, cwd=ROOT, env=bench.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "gpu.py: error: mps.json is of another machine (NVIDIA-H200): name another folder",
    )
    assert bench.left_behind() == []


@pytest.mark.parametrize("minutes", ["0", "nan"])
def test_minutes_that_are_none_are_refused(minutes: str, tmp_path: Path) -> None:
    command = [*COMMAND, "--minutes", minutes, "--resume", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert not (tmp_path / "none").exists()
