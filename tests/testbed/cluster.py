"""What a test knows of a cluster, however it was made."""

import subprocess
from pathlib import Path
from typing import Protocol, runtime_checkable

from .gotools import binary

LOG_TAIL_LINES = 25


class KubectlError(RuntimeError):
    """kubectl refused or failed; the message has the arguments and what it printed."""


@runtime_checkable
class Cluster(Protocol):
    """A running cluster."""

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig, in the cluster's own folder."""

    @property
    def logs(self) -> Path:
        """A folder with a *.log file for each component."""

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_s: float = 120) -> str:
        """Run kubectl of the cluster's own version and give its stdout."""


def kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None, timeout_s: float = 120) -> str:
    """Run kubectl and give its stdout; KubectlError when it fails."""
    done = subprocess.run(
        [binary("kubectl"), f"--kubeconfig={kubeconfig}", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode:
        raise KubectlError(f"kubectl {' '.join(arguments)} failed ({done.returncode}): {done.stderr.strip()}")
    return done.stdout


def log_tails(cluster: Cluster) -> dict[str, str]:
    """The last lines of each component's log, by component: what the report of a failed test shows."""
    return {path.stem: tail(path) for path in sorted(cluster.logs.glob("*.log"))}


def tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a file that may be large, absent, or being written."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 400 * lines))
            return b"\n".join(file.read().splitlines()[-lines:]).decode(errors="replace")
    except OSError as error:
        return f"(no log: {error})"
