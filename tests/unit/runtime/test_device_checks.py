"""Which device is measured, and which is refused before an engine is started."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from slm_core.failure import EXIT_STATUS, REMEDY, Failure, ProfileError
from slm_core.units import GIB, MIB
from slm_runtime import device_checks
from slm_runtime.device_checks import Choice, check_device, open_device, refusal, same_product, sign_of_gpu
from slm_runtime.nvml import NoDeviceError, State, product_label

IDLE = State(product="NVIDIA-L4", memory_bytes=23034 * MIB, used_bytes=3 * MIB)

REFUSED: list[tuple[str, dict[str, Any], Failure, str]] = [
    ("exclusive", {"compute_mode": "EXCLUSIVE_PROCESS"}, Failure.GPU_COMPUTE_MODE, "is EXCLUSIVE_PROCESS, not DEFAULT"),
    ("prohibited", {"compute_mode": "PROHIBITED"}, Failure.GPU_COMPUTE_MODE, "is PROHIBITED, not DEFAULT"),
    ("memory in use", {"used_bytes": 2000 * MIB}, Failure.GPU_SHARED, "2000 MiB of NVIDIA-L4 are in use before any"),
    ("processes seen", {"pids": (41, 42)}, Failure.GPU_SHARED, "by process 41, 42"),
    ("MIG", {"is_partitioned": True}, Failure.GPU_PARTITIONED, "is in MIG mode"),
    ("several, none named", {"visible": 8}, Failure.GPU_NOT_AS_ASKED, "8 are visible"),
    ("another product", {"product": "NVIDIA-L40S"}, Failure.GPU_NOT_AS_ASKED, "NVIDIA-L4 was asked for and this is"),
    ("less memory", {"memory_bytes": 6 * GIB}, Failure.GPU_NOT_AS_ASKED, "23034 MiB of memory were promised and"),
]


@pytest.mark.parametrize(("name", "seen", "failure", "words"), REFUSED, ids=[case[0] for case in REFUSED])
def test_a_board_that_is_not_as_asked_is_refused(name: str, seen: dict[str, Any], failure: Failure, words: str) -> None:
    refused = refusal(replace(IDLE, **seen), Choice.GPU, "NVIDIA-L4", IDLE.memory_bytes)
    assert refused is not None
    assert refused[0] is failure
    assert words in refused[1]
    assert REMEDY[failure]
    assert EXIT_STATUS[failure]


def test_a_board_that_is_as_asked_is_measured() -> None:
    for board in (IDLE, replace(IDLE, visible=8, is_named=True)):
        assert refusal(board, Choice.GPU, "NVIDIA-L4", 23 * GIB) is None
    assert refusal(replace(IDLE, visible=2), Choice.AUTO) is None  # by hand, the first of several


PRODUCTS = [
    ("NVIDIA-L4", "NVIDIA-L4", True),
    ("NVIDIA-L4-SHARED", "NVIDIA-L4", True),
    ("H100", "NVIDIA-H100-80GB-HBM3", True),
    ("nvidia-tesla-t4", "Tesla-T4", True),
    ("A100-SXM4-40GB", "NVIDIA-A100-SXM4-40GB", True),
    ("NVIDIA-L4", "NVIDIA-L40S", False),
    ("NVIDIA-H100-NVL", "NVIDIA-H100-80GB-HBM3", False),
    ("NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-SXM4-80GB", False),
    ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "NVIDIA-A100-SXM4-40GB", False),
]


@pytest.mark.parametrize(("asked", "found", "same"), PRODUCTS)
def test_a_product_is_known_by_its_words(asked: str, found: str, same: bool) -> None:  # noqa: FBT001
    assert same_product(asked, found) == same


def test_a_name_becomes_a_label_as_feature_discovery_makes_it() -> None:
    names = ("NVIDIA H100 80GB HBM3", "Quadro RTX 6000/8000", "NVIDIA  A40")
    assert [product_label(name) for name in names] == ["NVIDIA-H100-80GB-HBM3", "Quadro-RTX-60008000", "NVIDIA-A40"]


SIGNS = [
    ({}, (), None),
    ({"NVIDIA_VISIBLE_DEVICES": "void"}, (), None),
    ({"NVIDIA_VISIBLE_DEVICES": "none"}, (), None),
    ({"NVIDIA_VISIBLE_DEVICES": "GPU-1"}, (), "NVIDIA_VISIBLE_DEVICES is GPU-1"),
    ({"NVIDIA_VISIBLE_DEVICES": "void"}, ("/dev/nvidia0", "/dev/nvidia1"), "/dev/nvidia0 is here"),
]


@pytest.mark.parametrize(("environment", "files", "sign"), SIGNS)
def test_signs_of_a_gpu(environment: dict[str, str], files: tuple[str, ...], sign: str | None) -> None:
    assert sign_of_gpu(environment, files) == sign


def absent() -> None:
    raise NoDeviceError("NVML cannot be used: NVML Shared Library Not Found")


UNREADABLE = [
    (Choice.GPU, None, {}, "a GPU was asked for, and none can be read: NVML cannot be used"),
    (Choice.AUTO, "NVIDIA-L4", {}, "a GPU was asked for"),
    (Choice.AUTO, None, {"NVIDIA_VISIBLE_DEVICES": "all"}, "NVIDIA_VISIBLE_DEVICES is all, and none"),
]


@pytest.mark.parametrize(("choice", "product", "environment", "words"), UNREADABLE)
def test_a_gpu_that_cannot_be_read_is_no_cpu(
    monkeypatch: pytest.MonkeyPatch, choice: Choice, product: str | None, environment: dict[str, str], words: str
) -> None:
    monkeypatch.setattr(device_checks.Device, "open", absent)
    monkeypatch.setattr(device_checks.os, "environ", environment)
    with pytest.raises(ProfileError, match=words) as raised:
        open_device(choice, product)
    assert raised.value.failure is Failure.GPU_UNREADABLE
    assert open_device(Choice.CPU, product) is None


def test_cpu_is_measured_where_nothing_says_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_checks.Device, "open", absent)
    monkeypatch.setattr(device_checks.os, "environ", {"NVIDIA_VISIBLE_DEVICES": "void"})
    monkeypatch.setattr(device_checks, "_device_files", lambda: ())
    assert open_device(Choice.AUTO, None) is None
    assert open_device(Choice.AUTO, "CPU") is None


class Busy:
    """A board on which somebody else's last process takes a while to end."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def state(self) -> State:
        self.looks -= 1
        return replace(IDLE, used_bytes=GIB) if self.looks >= 0 else IDLE


async def test_gpu_that_fails_a_check_is_refused_at_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_checks, "LOOK_SECONDS", 0)
    board, looks = replace(IDLE, compute_mode="PROHIBITED"), []
    device: Any = SimpleNamespace(state=lambda: looks.append(1) or board)
    with pytest.raises(ProfileError, match="PROHIBITED"):
        await check_device(device, Choice.GPU, None, None)
    assert len(looks) == 1


async def test_memory_that_is_just_being_freed_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_checks, "LOOK_SECONDS", 0)
    await check_device(Busy(looks=2), Choice.GPU, None, None)  # type: ignore[arg-type]
    with pytest.raises(ProfileError, match="1024 MiB of NVIDIA-L4 are in use before any engine was started"):
        await check_device(Busy(looks=99), Choice.GPU, None, None)  # type: ignore[arg-type]
