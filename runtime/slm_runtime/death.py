"""What the kernel says of an engine that is no more, where the engine itself could say nothing.

A process that is killed writes no last line: its exit status tells by which signal, and the cgroup's own count (`host`)
whether for want of memory. Pure. Must never overrule what an engine said.
"""

from __future__ import annotations

import signal
from dataclasses import replace

from slm_core.failure import Cause, Failure

SHELL_ADDS = 128
"""How a shell passes a signal on: as an exit status."""


def ending(status: int | None) -> str:
    """An exit status in words."""
    if status is not None and status < 0:
        return f"killed by {_name(-status)}"
    return f"exit status {status}"


def with_signal(cause: Cause, status: int | None, killed_for_memory: int) -> Cause:
    """The cause, by the signal that ended the engine or a process of its own, where its words show none.

    `killed_for_memory`: processes of this container that were killed for it while the engine lived.
    """
    if cause.failure is not Failure.DIED or cause.remedy is not None:
        return cause
    number = cause.signal or _signal_of(status)
    if killed_for_memory:
        line = f"the kernel killed a process of it because the container's memory was used up; last line: {cause.line}"
        return replace(cause, failure=Failure.HOST_MEMORY, line=line)
    if number == signal.SIGILL:
        line = f"it used an instruction that this CPU lacks (SIGILL); last line: {cause.line}"
        return replace(cause, failure=Failure.HARDWARE, line=line)
    if number == signal.SIGBUS:
        line = f"it could not use its shared memory (SIGBUS); last line: {cause.line}"
        return replace(cause, failure=Failure.HOST_MEMORY, line=line, remedy="give the container a larger /dev/shm")
    if cause.signal is not None:
        return replace(cause, line=f"a process of it was killed by {_name(cause.signal)}; last line: {cause.line}")
    return cause


def _signal_of(status: int | None) -> int | None:
    if status is None:
        return None
    number = -status if status < 0 else status - SHELL_ADDS
    return number if number > 0 else None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
