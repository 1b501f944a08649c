"""The device as NVML sees it: name, memory, energy, power, throttling. Absent, cleanly, where there is no NVML.

Energy and power are the whole board's; NVML cannot tell processes apart, and no figure here pretends to. Assumes that
the process sees the one device that it measures, or that CUDA_VISIBLE_DEVICES names it. Must never change a setting.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import pynvml
except ImportError:  # an engine image without it, and a runtime that was not started from the zipapp
    pynvml = None

# Bits of nvml.h, "Clocks Event Reasons"; the names of pynvml's constants have changed between its versions.
_SLOWED = {
    "SwPowerCap": 0x4,
    "HwSlowdown": 0x8,
    "SwThermalSlowdown": 0x20,
    "HwThermalSlowdown": 0x40,
    "HwPowerBrakeSlowdown": 0x80,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The board at one moment."""

    energy_joules: float | None
    """Since the driver was loaded. Absent on boards without the counter."""
    power_watts: float | None
    sm_clock_mhz: int | None
    used_bytes: int
    slowed_by: tuple[str, ...]
    """Reasons for which the clocks are lowered now."""


class Device:
    """One board. Made by `Device.open`."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.product: str = pynvml.nvmlDeviceGetName(handle).replace(" ", "-")
        self.uuid: str = pynvml.nvmlDeviceGetUUID(handle)
        self.driver: str = pynvml.nvmlSystemGetDriverVersion()
        self.memory_bytes: int = pynvml.nvmlDeviceGetMemoryInfo(handle).total

    @classmethod
    def open(cls) -> Self | None:
        """The device that engines will use, or None without NVML."""
        if pynvml is None:
            return None
        try:
            pynvml.nvmlInit()
            return cls(_visible())
        except pynvml.NVMLError:
            return None

    def read(self) -> Reading:
        """One reading; what the board does not offer is absent."""
        memory = pynvml.nvmlDeviceGetMemoryInfo(self._handle)
        energy_mj = self._maybe("nvmlDeviceGetTotalEnergyConsumption")
        power_mw = self._maybe("nvmlDeviceGetPowerUsage")
        slowed = self._maybe("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        return Reading(
            energy_joules=None if energy_mj is None else energy_mj / 1000,
            power_watts=None if power_mw is None else power_mw / 1000,
            sm_clock_mhz=self._maybe("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM),
            used_bytes=memory.used,
            slowed_by=tuple(name for name, bit in _SLOWED.items() if slowed & bit),
        )

    def close(self) -> None:
        """Let go of the library."""
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()

    def _maybe(self, call: str, *args: Any) -> Any:
        try:
            return getattr(pynvml, call)(self._handle, *args)
        except (pynvml.NVMLError, AttributeError):
            return None


@contextlib.contextmanager
def device() -> Iterator[Device | None]:
    """The device, for as long as the block lasts."""
    found = Device.open()
    try:
        yield found
    finally:
        if found:
            found.close()


def _visible() -> Any:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return pynvml.nvmlDeviceGetHandleByUUID(first)
    return pynvml.nvmlDeviceGetHandleByIndex(int(first) if first.isdigit() else 0)
