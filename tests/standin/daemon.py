"""The life of a stand-in daemon: start, restart on SIGHUP, stop on SIGTERM, with the faults that tests switch on.

    SIGHUP -> (late_s) -> restart          stuck: SIGHUP is forgotten
    watched file recreated -> restart      start() asks for a retry -> restart after so many seconds
    SIGTERM -> stop, return                crash: raise, with nothing put in order

The device plugin, feature discovery and the MPS control daemon all live so, as NVIDIA's three do.
"""

import logging
import queue
import signal
import time
from enum import Enum, auto
from pathlib import Path
from types import FrameType
from typing import Protocol

from .settings import Faults

POLL_S = 0.5  # how often the watched file is looked at

log = logging.getLogger(__name__)


class Service(Protocol):
    """What a daemon serves; one method per turn of its life."""

    def start(self) -> float | None:
        """Load the configuration and serve it; seconds until it must be tried again, None when that is not needed."""

    def stop(self) -> None:
        """End in good order; nothing to do where `start` got nowhere."""

    def take(self, faults: Faults) -> None:
        """Apply the faults that concern the running service; raise `KilledError` to die of them."""


class KilledError(Exception):
    """The daemon dies here and now, as if killed."""


class _Event(Enum):
    RELOAD = auto()
    STOP = auto()


class Daemon:
    """Runs one service. `reload`, `stop` and `set_faults` may be called from any thread or signal handler."""

    def __init__(self, service: Service, *, watched: Path | None = None, poll_s: float = POLL_S) -> None:
        self._service = service
        self._watched = watched
        self._poll_s = poll_s
        self._events: queue.SimpleQueue[_Event | Faults] = queue.SimpleQueue()
        self._faults = Faults()
        self._restart_at: float | None = None

    def reload(self) -> None:
        """What SIGHUP does."""
        self._events.put(_Event.RELOAD)

    def stop(self) -> None:
        """What SIGTERM does."""
        self._events.put(_Event.STOP)

    def set_faults(self, faults: Faults) -> None:
        """Switch faults on and off."""
        self._events.put(faults)

    def obey_signals(self) -> None:
        """Wire the process's signals; main thread only."""
        calls = {signal.SIGHUP: self.reload, signal.SIGTERM: self.stop, signal.SIGINT: self.stop}

        def handle(number: int, _frame: FrameType | None) -> None:
            calls[signal.Signals(number)]()

        for number in calls:
            signal.signal(number, handle)

    def run(self, faults: Faults = Faults()) -> None:  # noqa: B008 - frozen
        """Serve until stopped, with these faults from the start. Raises what `start` raises, and KilledError."""
        seen = self._identity()
        self._faults = faults
        self._service.take(faults)
        self._start()
        while True:
            match self._next():
                case _Event.STOP:
                    log.info("Received signal, shutting down.")
                    self._service.stop()
                    return
                case _Event.RELOAD if self._faults.stuck:
                    log.info("Received SIGHUP; stuck, so nothing comes of it.")
                case _Event.RELOAD:
                    log.info("Received SIGHUP, restarting.")
                    self._restart_at = time.monotonic() + self._faults.late_s
                case Faults() as faults:
                    self._faults = faults
                    self._service.take(faults)
                case None:
                    pass
            now_seen = self._identity()
            if now_seen is not None and now_seen != seen:
                log.info("inotify: %s created, restarting.", self._watched)
                self._restart_at = time.monotonic()
            seen = now_seen or seen
            if self._restart_at is not None and time.monotonic() >= self._restart_at:
                self._service.stop()
                self._start()

    def _start(self) -> None:
        retry_s = self._service.start()
        self._restart_at = None if retry_s is None else time.monotonic() + retry_s

    def _next(self) -> _Event | Faults | None:
        wait_s = (
            self._poll_s
            if self._restart_at is None
            else max(0.0, min(self._poll_s, self._restart_at - time.monotonic()))
        )
        try:
            return self._events.get(timeout=wait_s)
        except queue.Empty:
            return None

    def _identity(self) -> tuple[int, int] | None:
        """What changes when the watched file is made anew."""
        try:
            stat = self._watched.stat() if self._watched else None
        except FileNotFoundError:
            return None
        return (stat.st_ino, stat.st_ctime_ns) if stat else None
