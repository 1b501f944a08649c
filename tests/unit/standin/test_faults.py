"""Faults on demand, and what a kubelet does to a plugin."""

import pytest

from tests.standin.node import faults_of
from tests.standin.settings import FAULTS_ANNOTATION, Faults
from tests.unit.standin.machine import LABEL, Machine

GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"


def test_late_plugin_goes_on_with_the_old_configuration_for_so_long(machine: Machine) -> None:
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


@pytest.mark.parametrize(
    ("config", "all_slots", "left"), [("plain", {GPU: 8}, {GPU: 7}), ("ts4", {SHARED: 32}, {SHARED: 28})]
)
def test_unhealthy_gpu_takes_its_slots_away(
    machine: Machine, config: str, all_slots: dict[str, int], left: dict[str, int]
) -> None:
    machine.boot(config)
    machine.kubelet.wait_for(all_slots)
    machine.node.fault("{unhealthy_gpu: 3}")
    machine.kubelet.wait_for(left)
    assert machine.kubelet.capacity == all_slots
    machine.node.fault("{}")
    machine.kubelet.wait_for(all_slots)


def test_plugin_registers_again_when_the_kubelet_makes_its_socket_anew(machine: Machine) -> None:
    machine.boot("ts4")
    machine.kubelet.wait_for({SHARED: 32})
    machine.kubelet.restart()
    machine.kubelet.wait_for({SHARED: 32})
    assert machine.kubelet.registrations == [SHARED, SHARED]


def test_label_that_is_set_to_what_it_was_reloads_nothing(machine: Machine) -> None:
    machine.boot("ts4")
    machine.kubelet.wait_for({SHARED: 32})
    machine.node.label({LABEL: "ts4", "another": "label"})
    machine.node.label({LABEL: "ts2"})
    machine.kubelet.wait_for({SHARED: 16})
    assert machine.kubelet.registrations == [SHARED, SHARED]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Faults()),
        ("{late_s: 20, unhealthy_gpu: 0}", Faults(late_s=20, unhealthy_gpu=0)),
        ('{"mps_daemon_dead": true}', Faults(mps_daemon_dead=True)),
        ("{lat: 20}", Faults()),
        ("{late_s: soon}", Faults()),
        ("late", Faults()),
        ("{", Faults()),
    ],
)
def test_annotation(text: str | None, expected: Faults) -> None:
    assert faults_of({"annotations": {FAULTS_ANNOTATION: text} if text else None}) == expected
