"""Faults on demand, and what a kubelet does to a plugin."""

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
