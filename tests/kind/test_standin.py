"""The stand-in for NVIDIA's stack on a real kubelet: what the node shows, and what a pod is given."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.control_plane.operator_process import wait_until
from tests.standin.config_manager import LABEL
from tests.standin.deployment import CONFIGS, GPU_NODE_LABEL, IMAGE, NAMESPACE, PROBE, objects
from tests.standin.settings import FAULTS_ANNOTATION, Hardware
from tests.testbed.kind import KindCluster

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]

STANDIN = Path(__file__).parents[1] / "standin"
GPUS = 2
SHARING = """\
version: v1
sharing:
  {strategy}:
    renameByDefault: true
    failRequestsGreaterThanOne: true
    resources: [{{name: nvidia.com/gpu, replicas: {replicas}}}]
"""


class GpuNode:
    """The node as `kubectl get node` shows it."""

    def __init__(self, cluster: KindCluster) -> None:
        self.cluster = cluster
        self.kubectl = cluster.kubectl

    def install(self) -> None:
        made = objects(hardware=Hardware(count=GPUS))
        (configs,) = (one for one in made if one["metadata"]["name"] == CONFIGS)
        configs["data"] |= {
            f"{name}{replicas}": SHARING.format(strategy=strategy, replicas=replicas)
            for name, strategy, replicas in (("ts", "timeSlicing", 4), ("ts", "timeSlicing", 2), ("mps", "mps", 2))
        }
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(made))

    def wait(
        self, kind: str, name: str, path: str, value: str, *, namespace: str = "default", timeout_s: int = 280
    ) -> None:
        condition = f"--for=jsonpath={{{path}}}={value}"
        limit = (f"--timeout={timeout_s}s", f"--namespace={namespace}")
        self.kubectl("wait", kind, name, condition, *limit, timeout_s=timeout_s + 30)

    def wait_for_allocatable(self, resource: str, count: int) -> None:
        path = ".status.allocatable." + resource.replace(".", "\\.")
        self.wait("node", self.cluster.node, path, str(count))

    def status(self) -> dict[str, Any]:
        return json.loads(self.kubectl("get", "node", self.cluster.node, "-o", "json"))

    def resources(self, kind: str) -> dict[str, int]:
        return {
            name: int(count) for name, count in self.status()["status"][kind].items() if name.startswith("nvidia.com/")
        }

    def select(self, key: str | None) -> None:
        self.kubectl("label", "node", self.cluster.node, f"{LABEL}={key}" if key else f"{LABEL}-", "--overwrite")

    def wait_for_label(self, name: str, value: str) -> None:
        self.wait("node", self.cluster.node, ".metadata.labels." + name.replace(".", "\\."), value)

    def run(self, name: str, *, slots: int = 1) -> None:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "engine",
                        "image": IMAGE,
                        "command": ["sleep", "infinity"],
                        "resources": {"limits": {"nvidia.com/gpu.shared": slots}},
                    }
                ],
            },
        }
        self.kubectl("apply", "-f", "-", stdin=json.dumps(pod))

    def env(self, pod: str) -> dict[str, str]:
        lines = self.kubectl("exec", pod, "--", "env").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def mps_commands(self) -> list[str]:
        """What MPS daemons of this node were sent, those of earlier tests too."""
        script = "cat /run/nvidia/mps/commands.log 2>/dev/null || true"
        return self.cluster.exec("sh", "-c", script).splitlines()

    def pod_of(self, container: str) -> str | None:
        """The pod with this container. NB: the chart's three DaemonSets have one and the same selector."""
        found = json.loads(self.kubectl("get", "pods", "--namespace", NAMESPACE, "-o", "json"))["items"]
        named = (one for one in found if any(part["name"] == container for part in one["spec"]["containers"]))
        return next((one["metadata"]["name"] for one in named), None)

    def allocations(self) -> dict[str, list[str]]:
        """Pod -> device ids, from the kubelet."""
        records = json.loads(self.kubectl("exec", "--namespace", NAMESPACE, PROBE, "--", "pod-resources"))
        return {record["pod"]: record["device_ids"] for record in records}


