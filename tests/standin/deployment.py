"""The manifests of the stand-in, with what a test wants different: `objects(...)`, to be applied as they are.

    python -m tests.standin.deployment | kubectl apply -f -      (one GPU, the image below)

A node is a GPU node once it has the label `nvidia.com/gpu.present=true`. `manifests/` is NVIDIA's chart; what the GPU Operator and
other releases make different is `releases.py`.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from .releases import FEATURES, INSTALLERS, MPS, PLUGIN, SOUND, VERSION_VARIABLE, Installed, Installer, Release, dotted
from .settings import Hardware

IMAGE = "slm-operator/gpu-standin:test"
NAMESPACE = "nvidia-device-plugin"
CONFIGS = "nvidia-device-plugin-configs"
PROBE = "daemonset/standin-probe"
GPU_NODE_LABEL = dict(INSTALLERS[Installer.CHART].node_labels)
MANIFESTS = Path(__file__).parent / "manifests"
ONE_GPU = Hardware(count=1)
PART_OF = {name: part for part, name in INSTALLERS[Installer.CHART].daemon_sets.items()}
PRIVILEGED = {"privileged": True}
BY_ENVIRONMENT = {"DEVICE_LIST_STRATEGY": "envvar", "DEVICE_ID_STRATEGY": "uuid"}
"""What the GPU Operator gives the plugin. NB: PASS_DEVICE_SPECS too, which is left out because there are no device files."""


def objects(
    *, image: str = IMAGE, hardware: Hardware = ONE_GPU, config_manager: bool = True, release: Release = SOUND
) -> list[dict[str, Any]]:
    """Every object of the stand-in, namespace first.

    Without `config_manager` it is what NVIDIA's chart makes when it is given no configurations: no sidecars, no
    ConfigMap, and the node's label does nothing. Pods restart when they are applied with other hardware.
    """
    env = {f"GPU_{name.upper()}": str(value) for name, value in asdict(hardware).items()}
    made = [one for one in _read() if config_manager or one["metadata"]["name"] != CONFIGS]
    for one in made:
        if one["metadata"]["name"] == "standin-hardware":
            one["data"] = env
        if one["kind"] in {"DaemonSet", "Deployment"}:
            pod = one["spec"]["template"]["spec"]
            if not config_manager:
                _remove_config_manager(pod)
            for container in pod.get("initContainers", []) + pod["containers"]:
                container["image"] = image
        if one["kind"] == "DaemonSet" and one["metadata"]["name"] in PART_OF:
            one["spec"]["template"]["metadata"]["annotations"] = {
                "standin.slm-operator.io/hardware": str(sorted(env.items()))
            }
            _as_released(one, PART_OF[one["metadata"]["name"]], release)
    return made


def pod_of(part: str, release: Release) -> dict[str, Any]:
    """The spec of the pods of one part, with NVIDIA's own image."""
    name = release.installed.daemon_sets[part]
    (made,) = (
        one
        for one in objects(image=release.image, release=release)
        if one["kind"] == "DaemonSet" and one["metadata"]["name"] == name
    )
    spec: dict[str, Any] = made["spec"]["template"]["spec"]
    return spec


def _read() -> Iterator[dict[str, Any]]:
    for path in sorted(MANIFESTS.glob("*.yaml")):  # account.yaml comes first, and has the namespace
        yield from yaml.safe_load_all(path.read_text())


def _as_released(made: dict[str, Any], part: str, release: Release) -> None:
    pod, installed = made["spec"]["template"]["spec"], release.installed
    for container in pod.get("initContainers", []) + pod["containers"]:
        container["env"] = [*container.get("env", ()), {"name": VERSION_VARIABLE, "value": dotted(release.version)}]
        for variable in container["env"]:
            if part == MPS and variable["name"] == "PROCESS_TO_SIGNAL" and variable["value"]:
                variable["value"] = release.signals
    if release.installer is Installer.GPU_OPERATOR:
        _as_gpu_operator(made, part, installed)


def _as_gpu_operator(made: dict[str, Any], part: str, installed: Installed) -> None:
    """Its names, its order and its environment. Left out: what waits for its toolkit and driver, which are not here."""
    template, labels = made["spec"]["template"], {"app": installed.daemon_sets[part]}
    pod = template["spec"]
    made["metadata"] |= {"name": installed.daemon_sets[part], "labels": labels}
    made["spec"]["selector"] = {"matchLabels": labels}
    template["metadata"]["labels"] = labels
    del pod["affinity"]
    deployed = FEATURES if part == FEATURES else PLUGIN
    pod["nodeSelector"] = {f"nvidia.com/gpu.deploy.{deployed}": "true"} | pod.get("nodeSelector", {})
    pod["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    if installed.daemon_first:
        pod["containers"].reverse()
    for container in pod["initContainers"] + pod["containers"]:
        container["name"] = installed.containers.get(container["name"], container["name"])
        if container["name"] == "config-manager":
            container["securityContext"] = PRIVILEGED
        for variable in container["env"]:
            if variable["name"] in installed.config_manager:
                variable["value"] = installed.config_manager[variable["name"]]
    if part == PLUGIN:
        daemon = pod["containers"][0]
        daemon |= {"command": ["/bin/sh", "-c"], "args": ["exec nvidia-device-plugin"], "securityContext": PRIVILEGED}
        daemon["env"] += [{"name": name, "value": value} for name, value in BY_ENVIRONMENT.items()]


def _remove_config_manager(pod: dict[str, Any]) -> None:
    pod.pop("shareProcessNamespace", None)
    for kind in ("initContainers", "containers"):
        pod[kind] = [made for made in pod.get(kind, ()) if made["command"] != ["config-manager"]]
    pod["volumes"] = [one for one in pod.get("volumes", ()) if one["name"] not in ("available-configs", "config")]
    for container in pod["containers"]:
        container["env"] = [variable for variable in container.get("env", ()) if variable["name"] != "CONFIG_FILE"]
        mounts = container.get("volumeMounts", ())
        container["volumeMounts"] = [mount for mount in mounts if mount["name"] not in ("available-configs", "config")]


if __name__ == "__main__":
    yaml.safe_dump_all(objects(), sys.stdout, sort_keys=False)
