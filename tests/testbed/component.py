"""One process of a cluster: start, stop, kill, pause, and wait until it serves.

Its pid is recorded in the cluster's folder before anybody can need it, so that a later run can end
what a killed run left. A component must never outlive the cluster that made it.
"""

import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGSTOP

from tests.suite.marks import TEST, without

from .cluster import tail
from .docker_host import Process

POLL_S = 0.03
READY_TIMEOUT_S = 180.0
# The components make their own certificates; their readiness is asked on loopback.
_UNVERIFIED = ssl._create_unverified_context()


class ComponentError(RuntimeError):
    """A component ended or did not become ready; the message has the end of its log."""


def wait_until(done: Callable[[], bool], what: str, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Poll where the other side gives no event; TimeoutError names what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(POLL_S)


def answers_ok(url: str, token: str | None = None) -> bool:
    """Whether a GET is answered 200; a refused connection and every other answer are a no."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=5, context=_UNVERIFIED) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@dataclass(slots=True)
class Component:
    """A process with a log and a readiness address. Its ports and data stay the same over restarts."""

    name: str
    command: tuple[str, ...]
    records: Path  # folder of pid records
    log: Path
    ready_url: str
    token: str | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def running(self) -> bool:
        """Whether the process lives (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The number of the live process; ComponentError where there is none."""
        if self._process is None or not self.running:
            raise ComponentError(f"{self.name} is not running")
        return self._process.pid

    @property
    def record(self) -> Path:
        """Where its pid is written down while it may run."""
        return self.records / f"{self.name}.json"

    def start(self) -> None:
        """Start it; its log goes on where it was. ComponentError where it runs already."""
        if self.running:
            raise ComponentError(f"{self.name} runs already (pid {self.pid})")
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches only us, and we end the components in order.
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=without(TEST),  # a test may restart what belongs to its session
            )
        with suppress(ProcessLookupError):  # ended at once: wait_ready says why
            Process.of(self._process.pid).write(self.record)

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when it serves; ComponentError when it ends instead, or takes too long."""

        def ready_or_ended() -> bool:
            return not self.running or answers_ok(self.ready_url, self.token)

        try:
            wait_until(ready_or_ended, self.name, timeout_s)
        except TimeoutError as error:
            raise ComponentError(f"{self._says('did not become ready')}") from error
        if self._process is None or self._process.poll() is not None:
            raise ComponentError(self._says("ended before it was ready"))

    def stop(self, grace_s: float = 10.0) -> None:
        """End it as its supervisor would: SIGTERM, then SIGKILL after `grace_s` seconds."""
        if self._process is not None and self.running:
            self._process.terminate()
            self.resume()  # a stopped process takes its SIGTERM only when it goes on
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        self.kill()

    def kill(self) -> None:
        """End it at once, as a lost machine would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.record.unlink(missing_ok=True)

    def pause(self) -> None:
        """Freeze it: it keeps its connections and answers nothing."""
        if self._process is not None:
            self._process.send_signal(SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        if self._process is not None:
            self._process.send_signal(SIGCONT)

    def restart(self, grace_s: float = 10.0) -> None:
        """Stop it, start it, and return when it serves again."""
        self.stop(grace_s)
        self.start()
        self.wait_ready()

    def _says(self, what: str) -> str:
        return f"{self.name} {what} (log: {self.log}); its log ends:\n{tail(self.log)}"
