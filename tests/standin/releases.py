"""Which of NVIDIA's stacks is played: a version of the device plugin, and who installed it. The two settings, as two tables.

    BEHAVIOURS   what versions do that others do not; a container asks by STANDIN_VERSION
    INSTALLERS   NVIDIA's chart and the GPU Operator: names, order of containers, environment

Sources: tags of k8s-device-plugin, assets of gpu-operator 26.7, and the run with NVIDIA's own binaries in docs/concepts/gpu-sharing.md, 24.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Version = tuple[int, int, int]

VERSION_VARIABLE = "STANDIN_VERSION"
FIRST: Version = (0, 12, 0)
LATEST: Version = (999, 0, 0)
BEHAVIOURS: dict[str, tuple[Version, Version]] = {
    "forgetful": (
        (0, 18, 2),
        (0, 20, 0),
    ),  # config-manager's first answer at each start is that of a node without a label
    "panics": (
        FIRST,
        (0, 19, 999),
    ),  # it ends at a process without a command line (a kernel thread, a zombie), pull request 1822
    "packs": ((0, 20, 0), LATEST),  # the plugin knows sharedDevicesAllocationPolicy
}
"""First and last version that does it."""
PATH = "/usr/bin/mps-control-daemon"
"""Whom NVIDIA has the MPS daemon's config-manager signal, though the daemon runs as `mps-control-daemon`: no process is found."""
DAEMON = "mps-control-daemon"


class Installer(StrEnum):
    """Who installed the stack."""

    CHART = "chart"
    GPU_OPERATOR = "gpu-operator"


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installer makes different. NB: namespace, ConfigMap and account keep the chart's names: users choose those."""

    daemon_sets: Mapping[str, str]
    """Part -> name of its DaemonSet."""
    daemon_first: bool
    """Whether the daemon is the first container of a pod; else its config-manager is."""
    containers: Mapping[str, str] = field(default_factory=dict)
    """Names of containers, by the chart's."""
    config_manager: Mapping[str, str] = field(default_factory=dict)
    """Variables of the config-managers that have other values."""
    node_labels: Mapping[str, str] = field(default_factory=dict)
    """What the installer labels a GPU node with, which the DaemonSets select by."""


PLUGIN, FEATURES, MPS = "device-plugin", "gpu-feature-discovery", "mps-control-daemon"
INSTALLERS: dict[Installer, Installed] = {
    Installer.CHART: Installed(
        {
            PLUGIN: "nvidia-device-plugin",
            FEATURES: "nvidia-device-plugin-gpu-feature-discovery",
            MPS: "nvidia-device-plugin-mps-control-daemon",
        },
        daemon_first=False,
        node_labels={"nvidia.com/gpu.present": "true"},
    ),
    Installer.GPU_OPERATOR: Installed(
        {
            PLUGIN: "nvidia-device-plugin-daemonset",
            FEATURES: "gpu-feature-discovery",
            MPS: "nvidia-device-plugin-mps-control-daemon",
        },
        daemon_first=True,
        containers={
            "nvidia-device-plugin-ctr": "nvidia-device-plugin",
            "gpu-feature-discovery-ctr": "gpu-feature-discovery",
            "nvidia-device-plugin-sidecar": "config-manager",
            "gpu-feature-discovery-sidecar": "config-manager",
            "mps-control-daemon-sidecar": "config-manager",
            "nvidia-device-plugin-init": "config-manager-init",
            "gpu-feature-discovery-init": "config-manager-init",
            "mps-control-daemon-init": "config-manager-init",
        },
        config_manager={"DEFAULT_CONFIG": "", "FALLBACK_STRATEGIES": "empty"},
        node_labels={
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.deploy.device-plugin": "true",
            "nvidia.com/gpu.deploy.gpu-feature-discovery": "true",
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Release:
    """A version, whom its MPS daemon's config-manager signals, and who installed it."""

    version: Version
    signals: str = DAEMON
    installer: Installer = Installer.CHART

    @property
    def image(self) -> str:
        """NVIDIA's own image of it."""
        return f"nvcr.io/nvidia/k8s-device-plugin:v{dotted(self.version)}"

    @property
    def installed(self) -> Installed:
        """What its installer makes different."""
        return INSTALLERS[self.installer]


# NB: what the suite runs on must work, or nothing else could be tested: the last version that waits for the node, with the signal
# corrected as NVIDIA has done since (pull request 1827). The others are NVIDIA's own, and are asked for by name.
SOUND = Release((0, 18, 1))
CHART = Release((0, 20, 0), PATH)
CHART_CORRECTED = Release((0, 20, 0))
CHART_BEFORE = Release((0, 18, 1), PATH)
CHART_OLD = Release((0, 17, 0), PATH)
GPU_OPERATOR = Release((0, 20, 0), PATH, Installer.GPU_OPERATOR)
GPU_OPERATOR_CORRECTED = Release((0, 20, 0), DAEMON, Installer.GPU_OPERATOR)
GPU_OPERATOR_BEFORE = Release((0, 18, 1), PATH, Installer.GPU_OPERATOR)


def does(behaviour: str, version: Version) -> bool:
    """Whether a version does what BEHAVIOURS names."""
    first, last = BEHAVIOURS[behaviour]
    return first <= version <= last


def version_from(env: Mapping[str, str]) -> Version:
    """The version that a container plays."""
    major, minor, patch = env.get(VERSION_VARIABLE, dotted(SOUND.version)).split(".")
    return int(major), int(minor), int(patch)


def dotted(version: Version) -> str:
    """As a tag has it."""
    return ".".join(map(str, version))
