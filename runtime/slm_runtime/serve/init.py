"""The first process of a pack's container, and of a pack without one: nothing of the pack outlives it.

It starts the supervisor as its child, passes signals on to it, waits for every orphan of an engine, and ends what is left
once the supervisor is gone, however that went. Exists because a supervisor that also is the kernel's init would have to
wait for children that it does not know beside those that it does. Assumes one thread. Must never decide anything.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from typing import TYPE_CHECKING

from slm_runtime.processes import adopt_orphans, end_descendants, end_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that are passed on, and end a pack."""
SCRATCH_PREFIX = "slm-pack-"
SIGNALLED = 128
"""What is added to a signal's number in an exit status."""


def run_as_init(supervise: Callable[[], int]) -> int:
    """Run the supervisor in a child. Returns its exit status, when nothing of it is left."""
    adopt_orphans()
    # NB: a script's `&` has us ignore SIGINT, and nohup SIGHUP: whoever starts us so means it.
    ignored = {number for number in ENDING if signal.getsignal(number) is signal.SIG_IGN} - {signal.SIGTERM}
    heard = {*ENDING, signal.SIGCHLD} - ignored
    scratch = tempfile.mkdtemp(prefix=SCRATCH_PREFIX)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    first = os.getpid()
    child = os.fork()
    if child == 0:
        os.setsid()  # NB: a terminal's Ctrl-C comes to the first process alone, which passes it on, once
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        end_with_parent(first)
        tempfile.tempdir = scratch
        _leave(supervise)
    status = _wait_for(child, heard)
    end_descendants(first)
    shutil.rmtree(scratch, ignore_errors=True)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return status


def _leave(supervise: Callable[[], int]) -> None:
    """NB: what the parent would do at its end (flush, join, hooks of a test) is not for the child."""
    status = 1
    try:
        status = supervise()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _wait_for(child: int, heard: set[signal.Signals]) -> int:
    while True:
        number = signal.sigwait(heard)
        if number != signal.SIGCHLD:
            os.kill(child, number)  # it is not waited for yet, so its number is its own
            continue
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            pid, status = ended
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else SIGNALLED - code
