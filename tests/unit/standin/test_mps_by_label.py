"""MPS that a node's label chooses, by release: what NVIDIA's MPS pod does in the cases that were run with its own binaries.

The cases have the letters of that run. In each the label names MPS for two replicas before the pod comes.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.standin.releases import CHART, CHART_CORRECTED, GPU_OPERATOR, GPU_OPERATOR_BEFORE, SOUND, Release
from tests.unit.standin.machine import LABEL, Machine, Part

LOST = "error finding pid: no process found"


@dataclass
class MpsPod:
    """The pod of the MPS daemon, its containers started one after the other."""

    machine: Machine
    release: Release
    config: Path

    def __post_init__(self) -> None:
        self.machine.node.label({LABEL: "mps2"})
        assert self.config_manager(oneshot=True).exit_error() is None
        if self.release.installed.daemon_first:
            self.daemon = self.start_daemon()
        self.sidecar = self.config_manager()

    def config_manager(self, *, oneshot: bool = False) -> Part:
        return self.machine.config_manager(
            oneshot=oneshot,
            neighbour=self.release.signals,
            version=self.release.version,
            config_file=self.config,
        )

    def start_daemon(self) -> Part:
        daemon = self.machine.start_mps_daemon(self.config)
        self.machine.log.wait_for("MPS sharing; Waiting" if self.linked == "plain" else "is ready")
        return daemon

    @property
    def linked(self) -> str:
        """The key that the link leads to."""
        return self.config.readlink().name

    @property
    def commands(self) -> list[str]:
        written = self.machine.mps / "commands.log"
        return written.read_text().splitlines() if written.exists() else []


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "mps-config.yaml"


def test_a_the_chart_s_daemon_is_right_by_luck_and_not_again(machine: Machine, config: Path) -> None:
    pod = MpsPod(machine, CHART, config)
    assert pod.sidecar.exit_error() == LOST
    daemon = pod.start_daemon()
    assert "set_default_active_thread_percentage 50" in pod.commands
    assert pod.config_manager().exit_error() == LOST
    assert pod.linked == "plain"
    machine.stop(daemon)
    pod.start_daemon()
    assert pod.commands[-1] == "quit"
    assert pod.config_manager().exit_error() == LOST
    assert pod.linked == "mps2"


def test_b_the_gpu_operator_s_daemon_never_has_mps(machine: Machine, config: Path) -> None:
    pod = MpsPod(machine, GPU_OPERATOR, config)
    assert pod.sidecar.exit_error() == LOST
    assert pod.linked == "mps2"
    assert pod.config_manager().exit_error() == LOST
    assert pod.daemon.is_alive()
    assert pod.commands == []


def test_c_a_signal_that_arrives_makes_it_right(machine: Machine, config: Path) -> None:
    pod = MpsPod(machine, CHART_CORRECTED, config)
    assert pod.sidecar.exit_error() == LOST  # once: the daemon is not there yet
    daemon = pod.start_daemon()
    restarted = pod.config_manager()
    machine.log.wait_for("Received SIGHUP, restarting.", times=2)
    machine.stop(daemon)
    assert pod.commands[-2:] == ["set_default_active_thread_percentage 50", "quit"]
    assert restarted.is_alive()
    assert pod.linked == "mps2"


@pytest.mark.parametrize("release", [GPU_OPERATOR_BEFORE, SOUND], ids=["E", "with the chart's order"])
def test_e_up_to_0_18_1_the_first_configuration_is_right(machine: Machine, config: Path, release: Release) -> None:
    pod = MpsPod(machine, release, config)
    assert pod.linked == "mps2"
    if not release.installed.daemon_first:
        pod.start_daemon()
    assert "set_default_active_thread_percentage 50" in pod.commands
    assert pod.sidecar.is_alive()
