"""The recorded behaviour of NVIDIA's binaries (v0.20.0 on a Kubernetes 1.35 kubelet, eight H100s), row by row.

Each test is one row of the recording: the action in its name, what was seen in its assertions.
"""

import json
from collections.abc import Callable

import pytest

from tests.standin.device_plugin import Setting
from tests.unit.standin.fake_kubelet import AdmissionError
from tests.unit.standin.machine import CONFIGS, LABEL, Machine

GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
MakeMachine = Callable[..., Machine]


def test_no_sharing_with_8_gpus_advertises_8(machine: Machine) -> None:
    machine.boot("plain")
    machine.kubelet.wait_for({GPU: 8})


def test_label_to_time_slicing_moves_allocatable_to_shared(machine: Machine) -> None:
    machine.boot("plain")
    machine.kubelet.wait_for({GPU: 8})
    machine.node.label({LABEL: "ts4"})
    machine.kubelet.wait_for({GPU: 0, SHARED: 32})
    assert machine.kubelet.capacity == {GPU: 8, SHARED: 32}


def test_time_slicing_from_4_to_2_leaves_a_running_pod_alone(machine: Machine) -> None:
    machine.boot("ts4")
    machine.kubelet.wait_for({SHARED: 32})
    machine.kubelet.admit(SHARED)
    machine.node.label({LABEL: "ts2"})
    machine.kubelet.wait_for({SHARED: 16})
    assert machine.kubelet.capacity == {SHARED: 16}
    assert machine.sidecar.is_alive()


def test_content_edited_under_the_key_in_use_is_never_loaded(machine: Machine) -> None:
    machine.boot("ts4")
    machine.kubelet.wait_for({SHARED: 32})
    machine.project(CONFIGS | {"ts4": CONFIGS["ts2"]})
    machine.node.label({"unrelated": "change"})
    # Had the edit done anything, it would be done before the next change of the label is.
    machine.node.label({LABEL: "plain"})
    machine.kubelet.wait_for({SHARED: 0, GPU: 8})
    assert machine.kubelet.registrations == [SHARED, GPU]
    assert machine.kubelet.capacity[SHARED] == 32


def test_label_of_a_missing_key_ends_config_manager_each_time(machine: Machine) -> None:
    machine.boot("ts4")
    machine.kubelet.wait_for({SHARED: 32})
    machine.node.label({LABEL: "nope"})
    assert machine.sidecar.exit_error() == "specified config nope does not exist"
    assert machine.config_manager().exit_error() == "specified config nope does not exist"
    assert machine.kubelet.allocatable == {SHARED: 32}
    assert machine.kubelet.registrations == [SHARED]


def test_key_in_use_deleted_hurts_only_when_the_sidecar_restarts(machine: Machine) -> None:
    machine.boot("ts4")
    machine.kubelet.wait_for({SHARED: 32})
    machine.project({key: text for key, text in CONFIGS.items() if key != "ts4"})
    assert machine.sidecar.is_alive()
    assert machine.config_manager().exit_error() == "specified config ts4 does not exist"
    # Another label does not help the sidecar: the dangling link is in its way.
    machine.node.label({LABEL: "ts2"})
    assert "error creating symlink" in str(machine.config_manager().exit_error())


def test_removed_label_selects_default_key_and_signals_plugin(machine: Machine) -> None:
    machine.boot("ts4")
    machine.kubelet.wait_for({SHARED: 32})
    machine.node.label({LABEL: None})
    machine.kubelet.wait_for({SHARED: 0, GPU: 8})


def test_config_manager_without_plugin_process_ends(machine: Machine) -> None:
    plugin = machine.boot("plain")
    machine.kubelet.wait_for({GPU: 8})
    machine.stop(plugin)
    machine.node.label({LABEL: "ts4"})
    assert machine.sidecar.exit_error() == "error finding pid: no process found"
    restarted = machine.config_manager()
    machine.start_plugin()
    machine.kubelet.wait_for({GPU: 0, SHARED: 32})
    assert restarted.is_alive()


