"""What breaks under a running operator, and that afterwards everything is as it should be.

In each case one deployment serves before, and while the fault lasts one is made, one edited and one deleted. Afterwards:
converged, nothing orphaned, nothing double, the pods that served untouched. A fault that the operator never met proves
nothing and fails its test. `make record faults` keeps the outcomes; docs/reference/reliability.md shows them.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator

import pytest
from aiohttp import web

from tests.control_plane.fault_bed import Bed, pods_of
from tests.control_plane.fault_proxy import Fault, error, gone
from tests.control_plane.gpu_fleet import slm_deployment
from tests.control_plane.operator_process import wait_until

pytestmark = [
    pytest.mark.control_plane,
    pytest.mark.timeout(1200),
    # NB: the proxy cuts TLS connections on purpose; Python 3.11 leaves those to the collector, in the middle of whichever test.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]
FAULT_S = 4.0

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
            wait_until(lambda: any(fault.met for fault in faults))  # a busy machine's operator may not have come to it
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
FAULTS: dict[str, str] = {name: how for name, how, _ in CASES} | {
    LEASE: "its renewals answered 503 until the process ended",
    EACH_WRITE: "write done, answer lost, SIGKILL; with a node change",
}
"""Every fault and how it is injected: rows of docs/reference/reliability.md."""


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


def test_lease_lost_while_writing_ends_process_next_goes_on(bed: Bed, served: str) -> None:
    serving, before = pods_of(bed, served, "kept"), bed.keeper.restarts
    refused = Fault("lease", is_lease, status=503, body=error(503, "ServiceUnavailable", "no"))
    with bed.suffers(LEASE, FAULTS[LEASE]) as outcome:
        bed.proxy.faults[:] = [refused]
        bed.apply(served, slm_deployment("made", "measured"))
        wait_until(lambda: bed.keeper.restarts > before)
        bed.proxy.faults.clear()
        outcome.converged_seconds = bed.converged(served, "kept", "deleted", "made")
        outcome.met = refused.met
        assert bed.keeper.exits[-1] == 1
        assert pods_of(bed, served, "kept") == serving


def test_an_operator_named_too_few_kinds_ends_the_next_sees_all(bed: Bed, served: str) -> None:
    """As by an API server that has only just started: Kopf asks once, and would watch what it was named for ever."""
    nothing_but_core = json.dumps({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
    few = Fault("too few", lambda r: r.path == "/apis", status=200, body=nothing_but_core)
    few.then = bed.proxy.faults.clear
    serving = pods_of(bed, served, "kept")
    assert bed.keeper.running is not None
    bed.proxy.faults[:] = [few]
    bed.keeper.running.kill()
    bed.apply(served, slm_deployment("made", "measured"))
    bed.converged(served, "kept", "deleted", "made")
    assert few.met == 1
    assert bed.keeper.exits[-1] == 1
    assert pods_of(bed, served, "kept") == serving


def test_killed_at_every_write_of_a_story_with_a_node_change(bed: Bed, served: str) -> None:
    """Each write is done and its answer lost with the process, until a life has nothing left to write."""
    serving, keeper = pods_of(bed, served, "kept"), bed.keeper

    def generations() -> dict[str, int]:
        return {one["metadata"]["name"]: one["metadata"]["generation"] for one in bed.items(served, "deployments")}

    def dies() -> None:
        assert keeper.running is not None
        keeper.running.process.kill()

    written = Fault("killed", lambda r: is_write(r) and "/events" not in r.path, after=True, status=504, then=dies)
    before = generations()
    with bed.suffers(EACH_WRITE, FAULTS[EACH_WRITE]) as outcome:
        bed.proxy.faults[:] = [written]
        bed.apply(served, slm_deployment("cut", "measured", slices=4))
        outcome.converged_seconds = bed.converged(served, "kept", "deleted", "cut")
        bed.proxy.faults.clear()
        outcome.met = written.met
        assert written.met >= 10
        assert pods_of(bed, served, "kept") == serving
        assert generations() == before | {"cut": 1}
