"""What a test of faults stands on: a control plane, a proxy before it, an operator that goes through it and is kept running.

Everything is asked of the API server itself, never of the operator. Must never know a single fault.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.control_plane.fault_proxy import FaultProxy
from tests.control_plane.gpu_fleet import is_ready
from tests.control_plane.operator_process import OperatorProcess, operator, wait_until
from tests.testbed.control_plane import ControlPlane

SETTLED_S = 300
"""A limit, and no promise: a busy machine needs many times what docs/reference/reliability.md shows."""
COMMAND = "make record faults"


@dataclass
class Outcome:
    """What one run of one fault came to. It stays `failed` unless its test reaches the end."""

    fault: str
    how: str
    met: int = 0
    """How often the operator was hit by it, counted by what hits."""
    converged_seconds: float | None = None
    restarts: int = 0
    result: str = "failed"


@dataclass
class Keeper:
    """Keeps an operator running, as a kubelet would."""

    plane: ControlPlane
    arguments: tuple[str, ...]
    kubeconfig: Path
    restarts: int = 0
    exits: list[int] = field(default_factory=list)
    running: OperatorProcess | None = None
    may_run: threading.Event = field(default_factory=threading.Event)
    _stop: threading.Event = field(default_factory=threading.Event)

    def keep(self) -> None:
        self.may_run.set()
        while not self._stop.is_set():
            self.may_run.wait()
            with operator(self.plane, f"--kubeconfig={self.kubeconfig}", *self.arguments, name="kept") as running:
                self.running = running
                while running.process.poll() is None and not self._stop.wait(0.1):
                    pass
            if not self._stop.is_set():
                self.exits.append(running.process.returncode)
                self.restarts += 1

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """In a thread of its own while the block lasts."""
        thread = threading.Thread(target=self.keep)
        thread.start()
        try:
            yield
        finally:
            self.end()
            thread.join()

    def end(self) -> None:
        """No operator from now on."""
        self._stop.set()
        self.may_run.set()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Its operator ended in order, and no other until the block is left."""
        assert self.running is not None
        self.may_run.clear()
        self.running.terminate()
        try:
            yield
        finally:
            self.may_run.set()


@dataclass
class Bed:
    """A plane, a proxy before it, an operator that goes through the proxy and is kept running."""

    plane: ControlPlane
    proxy: FaultProxy
    keeper: Keeper
    outcomes: list[Outcome] = field(default_factory=list)

    def get(self, namespace: str, *what: str) -> Any:
        return json.loads(self.plane.kubectl("get", *what, "--namespace", namespace, "-o", "json"))

    def items(self, namespace: str, *what: str) -> list[Any]:
        found: list[Any] = self.get(namespace, *what)["items"]
        return found

    def apply(self, namespace: str, body: dict[str, Any]) -> None:
        body = body | {"metadata": body["metadata"] | {"namespace": namespace}}
        self.plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(body))

    def ready(self, namespace: str, names: set[str]) -> None:
        def probe() -> bool:
            found = self.items(namespace, "slmd")
            return {one["metadata"]["name"] for one in found} == names and all(map(is_ready, found))

        wait_until(probe, SETTLED_S)

    def converged(self, namespace: str, *names: str) -> float:
        """Wait until these and no others are there, Ready and whole, and no node is in a change. Gives the seconds."""
        began = time.monotonic()
        self.ready(namespace, set(names))
        wait_until(lambda: children(self, namespace) == whole(*names), SETTLED_S)
        wait_until(lambda: nodes_rest(self), SETTLED_S)  # those of the test before are given back, for one
        return time.monotonic() - began

    @contextlib.contextmanager
    def suffers(self, fault: str, how: str) -> Iterator[Outcome]:
        """A test of one fault: its outcome is kept, whether it holds or not."""
        outcome, restarts = Outcome(fault, how), self.keeper.restarts
        self.outcomes.append(outcome)
        try:
            yield outcome
        finally:
            outcome.restarts = self.keeper.restarts - restarts
        assert outcome.met > 0, f"{fault} was never met: this run shows nothing"
        outcome.result = "held"


def kept_outcomes(path: Path, about: Any, outcomes: list[Any]) -> list[Any]:
    """These outcomes after those of other faults that the file has from the same commit: two modules write one file."""
    kept = json.loads(path.read_text()) if path.exists() else None
    same = kept is not None and kept["about"]["commit"] == about["commit"]
    new = {one["fault"] for one in outcomes}
    return [one for one in kept["outcomes"] if one["fault"] not in new] + outcomes if same else outcomes


def pods_of(bed: Bed, namespace: str, name: str) -> set[str]:
    found = bed.items(namespace, "pods", f"--selector=slm-operator.io/deployment={name}")
    return {one["metadata"]["uid"] for one in found if not one["metadata"].get("deletionTimestamp")}


def children(bed: Bed, namespace: str) -> list[str]:
    """What there is of each kind that the operator makes, its own owner still there."""
    owners = {one["metadata"]["uid"] for one in bed.items(namespace, "slmd")}
    found = bed.items(namespace, "deployments,services,pdb")
    return sorted(
        f"{one['kind']} {one['metadata']['name']}" if owner_of(one) in owners else f"orphan {one['metadata']['name']}"
        for one in found
    )


def owner_of(raw: Any) -> str:
    return str(next((one["uid"] for one in raw["metadata"].get("ownerReferences", ()) if one.get("controller")), ""))


def whole(*names: str) -> list[str]:
    return sorted(f"{kind} {name}" for kind in ("Deployment", "Service", "PodDisruptionBudget") for name in names)


def nodes_rest(bed: Bed) -> bool:
    """Whether no node is closed or marked as in a change."""
    nodes = bed.items("default", "nodes", "--selector=slm-operator.io/managed")
    return not any(
        "slm-operator.io/change-started" in node["metadata"].get("annotations", {})
        or any(taint["key"] == "slm-operator.io/changing" for taint in node["spec"].get("taints", ()))
        for node in nodes
    )
