"""What some advice makes of an engine, and of so many of them: what replicas' manifests are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_core.units import GIB
from slm_operator.api import names
from slm_operator.api.status import ConfigurationStatus
from slm_operator.manifests.engine import MeasuredOn, Serving
from slm_operator.manifests.replicas import Fleet, advice_digest
from slm_operator.manifests.served import Served

if TYPE_CHECKING:
    from slm_core.measurements import SharingMode


def serving(mode: SharingMode, per_gpu: int, **more: Any) -> Serving:
    figures: dict[str, Any] = {
        "batch_size": 96,
        "kv_bytes": 9_000_000_000,
        "max_num_batched_tokens": 2048,
        "engines_per_gpu": per_gpu,
        "sharing_mode": mode,
        "gpu_memory_utilization": 0.9 / per_gpu,
        "weights_bytes": 2_600_000_000,
    }
    return Serving(**(figures | more))


def pack_serving(mode: SharingMode, per_gpu: int, **more: Any) -> Serving:
    """The same, where one pod runs them all."""
    return serving(
        mode, per_gpu, pack_on=MeasuredOn(gpu_product="NVIDIA-H100-80GB-HBM3", gpu_memory_bytes=80 * GIB), **more
    )


def replica_fleet(
    of: Serving, count: int = 1, profile: str = "p", *, spare_slot: bool = False, **changed: Any
) -> Fleet:
    """So many replicas of it, anywhere, as the first versions made them. `changed`: of what they were made from."""
    configuration = ConfigurationStatus(
        batch_size=of.batch_size,
        kv_cache_bytes=of.kv_bytes,
        max_num_batched_tokens=of.max_num_batched_tokens,
        engines_per_gpu=of.engines_per_gpu,
        sharing_mode=of.sharing_mode.value,
    )
    made_from = {"profile": profile, "digest": advice_digest(of), "source": "Measured", "configuration": configuration}
    served = Served.model_validate(made_from | changed)
    return Fleet(count=count, served=served, opt_in_label=names.OPT_IN_LABEL, spare_slot=spare_slot)