@pytest.fixture(scope="module")
def node(kind_cluster: KindCluster) -> Iterator[GpuNode]:
    kind_cluster.load_image(kind_cluster.build(STANDIN / "Dockerfile", STANDIN, IMAGE))
    ((name, value),) = GPU_NODE_LABEL.items()
    kind_cluster.kubectl("label", "node", kind_cluster.node, f"{name}={value}")
    node = GpuNode(kind_cluster)
    node.install()
    node.wait_for_allocatable("nvidia.com/gpu", GPUS)
    yield node
    kind_cluster.kubectl("delete", "-f", "-", "--wait", stdin=yaml.safe_dump_all(objects()))
    kind_cluster.kubectl("label", "node", kind_cluster.node, f"{name}-")


@pytest.fixture(autouse=True)
def _plain_node(node: GpuNode) -> Iterator[None]:
    yield
    node.kubectl("delete", "pod", "--all", "--wait")
    node.kubectl("annotate", "node", node.cluster.node, f"{FAULTS_ANNOTATION}-")
    node.select(None)
    node.wait_for_allocatable("nvidia.com/gpu", GPUS)
    if "nvidia.com/gpu.shared" in node.resources("allocatable"):
        # NB: the kubelet shows the slots of a plugin that is gone for a while, and the next test would take them for its own.
        node.wait_for_allocatable("nvidia.com/gpu.shared", 0)


def test_label_switch_moves_the_slots_and_leaves_pods_alone(node: GpuNode) -> None:
    node.wait_for_label("nvidia.com/gpu.sharing-strategy", "none")
    node.select("ts4")
    node.wait_for_allocatable("nvidia.com/gpu.shared", 4 * GPUS)
    node.wait_for_allocatable("nvidia.com/gpu", 0)  # the kubelet hears of each plugin's end and beginning by itself
    assert node.resources("capacity") == {"nvidia.com/gpu": GPUS, "nvidia.com/gpu.shared": 4 * GPUS}
    assert node.resources("allocatable") == {"nvidia.com/gpu": 0, "nvidia.com/gpu.shared": 4 * GPUS}
    node.wait_for_label("nvidia.com/gpu.replicas", "4")
    node.wait_for_label("nvidia.com/gpu.sharing-strategy", "time-slicing")

    for name in ("one", "two"):
        node.run(name)
        node.wait("pod", name, ".status.phase", "Running")
    held = node.allocations()
    assert {len(ids) for ids in held.values()} == {1}
    for name in ("one", "two"):
        gpu, _, slot = held[name][0].partition("::")
        assert node.env(name)["NVIDIA_VISIBLE_DEVICES"] == gpu
        assert slot in "0123"
    assert len({ids[0].partition("::")[0] for ids in held.values()}) == GPUS  # distributed over both GPUs

    node.run("greedy", slots=2)
    node.wait("pod", "greedy", ".status.reason", "UnexpectedAdmissionError")
    assert (
        'Allocate failed due to rpc error: code = Unknown desc = invalid allocation request for "nvidia.com/gpu.shared": '
        "invalid request: maximum request size for shared resources is 1; found 2"
    ) in node.kubectl("get", "pod", "greedy", "-o", "jsonpath={.status.message}")

    node.select("ts2")
    node.wait_for_allocatable("nvidia.com/gpu.shared", 2 * GPUS)
    phases = node.kubectl("get", "pods", "one", "two", "-o", "jsonpath={.items[*].status.phase}")
    assert phases.split() == ["Running", "Running"]


