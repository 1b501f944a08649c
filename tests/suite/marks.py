"""Which processes a stage or a test has started: they carry its mark in their environment, whoever their parent is now.

Exists because a run that is ended by its limit has no time to look after each child, and an orphan has no parent to
ask. Two exceptions carry no mark, since they belong to more than one: the private dockerd, and a cluster's components.
It must never end a process that carries no mark.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.testbed.docker_host import Process

if TYPE_CHECKING:
    from collections.abc import Iterable

STAGE = "SLM_STAGE"
"""The variable that names run and stage, set by the runner."""
TEST = "PYTEST_CURRENT_TEST"
"""The variable that names test and phase, set by pytest."""
GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Marked:
    """A process with a mark, and what a person wants to know of it."""

    process: Process
    command: str
    test: str
    """What pytest called the test when the process was started; empty where it was none's."""

    def __str__(self) -> str:
        return f"{self.command[:120]} (pid {self.process.pid}{', of ' + self.test if self.test else ''})"


def without(*variables: str) -> dict[str, str]:
    """This environment without these marks, for what outlives the test or stage that happens to start it."""
    return {name: value for name, value in os.environ.items() if name not in variables}


def started_by(variable: str, value: str) -> list[Marked]:
    """The processes that live and carry this mark, ourselves and our ancestors left out."""
    wanted, own = f"{variable}={value}".encode(), _ancestry()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in own:
            with contextlib.suppress(OSError):  # it has just ended, or is somebody else's
                environment = (entry / "environ").read_bytes().split(b"\0")
                if wanted in environment:
                    found.append(_marked(entry, environment))
    return found


def left_by(variable: str, value: str) -> list[Marked]:
    """Those that still live after a grace: what ends by itself when its parent has gone is not left behind."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (found := started_by(variable, value)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def end(those: Iterable[Marked]) -> None:
    """Ask them to end, and kill those that have not after a grace; all together, so that the grace is waited once."""
    left = [one.process for one in those]
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := [one for one in left if one.alive]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        process.stop(grace_s=0)


def _marked(entry: Path, environment: list[bytes]) -> Marked:
    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    named = f"{TEST}=".encode()
    test = next((word[len(named) :].decode() for word in environment if word.startswith(named)), "")
    return Marked(Process.of(int(entry.name)), command, test)


def _ancestry() -> set[int]:
    """Our own number and those of all who started us."""
    found, pid = set(), os.getpid()
    while pid:
        found.add(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
    return found
