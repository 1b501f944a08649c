"""What breaks under a running operator, and that afterwards everything is as it should be.

In each case one deployment serves before, and while the fault lasts one is made, one edited and one deleted. Afterwards:
converged, nothing orphaned, nothing double, the pods that served untouched. `FAULT_MATRIX=docs/reliability.md pytest ...`
writes the table of the run into that page.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.control_plane.fault_proxy import Fault, FaultProxy, error, fault_proxy, gone
from tests.control_plane.gpu_fleet import add_gpu_nodes, install, is_ready, plugins, slm_deployment, slm_profile
from tests.control_plane.operator_process import OperatorProcess, operator, wait_until
from tests.testbed.control_plane import ControlPlane

pytestmark = [
    pytest.mark.control_plane,
    # What was cut off on purpose is closed by the collector, in the middle of whichever test.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SETTLED_S = 90
FAULT_S = 4.0
SETTINGS = "nodes: {maxChanging: 100, projectionSeconds: 0}\n"


@dataclass
class Keeper:
    """Keeps an operator running, as a kubelet would."""

    plane: ControlPlane
    arguments: tuple[str, ...]
    kubeconfig: Path
    restarts: int = 0
    exits: list[int] = field(default_factory=list)
    running: OperatorProcess | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def keep(self) -> None:
        while not self._stop.is_set():
            with operator(self.plane, f"--kubeconfig={self.kubeconfig}", *self.arguments, name="kept") as running:
                self.running = running
                while running.process.poll() is None and not self._stop.wait(0.1):
                    pass
            if not self._stop.is_set():
                self.exits.append(running.process.returncode)
                self.restarts += 1

    def end(self) -> None:
        self._stop.set()


@dataclass
class Bed:
    """A plane, a proxy before it, an operator that goes through the proxy and is kept running."""

    plane: ControlPlane
    proxy: FaultProxy
    keeper: Keeper
    rows: list[tuple[str, str, int, float, int]] = field(default_factory=list)

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


@pytest.fixture(scope="module")
def bed(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "settings.yaml").write_text(SETTINGS)
    install(control_plane)
    add_gpu_nodes(control_plane, 6, gpus=4, prefix="faulty")
    with plugins(control_plane), fault_proxy(control_plane, folder) as proxy:
        keeper = Keeper(control_plane, (f"--config={folder}/settings.yaml",), proxy.kubeconfig)
        thread = threading.Thread(target=keeper.keep)
        thread.start()
        found = Bed(control_plane, proxy, keeper)
        try:
            yield found
        finally:
            keeper.end()
            thread.join()
            control_plane.kubectl("delete", "nodes", "--selector=slm-operator.io/managed", "--wait=false")
            control_plane.kubectl("delete", "lease/slm-operator", "--ignore-not-found")
    if "FAULT_MATRIX" in os.environ:
        write_matrix(Path(os.environ["FAULT_MATRIX"]), found.rows)


@pytest.fixture
def served(bed: Bed, namespace: str) -> Iterator[str]:
    """A namespace with two deployments that serve."""
    bed.apply(namespace, slm_profile("measured"))
    for name in ("kept", "deleted"):
        bed.apply(namespace, slm_deployment(name, "measured"))
    bed.ready(namespace, {"kept", "deleted"})
    yield namespace
    bed.proxy.faults.clear()
    bed.plane.kubectl("delete", "slmd,slmp", "--all", "--namespace", namespace, "--wait=false")


Injection = Callable[[Bed], contextlib.AbstractContextManager[Any]]


def is_write(request: web.BaseRequest) -> bool:
    return request.method != "GET" and "/leases" not in request.path


def is_any(request: web.BaseRequest) -> bool:
    return "/leases" not in request.path


def is_watch(request: web.BaseRequest) -> bool:
    return request.query.get("watch") == "true"


def is_lease(request: web.BaseRequest) -> bool:
    return "/leases" in request.path


def answered(*faults: Fault, cut: bool = False) -> Injection:
    @contextlib.contextmanager
    def inject(bed: Bed) -> Iterator[None]:
        bed.proxy.faults[:] = faults
        if cut:
            bed.proxy.cut_watches()
        try:
            yield
            time.sleep(FAULT_S)
        finally:
            bed.proxy.faults.clear()

    return inject


def of_server(act: Callable[[Bed], None], then: Callable[[Bed], None]) -> Injection:
    @contextlib.contextmanager
    def inject(bed: Bed) -> Iterator[None]:
        yield
        act(bed)
        time.sleep(FAULT_S)
        then(bed)

    return inject


def starts(bed: Bed) -> None:
    api = bed.plane.components["kube-apiserver"]
    api.start()
    api.wait_ready()


def resumes(bed: Bed) -> None:
    bed.plane.components["etcd"].resume()
    bed.plane.components["kube-apiserver"].wait_ready()


def cuts_often(bed: Bed) -> None:
    for _ in range(5):
        bed.proxy.cut_watches()
        time.sleep(0.5)


def nothing(_: Bed) -> None:
    pass


BUSY = error(429, "TooManyRequests", "the server has received too many requests")
CASES: list[tuple[str, str, Injection]] = [
    ("API server restarted", "SIGTERM, 4 s later started", of_server(lambda b: b.plane.components["kube-apiserver"].stop(), starts)),
    ("API server killed", "SIGKILL, 4 s later started", of_server(lambda b: b.plane.components["kube-apiserver"].kill(), starts)),
    ("etcd paused", "SIGSTOP for 4 s", of_server(lambda b: b.plane.components["etcd"].pause(), resumes)),
    ("watches cut", "all of them, five times in 2.5 s", of_server(cuts_often, nothing)),
    ("watches compacted", "410 to every watch for 4 s", answered(Fault("410", is_watch, status=200, body=gone()), cut=True)),
    ("409", "half of all writes", answered(Fault("409", is_write, 0.5, 409, error(409, "Conflict", "the object has been modified")))),
    ("429", "half of all requests, Retry-After 1", answered(Fault("429", is_any, 0.5, 429, BUSY, {"Retry-After": "1"}))),
    ("500", "half of all requests", answered(Fault("500", is_any, 0.5, 500, error(500, "InternalError", "etcdserver: leader changed")))),
    ("503", "half of all requests", answered(Fault("503", is_any, 0.5, 503, error(503, "ServiceUnavailable", "apiserver not ready")))),
    ("slow answers", "each 1.5 s late", answered(Fault("slow", is_any, delay_s=1.5))),
    ("answers lost", "half of all writes done, then answered 504", answered(Fault("lost", is_write, 0.5, 504, error(504, "Timeout", "timed out"), after=True))),
    ("certificates rotated", "new CA and server certificate, old connections ended", of_server(lambda b: b.proxy.rotate_certificate(), nothing)),
    ("operator killed", "SIGKILL in the middle", of_server(lambda b: b.keeper.running.kill(), nothing)),  # type: ignore[union-attr]
]  # fmt: skip


@pytest.mark.parametrize(("name", "how", "inject"), CASES, ids=[case[0] for case in CASES])
def test_afterwards_all_is_as_it_should_be(bed: Bed, served: str, name: str, how: str, inject: Injection) -> None:
    serving = pods_of(bed, served, "kept")
    restarts = bed.keeper.restarts
    with inject(bed):
        bed.apply(served, slm_deployment("made", "measured"))
        bed.apply(served, slm_deployment("kept", "measured", replicas=2))
        bed.plane.kubectl("delete", "slmd/deleted", "--namespace", served, "--wait=false")
    began = time.monotonic()
    bed.ready(served, {"kept", "made"})
    wait_until(lambda: children(bed, served) == whole("kept", "made"), SETTLED_S)
    assert serving <= pods_of(bed, served, "kept")
    assert len(pods_of(bed, served, "kept")) == 2
    assert_nodes_rest(bed)
    met = sum(fault.met for fault in bed.proxy.faults)
    bed.rows.append((name, how, met, time.monotonic() - began, bed.keeper.restarts - restarts))


def test_a_lease_lost_while_writing_ends_the_process_and_the_next_goes_on(bed: Bed, served: str) -> None:
    serving, restarts = pods_of(bed, served, "kept"), bed.keeper.restarts
    bed.proxy.faults[:] = [Fault("lease", is_lease, status=503, body=error(503, "ServiceUnavailable", "no"))]
    bed.apply(served, slm_deployment("made", "measured"))
    wait_until(lambda: bed.keeper.restarts > restarts, 30)
    bed.proxy.faults.clear()
    began = time.monotonic()
    bed.ready(served, {"kept", "deleted", "made"})
    assert bed.keeper.exits[-1] == 1
    assert pods_of(bed, served, "kept") == serving
    row = ("Lease lost", "its renewals answered 503 until the process ended")
    bed.rows.append((*row, 1, time.monotonic() - began, bed.keeper.restarts - restarts))


def test_killed_at_every_write_of_a_story_with_a_node_change(bed: Bed, served: str) -> None:
    """Each write is done and its answer lost with the process, until a life has nothing left to write."""
    serving, restarts = pods_of(bed, served, "kept"), bed.keeper.restarts
    keeper = bed.keeper

    def dies() -> None:
        assert keeper.running is not None
        keeper.running.process.kill()

    written = Fault("killed", lambda r: is_write(r) and "/events" not in r.path, after=True, status=504, then=dies)
    bed.proxy.faults[:] = [written]
    bed.apply(served, slm_deployment("cut", "measured", slices=4))
    began = time.monotonic()
    bed.ready(served, {"kept", "deleted", "cut"})
    bed.proxy.faults.clear()
    assert written.met >= 10
    wait_until(lambda: children(bed, served) == whole("kept", "deleted", "cut"), SETTLED_S)
    assert pods_of(bed, served, "kept") == serving
    assert {one["metadata"]["generation"] for one in bed.items(served, "deployments")} == {1}
    row = ("operator killed at each write", "write done, answer lost, SIGKILL; with a node change")
    bed.rows.append((*row, written.met, time.monotonic() - began, keeper.restarts - restarts))


def test_two_operators_never_act_both(bed: Bed, served: str) -> None:
    with operator(bed.plane, name="rival") as rival:
        rival.said("standing by")
        began = time.monotonic()
        bed.apply(served, slm_deployment("made", "measured"))
        bed.ready(served, {"kept", "deleted", "made"})
        assert rival.done() == []
    bed.rows.append(("two operators", "a second one beside the first", 1, time.monotonic() - began, 0))


def test_zz_a_crd_deleted_under_it_ends_the_process_in_order(bed: Bed, served: str) -> None:
    """NB: last of all, for Kubernetes deletes every SLMDeployment with its CRD, and what they own goes with them."""
    restarts = bed.keeper.restarts
    first = bed.keeper.running
    assert first is not None
    bed.plane.kubectl("delete", "crd", "slmdeployments.slm-operator.io", "--wait=true")
    began = time.monotonic()
    assert first.process.wait(timeout=30) == 1
    took = time.monotonic() - began
    first.wait_for(lambda line: line["message"] == "stopping" and "slmdeployments" in json.dumps(line), 2)
    lease = json.loads(bed.plane.kubectl("get", "lease/slm-operator", "-o", "json"))
    assert lease["spec"].get("holderIdentity", "") == ""
    told = wait_until(lambda: (line := bed.keeper.running) is not None and line is not first and line, 20)
    told.said("cannot start")
    install(bed.plane)
    bed.apply(served, slm_deployment("kept", "measured"))
    bed.ready(served, {"kept"})
    row = ("CRD deleted", "kubectl delete crd; the process ends with 1, its Lease given up, and waits for the CRD")
    bed.rows.append((*row, 1, took, bed.keeper.restarts - restarts))


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


def assert_nodes_rest(bed: Bed) -> None:
    for node in bed.items("default", "nodes", "--selector=slm-operator.io/managed"):
        assert "slm-operator.io/change-started" not in node["metadata"].get("annotations", {})
        assert not any(taint["key"] == "slm-operator.io/changing" for taint in node["spec"].get("taints", ()))


def write_matrix(page: Path, rows: list[tuple[str, str, int, float, int]]) -> None:
    """The table of this run, between the page's markers."""
    head = ["| fault | how | converged after (s) | restarts |", "|---|---|---|---|"]
    lines = [f"| {name} | {how} | {seconds:.1f} | {restarts} |" for name, how, _, seconds, restarts in rows]
    before, _, rest = page.read_text().partition("<!-- faults -->\n")
    _, _, after = rest.partition("<!-- end of faults -->")
    page.write_text(before + "\n".join(("<!-- faults -->", *head, *lines, "<!-- end of faults -->")) + after)
