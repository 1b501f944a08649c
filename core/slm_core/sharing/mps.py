"""Engines run side by side under NVIDIA's Multi-Process Service, each with a limit of memory and threads.

NB: a client that reaches no daemon silently runs without one, and the figures are those of time slicing: whoever
measures must verify that every engine is attached. The default compute mode suffices.
"""

from dataclasses import dataclass

from slm_core.measurements import SharingMode
from slm_core.sharing.base import EQUAL_SHARES, Limits, Sharing
from slm_core.tuning import MAX_SLICES, MAX_SLICES_OF_OLD_GPUS
from slm_core.units import MIB

CONTROL = "nvidia-cuda-mps-control"
"""The daemon's program, which NVIDIA's container runtime mounts."""
TURING = (7, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mps(Sharing):
    """See `Sharing`."""

    def limits(self, device_bytes: int, engines: int, own: Limits = EQUAL_SHARES) -> dict[str, str]:
        """What NVIDIA's device plugin sets for each client: memory in whole MiB, threads in whole percent."""
        memory_bytes = own.memory_bytes or self.memory_share(device_bytes, engines)
        return {
            "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"0={memory_bytes // MIB}M",
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(own.thread_percentage or 100 // engines),
        }

    def most_engines(self, capability: tuple[int, int] | None) -> int | None:
        """Clients that MPS serves."""
        return MAX_SLICES_OF_OLD_GPUS if capability is not None and capability < TURING else MAX_SLICES


MPS = Mps(mode=SharingMode.MPS, word="mps", title="MPS", daemon=CONTROL, is_limited=True)