def test_stopped_plugin_leaves_capacity_without_allocatable(machine: Machine) -> None:
    plugin = machine.boot("plain")
    machine.kubelet.wait_for({GPU: 8})
    machine.stop(plugin)
    machine.kubelet.wait_for({GPU: 0})
    assert machine.kubelet.capacity == {GPU: 8}


@pytest.mark.parametrize("config", ["ts4", "mps2"])
def test_request_of_2_shared_fails_admission(machine: Machine, config: str) -> None:
    machine.boot(config)
    machine.start_mps_daemon()
    machine.kubelet.wait_for({SHARED: 32 if config == "ts4" else 16})
    with pytest.raises(AdmissionError) as refused:
        machine.kubelet.admit(SHARED, 2)
    assert str(refused.value) == (
        'Allocate failed due to rpc error: code = Unknown desc = invalid allocation request for "nvidia.com/gpu.shared": '
        "invalid request: maximum request size for shared resources is 1; found 2"
    )


def test_container_of_a_shared_slot_sees_the_gpus_uuid(machine: Machine) -> None:
    machine.boot("ts4")
    machine.kubelet.wait_for({SHARED: 32})
    (device,), given = machine.kubelet.admit(SHARED)
    gpu, separator, slot = device.partition("::")
    assert (separator, slot) == ("::", "0")
    assert gpu.startswith("GPU-")
    assert given.envs == {"NVIDIA_VISIBLE_DEVICES": gpu}
    assert not given.mounts
    slots = {tuple(device.split("::")) for device in machine.kubelet.device_ids(SHARED)}
    assert slots == {(gpu.uuid, str(n)) for gpu in machine.gpus for n in range(4)}


def test_mps_configuration_without_mps_root_ends_the_plugin(make_machine: MakeMachine) -> None:
    machine = make_machine(env={})
    plugin = machine.boot("mps2")
    assert plugin.exit_error() == "using MPS requires --mps-root to be specified"
    assert machine.kubelet.registrations == []


def test_plugin_retries_until_the_mps_daemon_answers(machine: Machine) -> None:
    plugin = machine.boot("plain")
    machine.kubelet.wait_for({GPU: 8})
    machine.node.label({LABEL: "mps2"})
    machine.log.wait_for("error waiting for MPS daemon")
    machine.kubelet.wait_for({GPU: 0})
    assert plugin.is_alive()
    # The daemon comes late, and nobody signals the plugin: only a retry can find it.
    machine.start_mps_daemon()
    machine.kubelet.wait_for({GPU: 0, SHARED: 16})


def test_plugin_retries_every_30_s_by_default() -> None:
    assert Setting().retry_s == 30


def test_mps_control_daemon_with_2_replicas_of_80_gib_gpus(machine: Machine) -> None:
    plugin = machine.boot("mps2")
    daemon = machine.start_mps_daemon()
    machine.kubelet.wait_for({SHARED: 16})
    machine.log.wait_for("is ready")  # it answers the plugin before it has set its limits
    limits = [f"set_default_device_pinned_mem_limit {gpu} 40960M" for gpu in range(8)]
    started = [*limits, "set_default_active_thread_percentage 50"]
    sent = (machine.mps / "commands.log").read_text().splitlines()
    assert sorted(sent) == sorted(started)  # the GPUs in any order
    assert sent[-1] == started[-1]
    assert sorted(json.loads((machine.mps / "limits.json").read_text())) == sorted(started)
    assert (machine.mps / ".ready").exists()
    assert (machine.pipe() / "control").is_socket()
    modes = machine.mps / "compute-mode.json"
    assert json.loads(modes.read_text()) == {gpu.uuid: "EXCLUSIVE_PROCESS" for gpu in machine.gpus}

    machine.stop(daemon)
    assert (machine.mps / "commands.log").read_text().splitlines() == [*sent, "quit"]
    assert json.loads((machine.mps / "limits.json").read_text()) == []
    assert json.loads(modes.read_text()) == {gpu.uuid: "DEFAULT" for gpu in machine.gpus}
    assert not (machine.mps / ".ready").exists()
    assert plugin.is_alive()


