"""The node labels of GPU feature discovery.

Pure. Upstream: `internal/lm` of v0.20.0.
"""

from .config import PluginConfig
from .settings import Hardware


def feature_labels(config: PluginConfig, hardware: Hardware, *, timestamp_s: int) -> dict[str, str]:
    """Every label that feature discovery owns on a node with these GPUs; none without GPUs, save its timestamp."""
    labels = {"gfd.timestamp": str(timestamp_s)}
    if hardware.count:
        sharing = config.sharing
        major, _, minor = hardware.compute_capability.partition(".")
        suffix = "-SHARED" if sharing.strategy != "none" and not sharing.renamed else ""
        labels |= {
            "gpu.count": str(hardware.count),
            "gpu.product": hardware.product.replace(" ", "-") + suffix,
            "gpu.memory": str(hardware.memory_mib),
            "gpu.family": hardware.family,
            "gpu.machine": hardware.machine.replace(" ", "-"),
            "gpu.mode": "compute",
            "gpu.clique": hardware.clique,
            "gpu.compute.major": major,
            "gpu.compute.minor": minor or "0",
            "gpu.replicas": str(sharing.replicas),
            "gpu.sharing-strategy": sharing.strategy,
            "mps.capable": "true" if sharing.strategy == "mps" else "false",
            # MIG came with compute capability 8.0, on data-centre parts; the recorded H100s have it.
            "mig.capable": "true" if int(major) >= 8 else "false",
            "vgpu.present": "false",
            **_versions(hardware),
        }
    return {f"nvidia.com/{name}": value for name, value in labels.items()}


def _versions(hardware: Hardware) -> dict[str, str]:
    """Of driver and CUDA, part by part: under their names and under those that they had before."""
    driver, cuda = hardware.driver_version.split("."), hardware.cuda_version.split(".")
    major, minor, revision = (*driver, "", "")[:3]
    return {
        "cuda.driver-version.full": hardware.driver_version,
        "cuda.driver-version.major": major,
        "cuda.driver-version.minor": minor,
        "cuda.driver-version.revision": revision,
        "cuda.driver.major": major,
        "cuda.driver.minor": minor,
        "cuda.driver.rev": revision,
        "cuda.runtime-version.full": hardware.cuda_version,
        "cuda.runtime-version.major": cuda[0],
        "cuda.runtime-version.minor": cuda[1],
        "cuda.runtime.major": cuda[0],
        "cuda.runtime.minor": cuda[1],
    }
