"""What a test knows of a cluster, however it was made."""

import json
import subprocess
import time
from pathlib import Path
from typing import Protocol, runtime_checkable

from .gotools import binary

LOG_TAIL_LINES = 12
LINE_LENGTH = 240

ESTABLISHED_SECONDS = 120.0
KUBECTL_SECONDS = 300.0
"""How long a kubectl may take without another limit. It ends by itself: this is for one that hangs."""

SCENE = {
    "deployments": ("get", "slmdeployments", "--all-namespaces", "--output", "wide"),
    "pods": ("get", "pods", "--all-namespaces", "--output", "wide"),
    "warnings": ("get", "events", "--all-namespaces", "--field-selector=type=Warning", "--sort-by=.lastTimestamp"),
    "operator": ("logs", "deployment/slm-operator", "--namespace=slm-system", "--tail=30"),
}
"""What a person would ask first when a test failed."""


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

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_s: float = KUBECTL_SECONDS) -> str:
        """Run kubectl of the cluster's own version and give its stdout."""


def kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None, timeout_s: float = KUBECTL_SECONDS) -> str:
    """Run kubectl and give its stdout; KubectlError when it fails."""
    # What it knows of the API goes with the cluster: a later one may have the same address.
    cache = f"--cache-dir={kubeconfig.with_name('kubectl-cache')}"
    done = subprocess.run(
        [binary("kubectl"), f"--kubeconfig={kubeconfig}", cache, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode:
        raise KubectlError(f"kubectl {' '.join(arguments)} failed ({done.returncode}): {done.stderr.strip()}")
    return done.stdout


def apply_crds(cluster: Cluster, *paths: Path) -> None:
    """Apply CRDs and wait until all of the cluster are established, and their kinds are served to anybody who asks."""
    for path in paths:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(path))
    deadline = time.monotonic() + ESTABLISHED_SECONDS
    # NB: `kubectl wait` fails on a CRD that has no conditions yet.
    while not (_are_established(cluster) and _are_served(cluster)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all CRDs are established after {ESTABLISHED_SECONDS:.0f} s")
        time.sleep(0.1)


def _are_established(cluster: Cluster) -> bool:
    crds = json.loads(cluster.kubectl("get", "crd", "--output", "json"))["items"]
    reported = [{one["type"]: one["status"] for one in crd.get("status", {}).get("conditions") or ()} for crd in crds]
    return all(conditions.get("Established") == "True" for conditions in reported)


def _are_served(cluster: Cluster) -> bool:
    """NB: the list of kinds, from which kubectl learns what `slmd` is, is written a moment after the condition."""
    crds = cluster.kubectl("get", "crd", "--output", "jsonpath={.items[*].metadata.name}").split()
    try:
        reported = cluster.kubectl("api-resources", "--output", "name").split()
    except KubectlError:  # somebody else's API does not answer just now, and so the list is not whole
        return False
    return set(crds) <= set(reported)


def enforce_restricted(cluster: Cluster, namespace: str) -> None:
    """Enforce the restricted Pod Security Standard. NB: admission hears of a label a moment after it was written."""
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    deadline = time.monotonic() + ESTABLISHED_SECONDS
    forbidden = ("run", "forbidden", "--image=none", "--dry-run=server", "--namespace", namespace)
    while time.monotonic() < deadline:
        try:
            cluster.kubectl(*forbidden)
        except KubectlError as error:
            if "violates PodSecurity" not in str(error):
                raise
            return
        time.sleep(0.1)
    raise TimeoutError(f"a pod with every freedom is admitted to {namespace} after {ESTABLISHED_SECONDS:.0f} s")


def audit_lines(log: Path) -> list[str]:
    """The lines of an audit log that is being written; the last may not be whole yet. None before there is a log."""
    text = log.read_text() if log.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def scene(cluster: Cluster) -> dict[str, str]:
    """What the cluster shows now, by question; a cluster that does not answer says why."""
    return {title: _ask(cluster, arguments) for title, arguments in SCENE.items()}


def _ask(cluster: Cluster, arguments: tuple[str, ...]) -> str:
    try:
        return shortened(cluster.kubectl(*arguments, "--request-timeout=10s", timeout_s=15).splitlines()[-40:])
    except (KubectlError, subprocess.TimeoutExpired) as error:
        return str(error)


def shortened(lines: list[str]) -> str:
    """Lines as a report can bear them."""
    return "\n".join(line if len(line) <= LINE_LENGTH else f"{line[:LINE_LENGTH]}..." for line in lines)


def log_tails(cluster: Cluster) -> dict[str, str]:
    """The last lines of each component's log, by component: what the report of a failed test shows."""
    return {path.stem: tail(path) for path in sorted(cluster.logs.glob("*.log"))}


def tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a file that may be large, absent, or being written."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 400 * lines))
            return shortened(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"(no log: {error})"
