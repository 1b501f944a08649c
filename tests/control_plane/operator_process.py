"""The operator as a process of its own, watched through its log and the API server's audit log."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.testbed.cluster import audit_lines
from tests.testbed.control_plane import ControlPlane

Line = dict[str, Any]
ROOT = Path(__file__).parents[2]
PROGRAM = (str(Path(sys.executable).with_name("slm-operator")),)


@dataclass
class OperatorProcess:
    """A running `slm-operator run`. Lines of its log are JSON."""

    process: subprocess.Popen[str]
    lines: list[Line] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            with self._news:
                self.lines.append(json.loads(text) if text.startswith("{") else {"message": text})
                self._news.notify_all()

    def wait_for(self, wanted: Callable[[Line], bool], timeout_s: float = 120) -> Line:
        """The first line of the log that is wanted, as soon as it is there."""
        with self._news:
            found = self._news.wait_for(lambda: next(filter(wanted, self.lines), None), timeout_s)
        assert found, f"not in the log within {timeout_s} s:\n{self.log()}"
        return found

    def said(self, message: str, timeout_s: float = 120) -> Line:
        return self.wait_for(lambda line: line["message"] == message, timeout_s)

    def done(self) -> list[str]:
        """The actions that were carried out, in order."""
        return [line["action"] for line in self.lines if line["message"] == "done"]

    def log(self) -> str:
        return "\n".join(json.dumps(line) for line in self.lines)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60)


@contextlib.contextmanager
def operator(
    plane: ControlPlane,
    *arguments: str,
    name: str = "operator-0",
    program: Sequence[str] = PROGRAM,
    environment: Mapping[str, str] | None = None,
) -> Iterator[OperatorProcess]:
    """An operator against this control plane, with the identity of a pod of this name; gone with the block."""
    command = [*program, "run", f"--kubeconfig={plane.kubeconfig}", "--liveness-port=0", "--metrics-port=0", *arguments]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"POD_NAME": name} | dict(environment or {}),
    )
    running = OperatorProcess(process)
    reader = threading.Thread(target=running.read, daemon=True)
    reader.start()
    try:
        yield running
    finally:
        if process.poll() is None:
            running.kill()
        reader.join(timeout=60)
        print(running.log())  # pytest shows it under a failed test
        assert process.stderr is not None
        process.stderr.close()


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def requests_since(plane: ControlPlane, since: str, namespace: str | None = None) -> list[str]:
    """What operators have asked of the API server, watches and the Lease left out: `verb resource name`.

    `namespace`: what is in another one is left out too. Those of tests before go in their own time, object by object.
    """
    found = []
    for text in audit_lines(plane.audit_log):
        entry = json.loads(text)
        what = entry.get("objectRef") or {}
        if (
            entry.get("userAgent") == "slm-operator"
            and entry["requestReceivedTimestamp"] >= since
            and entry["verb"] != "watch"
            and what.get("resource") != "leases"
            and namespace in {None, what.get("namespace", namespace)}
        ):
            found.append(" ".join((entry["verb"], what.get("resource", entry["requestURI"]), what.get("name", ""))))
    return found


def wait_until(probe: Callable[[], Any], timeout_s: float = 180) -> Any:
    """What the probe gives, once that is true. The API is polled, as a user's `kubectl wait` does for what it cannot watch."""
    deadline = time.monotonic() + timeout_s
    while not (found := probe()):
        assert time.monotonic() < deadline, f"not so within {timeout_s} s"
        time.sleep(0.1)
    return found
