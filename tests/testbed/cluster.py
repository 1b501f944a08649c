"""What a test knows of a cluster, however it was made."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .gotools import binary

LOG_TAIL_LINES = 25


class KubectlError(RuntimeError):
    """kubectl refused or failed; the message has the arguments and what it printed."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster. `logs` holds a *.log file per component and is kept after the cluster has gone."""

    kubeconfig: Path
    logs: Path

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_s: float = 120) -> str:
        """Run kubectl of the cluster's own version and give its stdout; KubectlError when it fails."""
        done = subprocess.run(
            [binary("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)} failed ({done.returncode}): {done.stderr.strip()}")
        return done.stdout

    def env(self) -> dict[str, str]:
        """The environment in which a program (the operator, helm, a user's shell) talks to this cluster."""
        path = f"{binary('kubectl').parent}:{os.environ.get('PATH', '')}"
        return os.environ | {"KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def log_tails(self) -> dict[str, str]:
        """The last lines of each component's log, by component; for the report of a failed test."""
        return {path.stem: tail(path) for path in sorted(self.logs.glob("*.log"))}


def tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a file that may be large, absent, or being written."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 400 * lines))
            return b"\n".join(file.read().splitlines()[-lines:]).decode(errors="replace")
    except OSError as error:
        return f"(no log: {error})"
