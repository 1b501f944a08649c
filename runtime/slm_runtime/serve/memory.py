"""The container's memory: which engine has grown, and what is to be known of it once everything was killed.

On cgroup v2 an OOM ends a whole container, supervisor and all, and nobody is left who could say why. So it is said before:
in the pack's termination message, and in a file from which the next supervisor knows what became of this one. Pure. Must
never say of one engine what is only known of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from slm_core.failure import Failure
from slm_core.pack_pod import Termination
from slm_core.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_runtime.serve.pack import Pack

STEP_BYTES = 64 * MIB
"""Sizes are rounded down to it: what is written at every look would else differ at every look."""
EXHAUSTED = 0.9
"""A container that used so much of its limit at the last look, and was killed, has most likely been killed for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Memory of one engine that nobody can take from it: neither files' pages nor what it shares by them. Bytes."""

    resident_bytes: int
    grown_bytes: int
    """Since it was ready; of one that starts, all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """One look at the container."""

    engines: Mapping[int, Size]
    used_bytes: int
    """By all in it, without what the kernel could take back."""
    limit_bytes: int

    @property
    def grown_most(self) -> int | None:
        """The engine that has grown most. None: there is none."""
        return max(self.engines, key=lambda index: self.engines[index].grown_bytes, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What is kept for a successor."""

    boot: str
    """Which start of the machine."""
    pid: int
    started: int
    """The first process, as `processes.Identity` has it."""
    scratch: str
    """The folder that it would have removed."""
    is_ending: bool
    """Its end was asked for."""
    served: int
    engines: int
    shared: str = ""
    """Files in /dev/shm that it would have removed, a line each, as far as there is room for them."""
    grown_most: int | None = None
    resident_bytes: int = 0
    grown_bytes: int = 0
    used_bytes: int = 0
    limit_bytes: int = 0


class Ending(StrEnum):
    """What became of a pack that did not end in order."""

    OUT_OF_MEMORY = "OutOfMemory"
    MACHINE_RESTARTED = "MachineRestarted"
    OVERDUE = "Overdue"
    """It was killed while it was ending: the grace was over."""
    KILLED = "Killed"
    """Of what else, nothing in it can tell."""


def rounded(number: int) -> int:
    """In whole steps."""
    return number // STEP_BYTES * STEP_BYTES


def ending_of(former: Remembered, boot: str) -> Ending:
    """What became of it, by what it kept and which start of the machine this is."""
    if former.boot != boot:
        return Ending.MACHINE_RESTARTED
    if former.is_ending:
        return Ending.OVERDUE
    return Ending.OUT_OF_MEMORY if former.used_bytes >= EXHAUSTED * former.limit_bytes else Ending.KILLED


def would_be_to_blame(pack: Pack, sizes: Sizes, now: float, remedy: str) -> Termination:
    """What is to be read if the container is killed for its memory before anything else is written."""
    index, served, limit = sizes.grown_most, pack.ready(now), rounded(sizes.limit_bytes)
    size = sizes.engines[index] if index is not None else None
    resident, grown = (rounded(size.resident_bytes), rounded(size.grown_bytes)) if size else (0, 0)
    who = (
        f"engine {index} had grown most, by {grown / GIB:.1f} GiB to {resident / GIB:.1f}" if size else "no engine ran"
    )
    return Termination(
        reason=Failure.HOST_MEMORY,
        message=f"{who}; {served} of {len(pack.engines)} engines served; the container's limit is {limit / GIB:.1f} GiB",
        remedy=remedy,
        engine=index,
        served=served,
        resident_bytes=resident if size else None,
        limit_bytes=limit,
    )
