"""Processes as the kernel shows them: groups, families, identities, and an end that leaves nothing behind.

Exists because an engine's worker whose parent was killed belongs to nobody, and because the number of a process that is
gone is given to the next one. Assumes Linux. Must never end a process that neither descends from this one nor belongs to a
group that it has started.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SHM = "/dev/shm/"  # noqa: S108 - where the kernel has it
PATIENCE_SECONDS = 5.0
_UNRECLAIMABLE = re.compile(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", re.MULTILINE)
ZOMBIE = "Z"


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, and no other that is given its number later."""

    pid: int
    started: int
    """In ticks since the machine booted."""

    @property
    def is_alive(self) -> bool:
        """It runs, or could: it is neither gone nor a zombie."""
        return identity_of(self.pid) == self


@dataclass(frozen=True, slots=True)
class _Stat:
    pid: int
    state: str
    parent: int
    group: int
    started: int


def identity_of(pid: int) -> Identity | None:
    """Who has this number now; None for nobody, and for a zombie."""
    stat = _stat(pid)
    return None if stat is None or stat.state == ZOMBIE else Identity(pid, stat.started)


def group_of(leader: int) -> list[int]:
    """Process ids of the group that `leader` leads, zombies excluded."""
    return [one.pid for one in _all() if one.group == leader and one.state != ZOMBIE]


def anonymous_bytes(leaders: Iterable[int]) -> dict[int, int]:
    """Of each leader's group, the memory that the kernel cannot take back: neither files' pages nor what is mapped of them."""
    found = dict.fromkeys(leaders, 0)
    for one in _all():
        if one.group in found:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{one.pid}/status").read_text()
                found[one.group] += sum(1024 * int(kib) for kib in _UNRECLAIMABLE.findall(status))
    return found


async def group_ends(leader: int, patience_seconds: float) -> bool:
    """Wait until nobody of the group lives. False: the patience was over first."""
    deadline = time.monotonic() + patience_seconds
    while group_of(leader):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def shared_memory_of(pids: Iterable[int]) -> set[str]:
    """Files in /dev/shm that these processes have mapped."""
    found: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.update(re.findall(rf"{SHM}\S+", Path(f"/proc/{pid}/maps").read_text()))
    return found


def remove_shared_memory(files: Iterable[str]) -> None:
    """Remove those of these files that nobody has mapped any more: of an MPS server's its other clients live."""
    for path in set(files) - shared_memory_of(one.pid for one in _all()):
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - one name in a memory file system


def adopt_orphans() -> None:
    """Descendants whose parents end become children of this process, not of init."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(parent: int) -> None:
    """Get SIGTERM when the parent dies. NB: the kernel forgets this when the process changes its user."""
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was quicker
        os.kill(os.getpid(), signal.SIGTERM)


def descendants(ancestor: int) -> list[int]:
    """Process ids of all that descend from a process, zombies excluded."""
    return [one.pid for one in _family(ancestor) if one.state != ZOMBIE]


def end_descendants(ancestor: int, watched: int | None = None) -> list[int]:
    """Kill all that descend from a process, and remove the shared memory that they alone had mapped.

    `watched`: one for whose end somebody else waits. Returns those that even SIGKILL did not end (a driver may hold a
    process) within the patience.
    """
    shared: set[str] = set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        family = _family(ancestor)
        alive = [one.pid for one in family if one.state != ZOMBIE]
        for one in family:
            if one.state == ZOMBIE and one.pid != watched:
                with contextlib.suppress(ChildProcessError):  # another's child
                    os.waitpid(one.pid, os.WNOHANG)
        shared |= shared_memory_of(alive)
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not alive:
            break
        if time.monotonic() > deadline:
            return alive
        time.sleep(0.02)
    remove_shared_memory(shared)
    return []


def _family(ancestor: int) -> list[_Stat]:
    children: dict[int, list[_Stat]] = {}
    for one in _all():
        children.setdefault(one.parent, []).append(one)
    found: list[_Stat] = []
    waiting = [ancestor]
    while waiting:
        born = children.get(waiting.pop(), [])
        found += born
        waiting += [one.pid for one in born]
    return found


def _all() -> Iterator[_Stat]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None:
            yield stat


def _stat(pid: int) -> _Stat | None:
    try:
        # comm may hold spaces and parentheses: the fields after it are counted from the last one.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return _Stat(pid, fields[0], int(fields[1]), int(fields[2]), int(fields[19]))


def prctl(option: int, value: int) -> None:
    """Ask the kernel something of this process. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")
