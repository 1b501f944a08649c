"""NVML read through pynvml from a mock library: each case is a process of its own, as the library is loaded once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

READ = """
import dataclasses, json
from slm_runtime import nvml
with nvml.device() as device:
    if device is None:
        print("null")
    else:
        readings = [dataclasses.asdict(device.read()) for _ in range(2)]
        keys = ("product", "uuid", "driver", "memory_bytes")
        print(json.dumps({"readings": readings, **{key: getattr(device, key) for key in keys}}))
"""


def read(library: Path | None, **variables: str) -> dict[str, object] | None:
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"} | variables
    if library:
        environment["LD_LIBRARY_PATH"] = str(library.parent)
    done = subprocess.run([sys.executable, "-c", READ], env=environment, capture_output=True, text=True, check=True)
    found: dict[str, object] | None = json.loads(done.stdout)
    return found


def test_a_board_is_read(library: Path) -> None:
    board = read(library)
    assert board is not None
    first, second = board.pop("readings")  # type: ignore[misc]
    assert board == {"product": "Mock-GPU-8GB", "uuid": "GPU-mock-0", "driver": "580.00", "memory_bytes": 8 * 2**30}
    assert second["energy_joules"] - first["energy_joules"] == 1
    assert (first["power_watts"], first["sm_clock_mhz"], first["used_bytes"]) == (250, 1980, 2**30)
    assert first["slowed_by"] == []


ABSENT = [
    ("no library", False, {}),
    ("no driver", True, {"MOCK_NVML_BROKEN": "1"}),
    ("a device that is not there", True, {"CUDA_VISIBLE_DEVICES": "7"}),
]


@pytest.mark.parametrize(("name", "has_library", "variables"), ABSENT, ids=[c[0] for c in ABSENT])
def test_absence_is_clean(library: Path, name: str, has_library: bool, variables: dict[str, str]) -> None:  # noqa: FBT001
    assert read(library if has_library else None, **variables) is None


def test_a_board_without_an_energy_counter_has_none(library: Path) -> None:
    board = read(library, MOCK_NVML_NO_ENERGY="1")
    assert board is not None
    assert board["readings"][0]["energy_joules"] is None  # type: ignore[index]


def test_lowered_clocks_are_named(library: Path) -> None:
    board = read(library, MOCK_NVML_SLOWED=str(0x40 | 0x1), CUDA_VISIBLE_DEVICES="GPU-mock-0,GPU-other")
    assert board is not None
    assert board["readings"][0]["slowed_by"] == ["HwThermalSlowdown"]  # type: ignore[index]
