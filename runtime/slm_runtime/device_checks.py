"""Which device is measured, and whether it is fit to be: decided before any engine is started.

The figures of a CPU, of a part of a GPU or of one that others use look like those of a GPU. So whatever was asked for
and is not there ends the profile, with what to do about it. Clusters without feature discovery have no other defence.
Pure, but for what opens a board and looks at it. Must never let a doubt pass as a note.
"""

from __future__ import annotations

import asyncio
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from slm_core.failure import Failure, ProfileError
from slm_core.measurements import CPU
from slm_core.units import MIB

from slm_runtime.nvml import Device, NoDeviceError, State

if TYPE_CHECKING:
    from collections.abc import Mapping

IDLE_BYTES = 128 * MIB
"""More in use than this is somebody's: an idle board shows a few MiB, a process that computes some hundreds."""
LOOKS = 5
"""Before a board counts as used by others: what ran there before may just be ending."""
LOOK_SECONDS = 1.0
MEMORY_FRACTION = 0.05
"""By so much a label's memory may differ from NVML's: drivers count what they keep for themselves in or out."""
_BRANDS = frozenset({"nvidia", "tesla", "geforce", "quadro"})
"""Words that clouds and drivers put before a product's name, or leave out."""


class Choice(StrEnum):
    """Which device is to be measured."""

    AUTO = "auto"
    """A GPU where there is one."""
    GPU = "gpu"
    CPU = "cpu"


def open_device(choice: Choice, product: str | None) -> Device | None:
    """The GPU to measure on, to be closed by the caller; None: the CPU. `product`: what was asked for. Raises ProfileError."""
    if choice is Choice.CPU:
        return None
    try:
        return Device.open()
    except NoDeviceError as error:
        asked = choice is Choice.GPU or product not in {None, CPU}
        wanted = "a GPU was asked for" if asked else sign_of_gpu(os.environ, _device_files())
        if wanted is None:
            return None
        raise ProfileError(Failure.GPU_UNREADABLE, f"{wanted}, and none can be read: {error}") from error


def sign_of_gpu(environment: Mapping[str, str], files: tuple[str, ...]) -> str | None:
    """What says that a GPU should be here, whatever NVML says."""
    if files:
        return f"{files[0]} is here"
    given = environment.get("NVIDIA_VISIBLE_DEVICES", "")
    return None if given in {"", "none", "void"} else f"NVIDIA_VISIBLE_DEVICES is {given}"


async def check_device(device: Device, choice: Choice, product: str | None, memory_bytes: int | None) -> None:
    """Raise ProfileError unless the board is fit to be measured, and the one that was asked for."""
    for looks_left in reversed(range(LOOKS)):
        refused = refusal(device.state(), choice, product, memory_bytes)
        if refused is None:
            return
        failure, because = refused
        if failure is not Failure.GPU_SHARED or not looks_left:
            raise ProfileError(failure, because)
        await asyncio.sleep(LOOK_SECONDS)


def refusal(
    state: State, choice: Choice, product: str | None = None, memory_bytes: int | None = None
) -> tuple[Failure, str] | None:
    """Why a board must not be measured. `product`, `memory_bytes`: what the nodes' labels promise."""
    others = (
        f"by process {', '.join(map(str, state.pids))}" if state.pids else "by processes that are not seen from here"
    )
    checks = (
        (
            choice is Choice.GPU and state.visible > 1 and not state.is_named,
            Failure.GPU_NOT_AS_ASKED,
            f"one GPU was asked for and {state.visible} are visible: which of them is not said",
        ),
        (
            state.is_partitioned,
            Failure.GPU_PARTITIONED,
            f"{state.product} is in MIG mode, and what runs here has a part of it",
        ),
        (
            product is not None and not same_product(product, state.product),
            Failure.GPU_NOT_AS_ASKED,
            f"{product} was asked for and this is {state.product}",
        ),
        (
            memory_bytes is not None and abs(state.memory_bytes / memory_bytes - 1) > MEMORY_FRACTION,
            Failure.GPU_NOT_AS_ASKED,
            f"{(memory_bytes or 0) // MIB} MiB of memory were promised and {state.product} has {state.memory_bytes // MIB}",
        ),
        (
            state.compute_mode != "DEFAULT",
            Failure.GPU_COMPUTE_MODE,
            f"the compute mode is {state.compute_mode}, not DEFAULT: an earlier MPS daemon may have left it behind",
        ),
        (
            bool(state.pids) or state.used_bytes > IDLE_BYTES,
            Failure.GPU_SHARED,
            f"{state.used_bytes // MIB} MiB of {state.product} are in use before any engine was started, {others}",
        ),
    )
    return next(((failure, words) for holds, failure, words in checks if holds), None)


def same_product(asked: str, found: str) -> bool:
    """Whether NVML's product can be what was asked for: a name written by hand may be shorter, never another.

    >>> same_product("H100", "NVIDIA-H100-80GB-HBM3"), same_product("NVIDIA-L4", "NVIDIA-L40S")
    (True, False)
    """
    return _words(re.sub(r"-SHARED$", "", asked)) <= _words(found)


def _words(product: str) -> frozenset[str]:
    return frozenset(re.split(r"[-_ ]+", product.lower())) - _BRANDS


def _device_files() -> tuple[str, ...]:
    return tuple(sorted(str(path) for path in Path("/dev").glob("nvidia[0-9]*")))
