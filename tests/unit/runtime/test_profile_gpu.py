"""The path that only machines with a GPU take, with a mock NVML, a stand-in MPS daemon and the light engine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from slm_core.codec import parse_document
from slm_core.failure import EXIT_STATUS, Failure
from slm_core.measurements import Mark, MeasurementDocument, SharingMode

TESTS = Path(__file__).parents[2]
# Notes the limits, the arguments and the cores of each engine before it becomes one, and attaches it to the MPS daemon:
# itself, or with its second process when only the first of a pack is to be attached.
RECORDING = """
echo "$CUDA_MPS_PINNED_DEVICE_MEM_LIMIT $CUDA_MPS_ACTIVE_THREAD_PERCENTAGE $*" >> "$RECORD"
grep Cpus_allowed_list /proc/self/status | cut -f2 >> "$RECORD.cores"
if [ -z "$ONLY_ONE_ATTACHED" ]; then
  echo $$ >> "$MPS_TEST_CLIENTS"
elif [ -n "$CUDA_MPS_PIPE_DIRECTORY" ] && [ ! -e "$CUDA_MPS_PIPE_DIRECTORY/first" ]; then
  touch "$CUDA_MPS_PIPE_DIRECTORY/first"
  sleep 600 &
  echo $$ $! >> "$MPS_TEST_CLIENTS"
