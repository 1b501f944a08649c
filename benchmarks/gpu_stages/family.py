"""Processes that descend from this one, and their end: engines, daemons and what they leave in /dev/shm.

Exists because a daemon, and an engine's worker whose parent was killed, belong to no process group of ours. A process
that adopts orphans (Linux's child subreaper) keeps them as its descendants. Must never end any other process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
SHM = "/dev/shm/"  # noqa: S108 - where the kernel has it
PATIENCE_SECONDS = 5.0


def adopt_orphans() -> None:
    """Descendants whose parents end become children of this process, not of init."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(parent: int) -> None:
    """Get SIGTERM when the parent dies. NB: the kernel forgets this when the process changes its user."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was quicker
        os.kill(os.getpid(), signal.SIGTERM)


def become_ordinary(uid: int) -> None:
    """Give up being root, for good: another user, no capabilities, no way to new ones. Nothing happens to other users."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def descendants(ancestor: int) -> list[int]:
    """Process ids of all that descend from a process, zombies excluded."""
    return _family(ancestor)[0]


def _family(ancestor: int) -> tuple[list[int], list[int]]:
    """Descendants that live, and those that are dead and were not waited for."""
    children: dict[int, list[int]] = {}
    dead = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # comm may hold spaces and parentheses: the fields after it are counted from the last one.
                state, parent, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(parent), []).append(int(entry.name))
                if state == "Z":
                    dead.add(int(entry.name))
    found: list[int] = []
    waiting = [ancestor]
    while waiting:
        born = children.get(waiting.pop(), [])
        found += born
        waiting += born
    return [pid for pid in found if pid not in dead], [pid for pid in found if pid in dead]


def named(ancestor: int, program: str) -> list[int]:
    """Descendants that run a program of this name."""
    return [pid for pid in descendants(ancestor) if program in _words(pid)]


def end_descendants(ancestor: int, watched: int | None = None) -> list[int]:
    """Kill all that descend from a process, and remove the shared memory that they alone had mapped.

    `watched`: one for whose end somebody else waits. Returns those that even SIGKILL did not end (a driver may hold a
    process) within the patience.
    """
    shared: set[str] = set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        alive, dead = _family(ancestor)
        for pid in dead:
            if pid != watched:
                with contextlib.suppress(ChildProcessError):  # another's child
                    os.waitpid(pid, os.WNOHANG)
        for pid in alive:
            shared |= _shared_memory(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not alive:
            break
        if time.monotonic() > deadline:
            return alive
        time.sleep(0.02)
    for path in shared - _mapped_by_anyone():
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - one name in a memory file system
    return []


def _words(pid: int) -> set[str]:
    """File names of the first words of a process's command line; a script's own name is the second."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return {Path(os.fsdecode(word)).name for word in words[:2] if word}
    return set()


def _shared_memory(pid: int) -> set[str]:
    with contextlib.suppress(OSError):
        return set(re.findall(rf"{SHM}\S+", Path(f"/proc/{pid}/maps").read_text()))
    return set()


def _mapped_by_anyone() -> set[str]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return set().union(*map(_shared_memory, pids))


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")
