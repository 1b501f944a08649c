"""The manifests of the stand-in, with what a test wants different: `objects(...)`, to be applied as they are.

    python -m tests.standin.deployment | kubectl apply -f -      (one GPU, the image below)

A node is a GPU node once it has the label `nvidia.com/gpu.present=true`.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict
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


def objects(*, image: str = IMAGE, hardware: Hardware = ONE_GPU, config_manager: bool = True) -> list[dict[str, Any]]:
    """Every object of the stand-in, namespace first.

    Without `config_manager` it is what NVIDIA's chart makes when it is given no configurations: no sidecars, no
    ConfigMap, and the node's label does nothing. Pods restart when they are applied with other hardware.
    """
    env = {f"GPU_{name.upper()}": str(value) for name, value in asdict(hardware).items()}
    return [_adapted(made, image, env, config_manager) for made in _read() if config_manager or not _is_configs(made)]


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