fi
exec "$@"
"""
# The command line with a cgroup of the test's own, and without patience.
IN_CGROUP = """
import pathlib, sys
from slm_runtime import cli, device_checks, host
device_checks.LOOK_SECONDS = 0
host.CGROUP = pathlib.Path(sys.argv.pop(1))
sys.exit(cli.main())
"""


def events_of(
    model: Path, library: Path | None, record: Path, *words: str, **variables: str
) -> tuple[int, list[dict[str, Any]]]:
    """Exit status and events of a whole profile."""
    (record.parent / "clients").touch()
    environment = os.environ | {
        "MPS_TEST_CLIENTS": str(record.parent / "clients"),
        "LD_LIBRARY_PATH": str(library.parent) if library else "",
        "PYTHONPATH": str(TESTS),
        "RECORD": str(record),
        "LIGHT_ENGINE_STEP_MS": "8",
        "LIGHT_ENGINE_SEQUENCE_MS": "0.1",
    }
    cgroup = variables.pop("cgroup", "/sys/fs/cgroup")
    command = [sys.executable, "-c", IN_CGROUP, cgroup, "profile", "--model", str(model), *words]
    command += ["--input-tokens", "24", "--output-tokens", "16", "--max-batch-size", "48"]
    command += ["--min-window-seconds", "2", "--max-window-seconds", "5", "--poll-seconds", "0.05"]
    command += ["--", "sh", "-c", RECORDING, "engine", sys.executable, "-m", "light_engine"]
    done = subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def profile(
    model: Path, library: Path, record: Path, *words: str, **variables: str
) -> tuple[MeasurementDocument, list[str], list[str]]:
    engines = () if "--engines-per-gpu" in words or "--sharing-mode" in words else ("--engines-per-gpu", "2")
    status, events = events_of(model, library, record, *words, *engines, **variables)
    assert status == 0, events[-3:]
    notes = [e["message"] for e in events if e["event"] == "note"]
    document = parse_document(next(e["document"] for e in events if e["event"] == "result"))
    return document, record.read_text().splitlines(), notes


@pytest.mark.slow
@pytest.mark.usefixtures("control")
def test_packs_run_under_device_plugin_limits_and_power_cap(model: Path, library: Path, tmp_path: Path) -> None:
    document, started, _ = profile(model, library, tmp_path / "record", MOCK_NVML_SLOWED="4")
    assert (document.gpu.product, document.gpu.uuid, document.gpu.driver) == ("Mock-GPU-8GB", "GPU-mock-0", "580.00")
    packs = [p for p in document.points if p.replicas == 2]
    assert packs
    assert {p.sharing_mode for p in packs} == {SharingMode.MPS}
    assert all(p.energy_joules and p.mean_power_watts == 250 for p in document.points)
    assert {(p.power_capped_fraction, p.mean_sm_clock_mhz) for p in document.points} == {(1, 1980)}
    assert not any(Mark.THROTTLED in p.marks for p in document.points)
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
    document, _, notes = profile(model, library, tmp_path / "record", ONLY_ONE_ATTACHED="1")
    assert any("1 of 2 engines are attached to the MPS daemon" in note for note in notes), (notes, document.points)
    assert {p.sharing_mode for p in document.points if p.replicas == 2} == {SharingMode.TIME_SLICING}


@pytest.mark.slow
def test_packs_without_mps_daemon_or_cpus_are_time_sliced(model: Path, library: Path, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    asked = ("--engines-per-gpu", "2", "--cpus-per-engine", "0.5", "--host-memory-per-engine-bytes", str(2**50))
    document, started, notes = profile(model, library, tmp_path / "record", *asked, cgroup=str(tmp_path))
    assert {p.sharing_mode for p in document.points if p.replicas == 2} == {SharingMode.TIME_SLICING}
    assert any("nvidia-cuda-mps-control is not in PATH" in note for note in notes), (notes, document.points)
    assert started[1].startswith("  ")  # no limits
    assert any(
        "2 engines as large as a replica, and the load generator, want 2 CPUs and may use 1.5" in n for n in notes
    )
    assert any("of host memory and may use" in note for note in notes)
    assert all(p.mean_cpu_cores and 0 < p.mean_cpu_cores < 2 for p in document.points)
    # The load generator keeps the first core where there is another.
    cores = sorted(os.sched_getaffinity(0))
    held = (tmp_path / "record.cores").read_text().splitlines()[0]
    assert len(cores) == 1 or held == str(cores[1])


@pytest.mark.slow
def test_a_throttled_point_is_marked(model: Path, library: Path, tmp_path: Path) -> None:
    words = ("--sharing-mode", "exclusive")
    document, _, _ = profile(model, library, tmp_path / "record", *words, MOCK_NVML_SLOWED="64")
    assert all(Mark.THROTTLED in p.marks for p in document.points)


REFUSED = [
    ("no library", {}, "GpuUnreadable", "a GPU was asked for, and none can be read: NVML cannot be used"),
    (
        "no memory of its own",
        {"MOCK_NVML_UNSUPPORTED": "nvmlDeviceGetMemoryInfo"},
        "GpuUnreadable",
        "Not Supported",
    ),
    ("an exclusive GPU", {"MOCK_NVML_COMPUTE_MODE": "3"}, "GpuComputeMode", "is EXCLUSIVE_PROCESS"),
    ("MIG", {"MOCK_NVML_MIG": "1"}, "GpuPartitioned", "is in MIG mode"),
    (
        "another product",
        {"MOCK_NVML_NAME": "Mock GPU 16GB"},
        "GpuNotAsAsked",
        "Mock-GPU-8GB was asked for and this",
    ),
    ("another memory", {"MOCK_NVML_TOTAL": str(2**30)}, "GpuNotAsAsked", "8192 MiB of memory were promised"),
    ("several", {"MOCK_NVML_COUNT": "2"}, "GpuNotAsAsked", "2 are visible"),
    ("others", {"MOCK_NVML_PIDS": "41 42"}, "GpuInUse", "use before any engine was started, by process 41, 42"),
    ("memory in use", {"MOCK_NVML_USED": str(3 * 2**30)}, "GpuInUse", "3072 MiB of Mock-GPU-8GB are in use"),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED, ids=[case[0] for case in REFUSED])
def test_a_gpu_not_as_asked_ends_the_profile_before_an_engine(
    case: tuple[str, dict[str, str], str, str], model: Path, library: Path, tmp_path: Path
) -> None:
    _, board, failure, words = case
    asked = ("--device", "gpu", "--gpu-product", "Mock-GPU-8GB", "--gpu-memory-bytes", str(8 * 2**30))
    ended, events = events_of(model, library if board else None, tmp_path / "record", *asked, **board)
    assert ended == EXIT_STATUS[Failure(failure)]
    assert [event["event"] for event in events] == ["failed"]
    assert (events[0]["class"], bool(events[0]["remedy"])) == (failure, True)
    assert words in events[0]["message"]
    assert not (tmp_path / "record").exists()  # no engine was started
