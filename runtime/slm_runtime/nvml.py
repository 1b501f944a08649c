"""The device as NVML sees it: name, memory, energy, power, clocks, and who else is on it.

Energy and power are the whole board's; NVML cannot tell processes apart, and no figure here pretends to. Whether a board
is fit to be measured is for `device_checks` to say. Must never change a setting, and must never take a board that cannot
be read for none.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from slm_core.failure import Failure, ProfileError

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import pynvml
except ImportError:  # an engine image without it, and a runtime that was not started from the zipapp
    pynvml = None

POWER_CAP = "SwPowerCap"
"""The clock is below the one requested because of the power limit: how most boards run under load."""
# Bits of nvml.h, "Clocks Event Reasons"; the names of pynvml's constants have changed between its versions.
_SLOWED = {
    POWER_CAP: 0x4,
    "HwSlowdown": 0x8,
    "SwThermalSlowdown": 0x20,
    "HwThermalSlowdown": 0x40,
    "HwPowerBrakeSlowdown": 0x80,
}
_COMPUTE_MODES = {0: "DEFAULT", 1: "EXCLUSIVE_THREAD", 2: "PROHIBITED", 3: "EXCLUSIVE_PROCESS"}


class NoDeviceError(Exception):
    """No GPU can be read. The message is the reason, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The board at one moment."""

    energy_joules: float | None
    """Since the driver was loaded. Absent on boards without the counter."""
    power_watts: float | None
    sm_clock_mhz: int | None
    used_bytes: int
    slowed_by: tuple[str, ...] | None
    """Reasons for which the clocks are lowered now. Absent on boards that name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What may stand against measuring on a board, while nothing of ours runs on it."""

    product: str
    """As the label nvidia.com/gpu.product has it."""
    memory_bytes: int
    visible: int = 1
    """Boards that this process sees."""
    is_named: bool = False
    """The environment says which of them it is."""
    compute_mode: str = "DEFAULT"
    is_partitioned: bool = False
    """It is in MIG mode, or a MIG device itself."""
    used_bytes: int = 0
    """In use by somebody: without what the driver keeps for itself."""
    pids: tuple[int, ...] = ()
    """Processes that compute on it, as far as they can be seen from here: a container seldom sees those of others."""


class Device:
    """One board. Made by `Device.open`."""

    def __init__(self, handle: Any, *, is_named: bool) -> None:
        """Raises NVMLError for a board without a name or a memory of its own."""
        self._handle = handle
        self._is_named = is_named
        self.product = product_label(pynvml.nvmlDeviceGetName(handle))
        self.uuid: str = pynvml.nvmlDeviceGetUUID(handle)
        self.driver: str = pynvml.nvmlSystemGetDriverVersion()
        self.memory_bytes: int = pynvml.nvmlDeviceGetMemoryInfo(handle).total
        self._visible: int = pynvml.nvmlDeviceGetCount()

    @classmethod
    def open(cls) -> Self:
        """The device that engines will use. Raises NoDeviceError."""
        if pynvml is None:
            raise NoDeviceError("the Python package nvidia-ml-py is missing")
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NoDeviceError(f"NVML cannot be used: {error}") from error
        try:
            handle, is_named = _visible()
            return cls(handle, is_named=is_named)
        except pynvml.NVMLError as error:
            pynvml.nvmlShutdown()
            raise NoDeviceError(f"NVML tells of no GPU with a memory of its own: {error}") from error

    def read(self) -> Reading:
        """One reading; what the board does not offer is absent. Raises ProfileError once it is lost."""
        used_bytes = self._memory().used
        energy_mj = self._maybe("nvmlDeviceGetTotalEnergyConsumption")
        power_mw = self._maybe("nvmlDeviceGetPowerUsage")
        slowed = self._maybe("nvmlDeviceGetCurrentClocksThrottleReasons")
        return Reading(
            energy_joules=None if energy_mj is None else energy_mj / 1000,
            power_watts=None if power_mw is None else power_mw / 1000,
            sm_clock_mhz=self._maybe("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM),
            used_bytes=used_bytes,
            slowed_by=None if slowed is None else tuple(name for name, bit in _SLOWED.items() if slowed & bit),
        )

    def state(self) -> State:
        """What may stand against measuring on it; what the board does not tell does not. Raises as `read` does."""
        # NB: the first version of this call counts what the driver keeps for itself (0.6 GB on an H100) as used.
        memory = self._maybe("nvmlDeviceGetMemoryInfo", getattr(pynvml, "nvmlMemory_v2", None))
        mig = self._maybe("nvmlDeviceGetMigMode") or (0, 0)
        return State(
            product=self.product,
            memory_bytes=self.memory_bytes,
            visible=self._visible,
            is_named=self._is_named,
            compute_mode=_COMPUTE_MODES.get(mode := self._maybe("nvmlDeviceGetComputeMode") or 0, f"mode {mode}"),
            is_partitioned=bool(mig[0] or self._maybe("nvmlDeviceIsMigDeviceHandle")),
            used_bytes=(memory or self._memory()).used,
            pids=tuple(process.pid for process in self._maybe("nvmlDeviceGetComputeRunningProcesses") or ()),
        )

    def chosen(self) -> dict[str, str]:
        """Variables by which an engine takes this board where it sees several. NB: CUDA ranks by speed by default."""
        index = self._maybe("nvmlDeviceGetIndex")
        if index is None or self._visible == 1:
            return {}
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(index)}

    def close(self) -> None:
        """Let go of the library."""
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()

    def _memory(self) -> Any:
        try:
            return pynvml.nvmlDeviceGetMemoryInfo(self._handle)
        except pynvml.NVMLError as error:
            raise ProfileError(Failure.GPU_UNREADABLE, f"{self.product} can no longer be read: {error}") from error

    def _maybe(self, call: str, *args: Any) -> Any:
        try:
            return getattr(pynvml, call)(self._handle, *args)
        except (pynvml.NVMLError, AttributeError):
            return None


@contextlib.contextmanager
def device() -> Iterator[Device | None]:
    """The device, for as long as the block lasts; None where none can be read."""
    found = None
    with contextlib.suppress(NoDeviceError):
        found = Device.open()
    try:
        yield found
    finally:
        if found:
            found.close()


def product_label(name: str) -> str:
    """NVML's name as feature discovery writes it into the label nvidia.com/gpu.product."""
    return "-".join(re.sub(r"[^A-Za-z0-9\-_. ]", "", name).split())


def _visible() -> tuple[Any, bool]:
    """The board that CUDA would take, and whether the environment names it. Raises NVMLError."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return _by_uuid(first), True
    if first.isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(first)), True
    # What the device plugin gave. A privileged container sees all boards of the node besides.
    given = os.environ.get("NVIDIA_VISIBLE_DEVICES", "")
    if given.startswith(("GPU-", "MIG-")) and "," not in given:
        with contextlib.suppress(pynvml.NVMLError):
            return _by_uuid(given), True
    return pynvml.nvmlDeviceGetHandleByIndex(0), False


def _by_uuid(uuid: str) -> Any:
    """NB: CUDA takes the beginning of a UUID too, NVML only the whole."""
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            if pynvml.nvmlDeviceGetUUID(handle).startswith(uuid):
                return handle
        raise
