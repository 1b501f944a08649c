"""The path that only machines with a GPU take, with a mock NVML, a stand-in MPS daemon and the light engine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from slm_core.codec import parse_document
from slm_core.measurements import Mark, MeasurementDocument, SharingMode

TESTS = Path(__file__).parents[2]
# Notes the limits and arguments of each engine before it becomes one.
RECORDING = 'echo "$CUDA_MPS_PINNED_DEVICE_MEM_LIMIT $CUDA_MPS_ACTIVE_THREAD_PERCENTAGE $*" >> "$RECORD"; exec "$@"'


def profile(
    model: Path, library: Path, record: Path, *words: str, **variables: str
) -> tuple[MeasurementDocument, list[str], list[str]]:
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(library.parent),
        "PYTHONPATH": str(TESTS),
        "RECORD": str(record),
        "LIGHT_ENGINE_STEP_MS": "8",
        "LIGHT_ENGINE_SEQUENCE_MS": "0.1",
    }
    command = [sys.executable, "-m", "slm_runtime", "profile", "--model", str(model), *words]
    command += ["--input-tokens", "24", "--output-tokens", "16", "--max-batch-size", "48", "--engines-per-gpu", "2"]
    command += ["--min-window-seconds", "2", "--max-window-seconds", "5", "--poll-seconds", "0.05"]
    command += ["--", "sh", "-c", RECORDING, "engine", sys.executable, "-m", "light_engine"]
    done = subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    notes = [e["message"] for e in events if e["event"] == "note"]
    document = parse_document(next(e["document"] for e in events if e["event"] == "result"))
    return document, record.read_text().splitlines(), notes


@pytest.mark.slow
@pytest.mark.usefixtures("control")
def test_packs_run_under_the_limits_of_the_device_plugin(model: Path, library: Path, tmp_path: Path) -> None:
    document, started, _ = profile(model, library, tmp_path / "record", MPS_TEST_CLIENTS="1 2")
    assert (document.gpu.product, document.gpu.uuid, document.gpu.driver) == ("Mock-GPU-8GB", "GPU-mock-0", "580.00")
    packs = [p for p in document.points if p.replicas == 2]
    assert packs
    assert {p.sharing_mode for p in packs} == {SharingMode.MPS}
    assert all(p.energy_joules and p.mean_power_watts == 250 for p in document.points)
    sweep, pack = started[0], started[1]
    assert "--kv-cache-memory-bytes" not in sweep  # the sweep's engine takes what it finds
    assert "--gpu-memory-utilization" not in sweep
    assert pack.startswith("0=4096M 50 ")
    assert "--kv-cache-memory-bytes" in pack
    utilization = float(pack.split("--gpu-memory-utilization ")[1].split()[0])
    assert 0.3 < utilization < 0.5
    assert document.ledger is not None
    assert document.ledger.weights_bytes == 512 * 2**20
    assert document.ledger.activation_peak_bytes == round(0.06 * 2**30)


@pytest.mark.slow
@pytest.mark.usefixtures("control")
def test_engines_that_are_not_attached_are_no_mps_pack(model: Path, library: Path, tmp_path: Path) -> None:
    document, _, notes = profile(model, library, tmp_path / "record", MPS_TEST_CLIENTS="1")
    assert any("1 of 2 engines are attached to the MPS daemon" in note for note in notes), (notes, document.points)
    assert {p.sharing_mode for p in document.points if p.replicas == 2} == {SharingMode.TIME_SLICING}


@pytest.mark.slow
def test_without_an_mps_daemon_packs_are_time_sliced_and_that_is_said(
    model: Path, library: Path, tmp_path: Path
) -> None:
    document, started, notes = profile(model, library, tmp_path / "record")
    assert {p.sharing_mode for p in document.points if p.replicas == 2} == {SharingMode.TIME_SLICING}
    assert any("nvidia-cuda-mps-control is not in PATH" in note for note in notes), (notes, document.points)
    assert started[1].startswith("  ")  # no limits


@pytest.mark.slow
def test_a_throttled_point_is_marked(model: Path, library: Path, tmp_path: Path) -> None:
    words = ("--sharing-mode", "exclusive")
    document, _, _ = profile(model, library, tmp_path / "record", *words, MOCK_NVML_SLOWED="64")
    assert all(Mark.THROTTLED in p.marks for p in document.points)
