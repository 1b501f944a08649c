"""Commands to the MPS control daemon, computed from configuration and GPUs.

Pure. Upstream: `cmd/mps-control-daemon/mps` of v0.20.0.
"""

from collections.abc import Sequence

from .config import ConfigError, PluginConfig
from .settings import Gpu

EXCLUSIVE_PROCESS = "EXCLUSIVE_PROCESS"
DEFAULT = "DEFAULT"


def control_commands(config: PluginConfig, gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """The limits of every client, as commands to the daemon: equal memory in MiB and equal threads in per cent."""
    replicas = config.sharing.replicas
    return (
        *(f"set_default_device_pinned_mem_limit {gpu.index} {gpu.memory_mib // replicas}M" for gpu in gpus),
        f"set_default_active_thread_percentage {100 // replicas}",
    )


def check_replicas(config: PluginConfig, compute_capability: str) -> None:
    """Refuse more clients than an MPS server takes. Raises ConfigError."""
    major, _, minor = compute_capability.partition(".")
    most = 48 if (int(major), int(minor or 0)) >= (7, 5) else 16
    if config.sharing.replicas > most:
        excess = f"invalid device maximum allowed replicas exceeded: {config.sharing.replicas} > {most}"
        raise ConfigError(f"invalid MPS configuration: {excess}")