def test_mps_slot_has_pipe_and_shared_memory_of_the_daemon(node: GpuNode) -> None:
    before = len(node.mps_commands())
    node.select("mps2")
    # The plugin's first try precedes the daemon, whose pod waits for feature discovery: it comes with a retry.
    node.wait_for_allocatable("nvidia.com/gpu.shared", 2 * GPUS)
    node.wait_for_label("nvidia.com/mps.capable", "true")
    node.run("client")
    node.wait("pod", "client", ".status.phase", "Running")
    assert node.env("client")["CUDA_MPS_PIPE_DIRECTORY"] == "/mps/nvidia.com/gpu.shared/pipe"
    assert "control" in node.kubectl("exec", "client", "--", "ls", "/mps/nvidia.com/gpu.shared/pipe")
    node.kubectl("exec", "client", "--", "touch", "/dev/shm/mine")
    assert "mine" in node.cluster.exec("ls", "/run/nvidia/mps/shm")
    started = node.mps_commands()[before : before + 3]
    assert sorted(started[:2]) == [
        f"set_default_device_pinned_mem_limit {gpu} 40960M" for gpu in range(2)
    ]  # in any order
    assert started[2] == "set_default_active_thread_percentage 50"
    assert sorted(json.loads(node.cluster.exec("cat", "/run/nvidia/mps/limits.json"))) == sorted(started)
    assert "tmpfs" in node.cluster.exec("findmnt", "--noheadings", "--output", "FSTYPE", "/run/nvidia/mps/shm")

    node.select(None)
    node.wait_for_allocatable("nvidia.com/gpu", GPUS)
    node.wait_for_label("nvidia.com/mps.capable", "false")
    if pod := node.pod_of("mps-control-daemon-ctr"):
        node.kubectl("wait", "pod", pod, "--for=delete", "-n", NAMESPACE, "--timeout=280s")
    assert set(json.loads(node.cluster.exec("cat", "/run/nvidia/mps/compute-mode.json")).values()) == {"DEFAULT"}
    assert node.mps_commands()[-1] == "quit"


def test_label_naming_a_missing_key_makes_config_manager_exit(node: GpuNode) -> None:
    node.select("nope")
    pod = node.pod_of("nvidia-device-plugin-ctr")
    assert pod
    sidecar = '.status.containerStatuses[?(@.name=="nvidia-device-plugin-sidecar")]'
    node.wait("pod", pod, f"{sidecar}.lastState.terminated.exitCode", "1", namespace=NAMESPACE)
    # On the node, because the API gives only the last log, and none while it is being replaced.
    log = node.cluster.exec("sh", "-c", f"cat /var/log/pods/{NAMESPACE}_{pod}_*/nvidia-device-plugin-sidecar/*.log")
    assert "specified config nope does not exist" in log
    assert node.resources("allocatable")["nvidia.com/gpu"] == GPUS


def test_error_of_a_gpu_costs_one_device_until_the_next_start(node: GpuNode) -> None:
    node.select("ts4")
    node.wait_for_allocatable("nvidia.com/gpu.shared", 4 * GPUS)
    node.kubectl("annotate", "node", node.cluster.node, f"{FAULTS_ANNOTATION}={{xid_gpu: 1}}")
    node.wait_for_allocatable("nvidia.com/gpu.shared", 4 * GPUS - 1)
    assert node.resources("capacity")["nvidia.com/gpu.shared"] == 4 * GPUS
    node.select("ts2")
    node.wait_for_allocatable("nvidia.com/gpu.shared", 2 * GPUS)


def test_labels_come_and_go_with_their_node_feature(node: GpuNode) -> None:
    node.wait_for_label("nvidia.com/gpu.count", str(GPUS))
    found = json.loads(node.kubectl("get", "nodefeatures", "-n", NAMESPACE, "-o", "json"))["items"]
    (feature,) = found
    assert feature["metadata"]["name"] == f"nvidia-features-for-{node.cluster.node}"
    assert {one["kind"] for one in feature["metadata"]["ownerReferences"]} == {"Pod", "DaemonSet"}
    labels = node.status()["metadata"]["labels"]
    assert feature["spec"]["labels"].items() <= labels.items()
    features = ("daemonset/nvidia-device-plugin-gpu-feature-discovery", "--namespace", NAMESPACE)
    node.kubectl("delete", *features)
    wait_until(lambda: not feature["spec"]["labels"].keys() & node.status()["metadata"]["labels"].keys())
    node.install()
    node.wait_for_label("nvidia.com/gpu.count", str(GPUS))


def test_without_config_manager_other_hardware(node: GpuNode) -> None:
    bare = objects(hardware=Hardware(count=GPUS + 1), config_manager=False)
    node.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(bare))
    node.wait_for_allocatable("nvidia.com/gpu", GPUS + 1)
    node.wait_for_label("nvidia.com/gpu.count", str(GPUS + 1))
    node.install()
    node.wait_for_allocatable("nvidia.com/gpu", GPUS)
