"""NVML read through pynvml from a mock library: each case is a process of its own, as the library is loaded once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
READ = """
import dataclasses, json
from slm_runtime import nvml
try:
    device = nvml.Device.open()
except nvml.NoDeviceError as error:
    print(json.dumps({"absent": str(error)}))
else:
    readings = [dataclasses.asdict(device.read()) for _ in range(2)]
    keys = ("product", "uuid", "driver", "memory_bytes")
    found = {key: getattr(device, key) for key in keys}
    state = dataclasses.asdict(device.state())
    print(json.dumps({"readings": readings, "state": state, "chosen": device.chosen(), **found}))
"""


def read(library: Path | None, **variables: str) -> dict[str, Any]:
    choosing = {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}
    environment = {k: v for k, v in os.environ.items() if k not in choosing} | variables
    if library:
        environment["LD_LIBRARY_PATH"] = str(library.parent)
    done = subprocess.run([sys.executable, "-c", READ], env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_board_is_read(library: Path) -> None:
    board = read(library)
    first, second = board.pop("readings")
    state = board.pop("state")
    found = {"product": "Mock-GPU-8GB", "uuid": "GPU-mock-0", "driver": "580.00", "memory_bytes": 8 * 2**30}
    assert board == {**found, "chosen": {}}
    assert second["energy_joules"] - first["energy_joules"] == 1
    assert (first["power_watts"], first["sm_clock_mhz"], first["used_bytes"]) == (250, 1980, 2**30)
    assert first["slowed_by"] == []
    # What the driver keeps for itself, a GiB here, is nobody's.
    assert state == {
        "product": "Mock-GPU-8GB", "memory_bytes": 8 * 2**30, "visible": 1, "is_named": False,
        "compute_mode": "DEFAULT", "is_partitioned": False, "used_bytes": 0, "pids": [],
    }  # fmt: skip


ABSENT = [
    ("no library", False, {}, "Shared Library Not Found"),
    ("no driver", True, {"MOCK_NVML_BROKEN": "1"}, "NVML cannot be used"),
    ("a device that is not there", True, {"CUDA_VISIBLE_DEVICES": "7"}, "no GPU with a memory of its own"),
    (
        "the host's memory",
        True,
        {"MOCK_NVML_UNSUPPORTED": "nvmlDeviceGetMemoryInfo"},
        "no GPU with a memory of its own",
    ),
]


@pytest.mark.parametrize(("name", "has_library", "variables", "why"), ABSENT, ids=[c[0] for c in ABSENT])
def test_absent_gpu_is_explained(
    library: Path,
    name: str,
    has_library: bool,  # noqa: FBT001
    variables: dict[str, str],
    why: str,
) -> None:
    assert why in read(library if has_library else None, **variables)["absent"]


def test_figure_that_a_gpu_does_not_offer_is_absent(library: Path) -> None:
    calls = (
        "nvmlDeviceGetTotalEnergyConsumption nvmlDeviceGetPowerUsage nvmlDeviceGetClockInfo nvmlDeviceGetComputeMode "
        "nvmlDeviceGetCurrentClocksThrottleReasons nvmlDeviceGetComputeRunningProcesses_v3 nvmlDeviceGetMemoryInfo_v2"
    )
    board = read(library, MOCK_NVML_UNSUPPORTED=calls)
    nothing = {"energy_joules": None, "power_watts": None, "sm_clock_mhz": None, "slowed_by": None}
    assert board["readings"][0].items() >= nothing.items()
    assert (board["state"]["compute_mode"], board["state"]["pids"]) == ("DEFAULT", [])


def test_obstacles_of_a_gpu_are_read(library: Path) -> None:
    variables = {"COMPUTE_MODE": "3", "MIG": "1", "USED": str(5 * 2**30), "PIDS": "41 42"}
    state = read(library, **{f"MOCK_NVML_{name}": value for name, value in variables.items()})["state"]
    assert (state["compute_mode"], state["is_partitioned"]) == ("EXCLUSIVE_PROCESS", True)
    assert (state["used_bytes"], state["pids"]) == (5 * 2**30, [41, 42])


NAMED = [
    ({}, 0, False),
    ({"CUDA_VISIBLE_DEVICES": "2,1"}, 2, True),
    ({"CUDA_VISIBLE_DEVICES": "GPU-mock-3"}, 3, True),
    ({"NVIDIA_VISIBLE_DEVICES": "GPU-mock-1"}, 1, True),
    ({"NVIDIA_VISIBLE_DEVICES": "all"}, 0, False),
    ({"NVIDIA_VISIBLE_DEVICES": "GPU-of-the-host"}, 0, False),
]


@pytest.mark.parametrize(("variables", "index", "is_named"), NAMED)
def test_engine_takes_the_gpu_that_is_read_of_several(
    library: Path,
    variables: dict[str, str],
    index: int,
    is_named: bool,  # noqa: FBT001
) -> None:
    board = read(library, MOCK_NVML_COUNT="4", **variables)
    assert board["uuid"] == f"GPU-mock-{index}"
    assert board["chosen"] == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(index)}
    assert (board["state"]["visible"], board["state"]["is_named"]) == (4, is_named)


@pytest.mark.parametrize(
    ("bits", "named"),
    [
        (0x1, []),  # idle: nothing that lowers a busy board's clocks
        (0x4, ["SwPowerCap"]),
        (0x8, ["HwSlowdown"]),
        (0x20, ["SwThermalSlowdown"]),
        (0x40 | 0x1, ["HwThermalSlowdown"]),
        (0x80, ["HwPowerBrakeSlowdown"]),
        (0x4 | 0x20, ["SwPowerCap", "SwThermalSlowdown"]),
    ],
)
def test_lowered_clocks_are_named(library: Path, bits: int, named: list[str]) -> None:
    board = read(library, MOCK_NVML_SLOWED=str(bits), CUDA_VISIBLE_DEVICES="GPU-mock-0,GPU-other")
    assert board["readings"][0]["slowed_by"] == named


@pytest.mark.parametrize("look", ["read", "state"])
def test_a_board_that_is_lost_is_said_to_be(library: Path, look: str) -> None:
    lost = {"MOCK_NVML_LOST_AFTER": "2", "MOCK_NVML_UNSUPPORTED": "nvmlDeviceGetMemoryInfo_v2"}
    environment = os.environ | {"LD_LIBRARY_PATH": str(library.parent)} | lost
    script = f"from slm_runtime import nvml; board = nvml.Device.open(); board.{look}(); board.{look}()"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert "ProfileError: Mock-GPU-8GB can no longer be read: GPU is lost" in done.stderr
