"""A control plane leaves nothing behind, however it ends. What it can do is every other test's to say."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.testbed import control_plane as testbed
from tests.testbed.component import ComponentError
from tests.testbed.control_plane import ControlPlane
from tests.testbed.docker_host import Process
from tests.testbed.gotools import binary, cache_dir

pytestmark = pytest.mark.control_plane


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder in which only this test's runs are recorded; the built programs are shared."""
    for program in (*testbed.COMPONENTS, "kubeadm", "kubectl"):
        binary(program)
    (tmp_path / "go-tools").symlink_to(cache_dir() / "go-tools")
    monkeypatch.setenv("SLM_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("own_cache")
def test_control_plane_leaves_only_its_logs(record_property: Callable[[str, str], None]) -> None:
    began = time.monotonic()
    with testbed.control_plane() as plane:
        record_property("note", f"a control plane was ready after {time.monotonic() - began:.1f} s")
        processes = recorded_processes(plane.folder)
        assert all(process.alive for process in processes)
        port = urlsplit(plane.server).port
    assert_gone(plane.folder, processes)
    assert plane.logs.joinpath("kube-apiserver.log").stat().st_size > 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def recorded_processes(folder: Path) -> list[Process]:
    records = sorted(folder.glob("pids/*.json"))
    assert [record.stem for record in records] == sorted(testbed.COMPONENTS)
    processes = [Process.read(record) for record in records]
    return [process for process in processes if process is not None]


def assert_gone(folder: Path, processes: list[Process]) -> None:
    assert len(processes) == len(testbed.COMPONENTS)
    assert not any(process.alive for process in processes)
    assert not folder.exists()


@contextmanager
def another_run() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that has a control plane up and waits to be ended; its folder."""
    script = (
        "import sys, signal\n"
        "from tests.testbed.control_plane import control_plane\n"
        "with control_plane() as plane:\n"
        "    print(plane.folder, flush=True)\n"
        "    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        try:
            yield run, Path(run.stdout.readline().strip())
        finally:
            run.kill()
            run.wait()
            testbed.clean_leftovers()  # where it was not asked to end, or did not


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_run_that_is_asked_to_end_cleans_up_itself(number: signal.Signals) -> None:
    with another_run() as (run, folder):
        processes = recorded_processes(folder)
        run.send_signal(number)
        run.wait(timeout=240)
        assert_gone(folder, processes)


@pytest.mark.usefixtures("own_cache")
def test_leftovers_of_a_killed_run_go_at_the_next_start() -> None:
    with another_run() as (run, folder):
        processes = recorded_processes(folder)
        os.kill(processes[0].pid, signal.SIGSTOP)  # even a paused component must go
        assert testbed.clean_leftovers() == []  # its owner lives
        run.kill()
        run.wait()
        assert all(process.alive for process in processes)
        assert testbed.clean_leftovers() == [folder]
        assert_gone(folder, processes)


def test_component_ending_at_start_shows_log_and_ends_others(own_cache: Path) -> None:
    with (
        pytest.raises(ComponentError, match=r"(?s)kube-scheduler ended before it was ready.*unknown flag: --no-such"),
        testbed.control_plane(flags={"kube-scheduler": ["--no-such"]}),
    ):
        pass
    assert list(own_cache.glob("run/control-plane-*")) == []


def test_flags_for_an_unknown_component_are_refused(own_cache: Path) -> None:
    with pytest.raises(ValueError, match="scheduler"), testbed.control_plane(flags={"scheduler": ["--v=4"]}):
        pass
    assert list(own_cache.glob("run/control-plane-*")) == []


def test_a_second_node_of_the_same_name_is_refused_with_its_name(control_plane: ControlPlane) -> None:
    control_plane.add_kwok_nodes(1, prefix="twice")
    with pytest.raises(RuntimeError, match=r"twice-0 was refused \(409\)"):
        control_plane.add_kwok_nodes(1, prefix="twice")
