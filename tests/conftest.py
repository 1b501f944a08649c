"""Clusters for tests. A test says what it needs of one; only `tests/testbed` knows how it is made."""

import os
import secrets
import signal
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.suite import marks
from tests.testbed.cluster import Cluster, log_tails, scene
from tests.testbed.control_plane import ControlPlane
from tests.testbed.control_plane import control_plane as lend_control_plane
from tests.testbed.ending import raise_when_ended

if TYPE_CHECKING:
    from tests.testbed.kind import KindCluster

pytest_plugins = ["tests.suite.reporting"]

# The same examples on every run: what CI judges is the change, not the dice. HYPOTHESIS_PROFILE=dice throws them.
# NB: nor is it the machine: Hypothesis would fail an example that takes 200 ms, and one that is long in the making.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", UNHURRIED, derandomize=True)
settings.register_profile("dice", UNHURRIED, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


# NB: where it is set, each start of an operator compiles 300 modules, a second of CPU. The image has bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

CLUSTER_FIXTURES = ("control_plane", "kind_cluster")


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """One control plane for all tests that ask for it; a test leaves its components running."""
    with lend_control_plane() as plane:
        yield plane


@pytest.fixture(scope="session")
def kind_cluster() -> "Iterator[KindCluster]":
    """One kind cluster for all tests that ask for it."""
    from tests.testbed.kind import kind_cluster as lend_kind_cluster  # noqa: PLC0415 - only those tests pay for it

    with lend_kind_cluster() as cluster:
        yield cluster


@pytest.fixture
def namespace(control_plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of this test's own on the control plane, ready for pods."""
    yield from own_namespace(control_plane, request)


def own_namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    words = "".join(char if char.isalnum() else "-" for char in request.node.name.lower())
    name = f"{words[:40].strip('-')}-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", name)
    # Until this account is there, the API server refuses pods.
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace", name, "--timeout=240s")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under a failed test, show what the cluster looks like and the end of each component's log."""
    report = yield
    clusters = getattr(item, "funcargs", {})
    for cluster in (clusters[name] for name in CLUSTER_FIXTURES if report.failed and name in clusters):
        report.sections += [(f"log of {component}, its end", text) for component, text in log_tails(cluster).items()]
        report.sections += list(scene(cluster).items())
        report.sections.append(("logs", str(cluster.logs)))
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of recorded runs are for `make record` alone, whatever else is asked for."""
    if "SLM_RECORD" not in os.environ:
        recorded = [item for item in items if item.get_closest_marker("record")]
        config.hook.pytest_deselected(items=recorded)
        items[:] = [item for item in items if item not in recorded]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What a test that failed or met its limit has started is ended with it: it had no time to do so itself."""
    failed_before = item.session.testsfailed
    done = yield
    if item.session.testsfailed > failed_before:
        marks.end(marks.started_by(marks.TEST, f"{item.nodeid} (call)"))
    return done


def pytest_configure() -> None:
    """Let SIGTERM and SIGHUP end the run as Ctrl-C does, so that the clusters go with it.

    NB: a script's `&` has us ignore SIGINT, and what we start would ignore it too.
    """
    if threading.current_thread() is threading.main_thread():
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        raise_when_ended(KeyboardInterrupt)
