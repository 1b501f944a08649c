"""Devices, allocation and preference: what the device plugin answers, computed from configuration and GPUs.

Pure. Upstream: `internal/rm` (devices, allocate, ValidateRequest) and `internal/plugin` (Allocate, mps) of v0.20.0,
held to the recorded traces where they say something.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .config import GPU, PluginConfig, Policy
from .settings import Gpu

MPS_CONTAINER_ROOT = "/mps"
LIST_FOLDER = "/var/run/nvidia-container-devices"
"""Where the names of mounts tell a container its devices."""


class RequestRefusedError(Exception):
    """Allocate fails with this message; the kubelet then fails the pod with UnexpectedAdmissionError."""


@dataclass(frozen=True, slots=True)
class Device:
    """One schedulable unit: a whole GPU, or one replica of it."""

    id: str  # GPU-<uuid>, or GPU-<uuid>::<n> with n from 0
    gpu: str  # GPU-<uuid>
    index: int = 0  # of the GPU

    @property
    def is_replica(self) -> bool:
        """Whether the GPU is shared, as the id tells."""
        return self.id != self.gpu


@dataclass(frozen=True, slots=True)
class Offer:
    """What the plugin advertises under one resource name."""

    config: PluginConfig
    devices: tuple[Device, ...]

    @property
    def resource(self) -> str:
        """The extended resource's name."""
        return self.config.resource


@dataclass(frozen=True, slots=True)
class Mount:
    """A read-write bind mount of a host path."""

    container_path: str
    host_path: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What a container is given for its devices."""

    envs: dict[str, str]
    mounts: tuple[Mount, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    cdi_devices: tuple[str, ...] = ()
    device_files: tuple[Mount, ...] = ()


def offer(config: PluginConfig, gpus: Sequence[Gpu]) -> Offer:
    """The devices of a node's GPUs under a configuration."""
    if config.sharing.strategy == "none":
        return Offer(config, tuple(Device(gpu.uuid, gpu.uuid, gpu.index) for gpu in gpus))
    slots = range(config.sharing.replicas)
    return Offer(config, tuple(Device(f"{gpu.uuid}::{slot}", gpu.uuid, gpu.index) for gpu in gpus for slot in slots))


def allocate(offered: Offer, ids: Sequence[str]) -> Grant:
    """What a container that holds these devices gets; RequestRefusedError in upstream's words."""
    by_id = {device.id: device for device in offered.devices}
    unknown = [device_id for device_id in ids if device_id not in by_id]
    if unknown:
        raise _refusal(offered, f"unknown device: {unknown[0]}")
    held = [by_id[device_id] for device_id in ids]
    sharing = offered.config.sharing
    if len(held) > 1 and sharing.fail_requests_greater_than_one and any(device.is_replica for device in held):
        raise _refusal(offered, f"maximum request size for shared resources is 1; found {len(held)}")
    return _told(offered.config, held, *_for_mps(offered))


def _told(config: PluginConfig, held: Sequence[Device], envs: dict[str, str], mounts: tuple[Mount, ...]) -> Grant:
    """What tells a container its devices, in each way that is asked for, beside what it gets anyway."""
    ids = [device.gpu if config.id_strategy == "uuid" else str(device.index) for device in held]
    told: dict[str, str] = {}
    cdi = tuple(f"{GPU}={name}" for name in ids)
    if "envvar" in config.list_strategies:
        told["NVIDIA_VISIBLE_DEVICES"] = ",".join(ids)
    if "volume-mounts" in config.list_strategies:
        told["NVIDIA_VISIBLE_DEVICES"] = LIST_FOLDER
        mounts = (*(Mount(f"{LIST_FOLDER}/{name}", "/dev/null") for name in ids), *mounts)
    files = [f"/dev/nvidia{device.index}" for device in held] if config.pass_device_specs else []
    return Grant(
        told | envs,
        mounts,
        {"cdi.k8s.io/nvidia-device-plugin": ",".join(cdi)} if "cdi-annotations" in config.list_strategies else {},
        cdi if "cdi-cri" in config.list_strategies else (),
        tuple(Mount(name, config.driver_root.rstrip("/") + name) for name in files),
    )


def _for_mps(offered: Offer) -> tuple[dict[str, str], tuple[Mount, ...]]:
    if offered.config.sharing.strategy != "mps":
        return {}, ()
    pipe = pipe_folder(MPS_CONTAINER_ROOT, offered.resource)
    host_root = offered.config.mps_root or ""
    mounts = (Mount(pipe, pipe_folder(host_root, offered.resource)), Mount("/dev/shm", f"{host_root}/shm"))
    return {"CUDA_MPS_PIPE_DIRECTORY": pipe}, mounts


def pipe_folder(root: str, resource: str) -> str:
    """Where the MPS control daemon of a resource listens, below its root on the host or in a container."""
    return f"{root}/{resource}/pipe"


def prefer(offered: Offer, available: Sequence[str], required: Sequence[str], size: int) -> list[str]:
    """The devices that the plugin advises the kubelet to take, one after the other: the policy ranks GPUs anew each time.

    Ties go to the GPU taken from least within this request, then to the lowest index (upstream: a random one).
    """
    left = [device for device in offered.devices if device.id in set(available) - set(required)]
    if len(left) < size - len(required):
        raise RequestRefusedError("not enough available devices to satisfy allocation")
    order = {device.gpu: position for position, device in reversed(list(enumerate(offered.devices)))}
    taken = Counter(device.gpu for device in offered.devices) - Counter(device.gpu for device in left)
    picked = Counter(device.gpu for device in offered.devices if device.id in required)
    chosen = list(required)
    while len(chosen) < size:
        best = min(
            left,
            key=lambda device: (_rank(offered.config.policy, taken[device.gpu]), picked[device.gpu], order[device.gpu]),
        )
        left.remove(best)
        taken[best.gpu] += 1
        picked[best.gpu] += 1
        chosen.append(best.id)
    return chosen


def _rank(policy: Policy, taken_slots: int) -> int:
    return taken_slots if policy == "distributed" else -taken_slots


def _refusal(offered: Offer, reason: str) -> RequestRefusedError:
    return RequestRefusedError(f'invalid allocation request for "{offered.resource}": invalid request: {reason}')
