"""Faults on demand, and what a kubelet does to a plugin."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from tests.standin.node import follow_faults
from tests.standin.settings import Faults
from tests.unit.standin.machine import LABEL, Machine

GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"


def test_late_plugin_keeps_the_old_configuration_so_long(machine: Machine) -> None:
    machine.boot("plain")
    machine.kubelet.wait_for({GPU: 8})
    machine.node.fault("{late_s: 0.3}")
    machine.log.wait_for("faults: Faults(late_s=0.3")
    machine.node.label({LABEL: "ts4"})
    reported = machine.log.wait_for("Received SIGHUP, restarting.")
    machine.kubelet.wait_for({GPU: 0, SHARED: 32})
    assert machine.log.wait_for(f"Stopping to serve '{GPU}'") - reported >= 0.3


def test_stuck_plugin_never_converges(machine: Machine) -> None:
    machine.boot("plain")
    machine.kubelet.wait_for({GPU: 8})
    machine.node.fault("{stuck: true}")
    machine.log.wait_for("stuck=True")
    machine.node.label({LABEL: "ts4"})
    machine.log.wait_for("stuck, so nothing comes of it")
    assert machine.kubelet.registrations == [GPU]
    machine.node.fault("{}")
    machine.log.wait_for("stuck=False")
    machine.node.label({LABEL: "ts2"})
    machine.kubelet.wait_for({GPU: 0, SHARED: 16})


def test_crashing_plugin_exits_and_again_when_it_is_restarted(machine: Machine) -> None:
    plugin = machine.boot("plain")
    machine.kubelet.wait_for({GPU: 8})
    machine.node.fault("{crash: true}")
    assert plugin.exit_error() == "the fault 'crash' is switched on"
    assert machine.start_plugin().exit_error() == "the fault 'crash' is switched on"
    machine.node.fault("{}")  # read by the next start itself
    machine.start_plugin()
    machine.kubelet.wait_for({GPU: 8})


def test_plugin_registers_again_with_a_new_kubelet_socket(machine: Machine) -> None:
    machine.boot("ts4")
    machine.kubelet.wait_for({SHARED: 32})
    machine.kubelet.restart()
    machine.kubelet.wait_for({SHARED: 32})
    assert machine.kubelet.registrations == [SHARED, SHARED]


def test_an_error_marks_one_device_until_the_next_start(machine: Machine) -> None:
    machine.boot("ts4")
    machine.kubelet.wait_for({SHARED: 32})
    machine.node.fault("{xid_gpu: 1}")
    machine.kubelet.wait_for({SHARED: 31})
    machine.node.fault("{}")  # nothing heals by itself
    machine.log.wait_for("xid_gpu=None")
    machine.node.fault("{xid_gpu: 1}")  # told again: it is the same device
    machine.log.wait_for("marking device as unhealthy", times=2)
    assert machine.kubelet.allocatable == {SHARED: 31}
    machine.node.label({LABEL: "ts2"})
    machine.kubelet.wait_for({SHARED: 16})


def test_an_error_marks_the_whole_of_an_unshared_gpu(machine: Machine) -> None:
    machine.boot("plain")
    machine.kubelet.wait_for({GPU: 8})
    machine.node.fault("{xid_gpu: 1}")
    machine.kubelet.wait_for({GPU: 7})
    assert machine.kubelet.capacity == {GPU: 8}


def test_a_plugin_that_starts_after_an_error_knows_of_none(machine: Machine) -> None:
    machine.node.fault("{xid_gpu: 1}")
    machine.boot("ts4")
    machine.kubelet.wait_for({SHARED: 32})


def test_mps_that_takes_its_time_to_quit_holds_its_gpus(machine: Machine) -> None:
    machine.boot("mps2")
    daemon = machine.start_mps_daemon()
    machine.kubelet.wait_for({SHARED: 16})
    machine.log.wait_for("is ready")
    machine.node.fault("{mps_quit_s: 0.5}")
    machine.log.wait_for("mps_quit_s=0.5", times=2)  # the plugin hears of it too
    machine.end(daemon)
    asked = machine.log.wait_for("MPS command: quit")
    assert set(json.loads((machine.mps / "compute-mode.json").read_text()).values()) == {"EXCLUSIVE_PROCESS"}
    assert json.loads((machine.mps / "limits.json").read_text())
    assert daemon.exit_error() is None
    assert set(json.loads((machine.mps / "compute-mode.json").read_text()).values()) == {"DEFAULT"}
    assert time.monotonic() - asked >= 0.5


def test_limits_of_a_killed_daemon_stay_with_its_servers(machine: Machine) -> None:
    machine.boot("mps2")
    daemon = machine.start_mps_daemon()
    machine.kubelet.wait_for({SHARED: 16})
    machine.log.wait_for("is ready")
    machine.node.fault("{mps_daemon_dead: true}")
    assert daemon.exit_error()
    assert "set_default_active_thread_percentage 50" in json.loads((machine.mps / "limits.json").read_text())


def test_a_daemon_without_mps_in_its_file_says_it_is_ready(machine: Machine) -> None:
    machine.boot("plain")
    machine.start_mps_daemon()
    machine.log.wait_for("Waiting indefinitely")
    assert (machine.mps / ".ready").exists()
    assert not (machine.mps / "commands.log").exists()


class Unreachable:
    """A node whose API server never answers."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def watch(self) -> Iterator[dict[str, Any]]:
        self.over.wait()
        yield from ()


def test_a_part_starts_without_the_api_server() -> None:
    node, told = Unreachable(), list[Faults]()
    assert follow_faults(node, told.append, patience_s=0.01) == Faults()
    node.over.set()
    assert told == []
