"""What breaks under a running operator, and that afterwards everything is as it should be.

In each case one deployment serves before, and while the fault lasts one is made, one edited and one deleted. Afterwards:
converged, nothing orphaned, nothing double, the pods that served untouched. A fault that the operator never met proves
nothing and fails its test. `FAULTS_JSON=benchmarks/results/faults.json` keeps the outcomes; docs/reliability.md shows them.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from aiohttp import web

from benchmarks.scale_figures import environment
from tests.control_plane.fault_bed import Bed, Keeper, pods_of
from tests.control_plane.fault_proxy import Fault, error, fault_proxy, gone
from tests.control_plane.gpu_fleet import add_gpu_nodes, install, plugins, slm_deployment, slm_profile
from tests.control_plane.operator_process import operator, wait_until
from tests.testbed.control_plane import ControlPlane

pytestmark = [
    pytest.mark.control_plane,
    # What was cut off on purpose is closed by the collector, in the middle of whichever test.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FAULT_S = 4.0
# NB: at the addresses that kwok gives its pods nobody of ours answers, so nobody is to be asked there.
SETTINGS = "nodes: {maxChanging: 100, projectionSeconds: 0}\nwatch: {intervalSeconds: 0}\n"
COMMAND = "FAULTS_JSON=benchmarks/results/faults.json pytest tests/control_plane/test_faults.py"


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
    if "FAULTS_JSON" in os.environ:
        kept = {"about": environment() | {"command": COMMAND}, "outcomes": [asdict(one) for one in found.outcomes]}
        Path(os.environ["FAULTS_JSON"]).write_text(json.dumps(kept, indent=1) + "\n")


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


Met = Callable[[], int]
"""How often a fault was met since its injection began. Asked after the world has converged."""
Injection = Callable[[Bed], contextlib.AbstractContextManager[Met]]


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
    def inject(bed: Bed) -> Iterator[Met]:
        bed.proxy.faults[:] = faults
        if cut:
            bed.proxy.cut_watches()
        try:
            yield lambda: sum(fault.met for fault in faults)
            time.sleep(FAULT_S)
        finally:
            bed.proxy.faults.clear()

    return inject


def of_server(act: Callable[[Bed], None], then: Callable[[Bed], None], hits: Callable[[Bed], int]) -> Injection:
    """Something is done to a process. `hits` counts, since the beginning of time, what reaches the operator of it."""

    @contextlib.contextmanager
    def inject(bed: Bed) -> Iterator[Met]:
        before = hits(bed)
        yield lambda: hits(bed) - before
        act(bed)
        time.sleep(FAULT_S)
        then(bed)

    return inject


def broken(bed: Bed) -> int:
    return bed.proxy.broken


def late(bed: Bed) -> int:
    return bed.proxy.late


def cuts(bed: Bed) -> int:
    return bed.proxy.cuts


def restarts(bed: Bed) -> int:
    return bed.keeper.restarts


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
    ("API server restarted", "SIGTERM, 4 s later started", of_server(lambda b: b.plane.components["kube-apiserver"].stop(), starts, broken)),
    ("API server killed", "SIGKILL, 4 s later started", of_server(lambda b: b.plane.components["kube-apiserver"].kill(), starts, broken)),
    ("etcd paused", "SIGSTOP for 4 s", of_server(lambda b: b.plane.components["etcd"].pause(), resumes, late)),
    ("watches cut", "all of them, five times in 2.5 s", of_server(cuts_often, nothing, cuts)),
    ("watches compacted", "410 to every watch for 4 s", answered(Fault("410", is_watch, status=200, body=gone()), cut=True)),
    ("409", "half of all writes", answered(Fault("409", is_write, 0.5, 409, error(409, "Conflict", "the object has been modified")))),
    ("429", "half of all requests, Retry-After 1", answered(Fault("429", is_any, 0.5, 429, BUSY, {"Retry-After": "1"}))),
    ("500", "half of all requests", answered(Fault("500", is_any, 0.5, 500, error(500, "InternalError", "etcdserver: leader changed")))),
    ("503", "half of all requests", answered(Fault("503", is_any, 0.5, 503, error(503, "ServiceUnavailable", "apiserver not ready")))),
    ("slow answers", "each 1.5 s late", answered(Fault("slow", is_any, delay_s=1.5))),
    ("answers lost", "half of all writes done, then answered 504", answered(Fault("lost", is_write, 0.5, 504, error(504, "Timeout", "timed out"), after=True))),
    ("certificates rotated", "new CA and server certificate, old connections ended", of_server(lambda b: b.proxy.rotate_certificate(), nothing, cuts)),
    ("operator killed", "SIGKILL in the middle", of_server(lambda b: b.keeper.running.kill(), nothing, restarts)),  # type: ignore[union-attr]
]  # fmt: skip
LEASE, EACH_WRITE = "Lease lost", "operator killed at each write"
RIVAL, FULL_DISK, NO_CRD = "two operators", "disk full under the log", "CRD deleted"
FAULTS: dict[str, str] = {name: how for name, how, _ in CASES} | {
    LEASE: "its renewals answered 503 until the process ended",
    EACH_WRITE: "write done, answer lost, SIGKILL; with a node change",
    RIVAL: "a second one beside the first",
    FULL_DISK: "stderr is /dev/full, which answers every write with ENOSPC",
    NO_CRD: "kubectl delete crd; the process ends with 1, its Lease given up, and waits for the CRD",
}
"""Every fault and how it is injected: the rows of docs/reliability.md."""


@pytest.mark.parametrize(
    ("name", "inject"), [(name, inject) for name, _, inject in CASES], ids=[one[0] for one in CASES]
)
def test_afterwards_all_is_as_it_should_be(bed: Bed, served: str, name: str, inject: Injection) -> None:
    serving = pods_of(bed, served, "kept")
    with bed.suffers(name, FAULTS[name]) as outcome:
        with inject(bed) as met:
            bed.apply(served, slm_deployment("made", "measured"))
            bed.apply(served, slm_deployment("kept", "measured", replicas=2))
            bed.plane.kubectl("delete", "slmd/deleted", "--namespace", served, "--wait=false")
        outcome.converged_seconds = bed.converged(served, "kept", "made")
        outcome.met = met()
        assert serving <= pods_of(bed, served, "kept")
        assert len(pods_of(bed, served, "kept")) == 2


def test_a_lease_lost_while_writing_ends_the_process_and_the_next_goes_on(bed: Bed, served: str) -> None:
    serving, before = pods_of(bed, served, "kept"), bed.keeper.restarts
    refused = Fault("lease", is_lease, status=503, body=error(503, "ServiceUnavailable", "no"))
    with bed.suffers(LEASE, FAULTS[LEASE]) as outcome:
        bed.proxy.faults[:] = [refused]
        bed.apply(served, slm_deployment("made", "measured"))
        wait_until(lambda: bed.keeper.restarts > before, 30)
        bed.proxy.faults.clear()
        outcome.converged_seconds = bed.converged(served, "kept", "deleted", "made")
        outcome.met = refused.met
        assert bed.keeper.exits[-1] == 1
        assert pods_of(bed, served, "kept") == serving


def test_killed_at_every_write_of_a_story_with_a_node_change(bed: Bed, served: str) -> None:
    """Each write is done and its answer lost with the process, until a life has nothing left to write."""
    serving, keeper = pods_of(bed, served, "kept"), bed.keeper

    def dies() -> None:
        assert keeper.running is not None
        keeper.running.process.kill()

    written = Fault("killed", lambda r: is_write(r) and "/events" not in r.path, after=True, status=504, then=dies)
    with bed.suffers(EACH_WRITE, FAULTS[EACH_WRITE]) as outcome:
        bed.proxy.faults[:] = [written]
        bed.apply(served, slm_deployment("cut", "measured", slices=4))
        outcome.converged_seconds = bed.converged(served, "kept", "deleted", "cut")
        bed.proxy.faults.clear()
        outcome.met = written.met
        assert written.met >= 10
        assert pods_of(bed, served, "kept") == serving
        assert {one["metadata"]["generation"] for one in bed.items(served, "deployments")} == {1}


def test_two_operators_never_act_both(bed: Bed, served: str) -> None:
    serving = pods_of(bed, served, "kept")
    with bed.suffers(RIVAL, FAULTS[RIVAL]) as outcome, operator(bed.plane, name="rival") as rival:
        rival.said("standing by")
        bed.apply(served, slm_deployment("made", "measured"))
        outcome.converged_seconds = bed.converged(served, "kept", "deleted", "made")
        outcome.met = sum(line["message"] == "standing by" for line in rival.lines)
        assert rival.process.poll() is None
        assert rival.done() == []
        assert pods_of(bed, served, "kept") == serving


def test_a_full_disk_under_its_log_stops_nothing(bed: Bed, served: str) -> None:
    command = [str(Path(sys.executable).with_name("slm-operator")), "run", f"--kubeconfig={bed.plane.kubeconfig}"]
    command += ["--liveness-port=0", "--metrics-port=0", *bed.keeper.arguments]
    serving = pods_of(bed, served, "kept")
    with (
        bed.suffers(FULL_DISK, FAULTS[FULL_DISK]) as outcome,
        bed.keeper.paused(),
        Path("/dev/full").open("w") as full,
        subprocess.Popen(command, stderr=full, env=os.environ | {"POD_NAME": "full"}) as speechless,
    ):
        try:
            bed.apply(served, slm_deployment("made", "measured"))
            outcome.converged_seconds = bed.converged(served, "kept", "deleted", "made")
            lease = bed.get("default", "lease/slm-operator")
            outcome.met = int(lease["spec"]["holderIdentity"] == "full" and speechless.poll() is None)
            assert pods_of(bed, served, "kept") == serving
        finally:
            speechless.terminate()


def test_zz_a_crd_deleted_under_it_ends_the_process_in_order(bed: Bed, served: str) -> None:
    """NB: last of all, for Kubernetes deletes every SLMDeployment with its CRD, and what they own goes with them."""
    first = bed.keeper.running
    assert first is not None
    with bed.suffers(NO_CRD, FAULTS[NO_CRD]) as outcome:
        bed.plane.kubectl("delete", "crd", "slmdeployments.slm-operator.io", "--wait=true")
        assert first.process.wait(timeout=30) == 1
        outcome.met = 1
        first.wait_for(lambda line: line["message"] == "stopping" and "slmdeployments" in json.dumps(line), 2)
        lease = bed.get("default", "lease/slm-operator")
        assert lease["spec"].get("holderIdentity", "") == ""
        told = wait_until(lambda: (line := bed.keeper.running) is not None and line is not first and line, 20)
        told.said("cannot start")
        install(bed.plane)
        bed.apply(served, slm_deployment("kept", "measured"))
        outcome.converged_seconds = bed.converged(served, "kept")