def test_killed_mps_daemon_leaves_exclusive_process_behind(machine: Machine) -> None:
    machine.boot("mps2")
    daemon = machine.start_mps_daemon()
    machine.kubelet.wait_for({SHARED: 16})
    machine.node.fault("{mps_daemon_dead: true}")
    assert daemon.exit_error() == "the fault 'mps_daemon_dead' is switched on"
    assert set(json.loads((machine.mps / "compute-mode.json").read_text()).values()) == {"EXCLUSIVE_PROCESS"}
    assert machine.start_mps_daemon().exit_error() == "the fault 'mps_daemon_dead' is switched on"
    assert "quit" not in (machine.mps / "commands.log").read_text()


def test_container_of_an_mps_slot_has_pipe_and_shared_memory(machine: Machine) -> None:
    machine.boot("mps2")
    machine.start_mps_daemon()
    machine.kubelet.wait_for({SHARED: 16})
    (device,), given = machine.kubelet.admit(SHARED)
    assert given.envs == {
        "NVIDIA_VISIBLE_DEVICES": device.partition("::")[0],
        "CUDA_MPS_PIPE_DIRECTORY": "/mps/nvidia.com/gpu.shared/pipe",
    }
    assert {(mount.container_path, mount.host_path, mount.read_only) for mount in given.mounts} == {
        ("/mps/nvidia.com/gpu.shared/pipe", "/run/nvidia/mps/nvidia.com/gpu.shared/pipe", False),
        ("/dev/shm", "/run/nvidia/mps/shm", False),
    }


DRIVER = ("580", "65", "06")
COMMON_LABELS = {
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.count": "8",
    "nvidia.com/gpu.memory": "81920",
    "nvidia.com/gpu.family": "hopper",
    "nvidia.com/gpu.machine": "DGXH100",
    "nvidia.com/gpu.mode": "compute",
    "nvidia.com/gpu.clique": "00000000-0000-0000-0000-000000000001.0",
    "nvidia.com/vgpu.present": "false",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
    "nvidia.com/mig.capable": "true",
    "nvidia.com/cuda.driver-version.full": "580.65.06",
    "nvidia.com/cuda.runtime-version.full": "13.0",
    **{
        f"nvidia.com/cuda.driver-version.{part}": value
        for part, value in zip(("major", "minor", "revision"), DRIVER, strict=True)
    },
    **{f"nvidia.com/cuda.driver.{part}": value for part, value in zip(("major", "minor", "rev"), DRIVER, strict=True)},
    **{f"nvidia.com/cuda.{name}.major": "13" for name in ("runtime-version", "runtime")},
    **{f"nvidia.com/cuda.{name}.minor": "0" for name in ("runtime-version", "runtime")},
    "nvidia.com/gfd.timestamp": "1700000000",
}


@pytest.mark.parametrize(
    ("config", "replicas", "strategy", "mps_capable"),
    [("plain", "1", "none", "false"), ("ts4", "4", "time-slicing", "false"), ("mps2", "2", "mps", "true")],
)
def test_feature_discovery_labels(
    machine: Machine, config: str, replicas: str, strategy: str, mps_capable: str
) -> None:
    machine.node.label({LABEL: "ts2"})
    machine.config_manager(oneshot=True).join(5)
    machine.start_feature_discovery()
    machine.node.wait_for_labels({"nvidia.com/gpu.replicas": "2"})
    machine.config_manager(neighbour="gpu-feature-discovery")
    machine.node.label({LABEL: config})
    expected = COMMON_LABELS | {
        LABEL: config,
        "nvidia.com/gpu.replicas": replicas,
        "nvidia.com/gpu.sharing-strategy": strategy,
        "nvidia.com/mps.capable": mps_capable,
    }
    machine.node.wait_for_labels(expected)
    assert machine.node.metadata["labels"] == expected
    named = machine.node.metadata["annotations"]["nfd.node.kubernetes.io/feature-labels"].split(",")
    assert set(named) == expected.keys() - {LABEL}
