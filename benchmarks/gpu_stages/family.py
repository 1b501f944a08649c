"""What a stage asks of its own processes, beside what the product does (`slm_runtime.processes`)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from slm_runtime.processes import descendants, prctl

PR_SET_NO_NEW_PRIVS = 38


def become_ordinary(uid: int) -> None:
    """Give up being root, for good: another user, no capabilities, no way to new ones. Nothing happens to other users."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def named(ancestor: int, program: str) -> list[int]:
    """Descendants that run a program of this name."""
    return [pid for pid in descendants(ancestor) if program in _words(pid)]


def _words(pid: int) -> set[str]:
    """File names of the first words of a process's command line; a script's own name is the second."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return {Path(os.fsdecode(word)).name for word in words[:2] if word}
    return set()
