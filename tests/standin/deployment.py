"""The manifests of the stand-in, with what a test wants different: `objects(...)`, to be applied as they are.

    python -m tests.standin.deployment | kubectl apply -f -      (one GPU, the image below)

A node is a GPU node once it has the label `nvidia.com/gpu.present=true`.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from .settings import Hardware

IMAGE = "slm-operator/gpu-standin:test"
NAMESPACE = "nvidia-device-plugin"
CONFIGS = "nvidia-device-plugin-configs"
GPU_NODE_LABEL = {"nvidia.com/gpu.present": "true"}
MANIFESTS = Path(__file__).parent / "manifests"
ONE_GPU = Hardware(count=1)


FORGETFUL = ((0, 18, 2), (0, 20, 0))
"""First and last release whose config-manager does not wait for the node before its first answer."""
PATH = "/usr/bin/mps-control-daemon"
"""Whom NVIDIA has the MPS daemon's config-manager signal, though the daemon runs as `mps-control-daemon`: no process is found."""


@dataclass(frozen=True, slots=True)
class Release:
    """What decides whether MPS holds that a node's label chooses: a release, its signal's target, and who installed it."""

    version: tuple[int, int, int] = (0, 18, 1)
    signals: str = "mps-control-daemon"
    daemon_first: bool = (
        False  # in the GPU Operator's pod the daemon is the first container, in the chart's its config-manager
    )

    @property
    def image(self) -> str:
        """NVIDIA's own image of it."""
        return f"nvcr.io/nvidia/k8s-device-plugin:v{'.'.join(map(str, self.version))}"

    @property
    def forgetful(self) -> bool:
        """Whether its config-manager begins with the default configuration."""
        return FORGETFUL[0] <= self.version <= FORGETFUL[1]


SOUND = Release()
CHART = Release((0, 20, 0), PATH)
CHART_CORRECTED = Release((0, 20, 0))
GPU_OPERATOR = Release((0, 20, 0), PATH, daemon_first=True)
GPU_OPERATOR_BEFORE = Release((0, 18, 1), PATH, daemon_first=True)


def objects(
    *, image: str = IMAGE, hardware: Hardware = ONE_GPU, config_manager: bool = True, release: Release = SOUND
) -> list[dict[str, Any]]:
    """Every object of the stand-in, namespace first.

    Without `config_manager` it is what NVIDIA's chart makes when it is given no configurations: no sidecars, no
    ConfigMap, and the node's label does nothing. Pods restart when they are applied with other hardware.
    """
    env = {f"GPU_{name.upper()}": str(value) for name, value in asdict(hardware).items()}
    made = [_adapted(made, image, env, config_manager) for made in _read() if config_manager or not _is_configs(made)]
    for daemon_set in (one for one in made if one["kind"] == "DaemonSet"):
        _as_released(daemon_set["spec"]["template"]["spec"], release)
    return made


def pod_of(part: str, release: Release) -> dict[str, Any]:
    """The spec of the pods of one DaemonSet, by the end of its name, with NVIDIA's own image."""
    made = (one for one in objects(image=release.image, release=release) if one["kind"] == "DaemonSet")
    spec: dict[str, Any] = next(
        one["spec"]["template"]["spec"] for one in made if one["metadata"]["name"].endswith(part)
    )
    return spec


def _read() -> Iterator[dict[str, Any]]:
    for path in sorted(MANIFESTS.glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text())


def _is_configs(made: dict[str, Any]) -> bool:
    return made["kind"] == "ConfigMap" and made["metadata"]["name"] == CONFIGS


def _adapted(made: dict[str, Any], image: str, env: dict[str, str], config_manager: bool) -> dict[str, Any]:  # noqa: FBT001
    if made["kind"] == "ConfigMap" and made["metadata"]["name"] == "standin-hardware":
        return made | {"data": env}
    if made["kind"] != "DaemonSet":
        return made
    template = made["spec"]["template"]
    template["metadata"]["annotations"] = {"standin.slm-operator.io/hardware": str(sorted(env.items()))}
    pod = template["spec"]
    if not config_manager:
        _remove_config_manager(pod)
    for container in pod.get("initContainers", []) + pod["containers"]:
        container["image"] = image
    return made


def _as_released(pod: dict[str, Any], release: Release) -> None:
    if release.daemon_first:
        pod["containers"].reverse()
    daemons = {container["command"][0] for container in pod["containers"]}
    for container in pod.get("initContainers", []) + pod["containers"]:
        if container["command"] != ["config-manager"]:
            continue
        container["env"] += [{"name": "STANDIN_FORGETFUL", "value": "true"}] if release.forgetful else []
        for variable in container["env"]:
            if variable["name"] == "PROCESS_TO_SIGNAL" and variable["value"] and "mps-control-daemon" in daemons:
                variable["value"] = release.signals


def _remove_config_manager(pod: dict[str, Any]) -> None:
    del pod["initContainers"], pod["shareProcessNamespace"]
    pod["containers"] = [made for made in pod["containers"] if made["command"] != ["config-manager"]]
    pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] not in ("available-configs", "config")]
    for container in pod["containers"]:
        container["env"] = [variable for variable in container["env"] if variable["name"] != "CONFIG_FILE"]
        mounts = container["volumeMounts"]
        container["volumeMounts"] = [mount for mount in mounts if mount["name"] not in ("available-configs", "config")]


if __name__ == "__main__":
    yaml.safe_dump_all(objects(), sys.stdout, sort_keys=False)
