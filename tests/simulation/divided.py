"""GPUs that somebody else divides: what such a node shows and offers, whatever its label asks of the plugin.

To the scheduler each device is a `nvidia.com/gpu`. Only labels tell, and not each of them of each kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_operator.partitioning.base import UNSHARED
from slm_operator.partitioning.discovery import COUNT_LABEL
from slm_operator.partitioning.node_slices import REPLICAS_LABEL, STRATEGY_LABEL
from slm_operator.partitioning.plugin_config import class_of_config

from .objects import CONFIG_LABEL, PRODUCT_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.partitioning.base import SliceClass

UNRENAMED = "theirs-unrenamed"
UNRENAMED_TEXT = """version: v1
sharing:
  timeSlicing:
    resources: [{name: gpu, replicas: 4}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """One way in which it is done."""

    what: str
    devices_per_gpu: int
    suffix: str = ""
    """What the product's name gains by it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    loaded: SliceClass = UNSHARED
    """What the plugin's configuration makes of the GPUs."""
    is_counted: bool = False
    """Whether feature discovery counts devices, not GPUs."""

    def shown(self, product: str, gpus: int) -> dict[str, str]:
        """Labels of such a node."""
        counted = {COUNT_LABEL: str(gpus * self.devices_per_gpu)} if self.is_counted else {}
        return {PRODUCT_LABEL: product + self.suffix, **counted, **self.labels}


DIVISIONS = (
    Division(
        what="time slices that are not renamed",
        devices_per_gpu=4,
        suffix="-SHARED",
        labels={CONFIG_LABEL: UNRENAMED, STRATEGY_LABEL: "time-slicing", REPLICAS_LABEL: "4"},
        loaded=class_of_config(UNRENAMED_TEXT) or UNSHARED,
    ),
    Division(
        what="MIG devices",
        devices_per_gpu=7,
        suffix="-MIG-1g.10gb",
        labels={STRATEGY_LABEL: "none", REPLICAS_LABEL: "1", "nvidia.com/mig.config": "all-1g.10gb"},
        is_counted=True,
    ),
    Division(
        what="shares of a cloud",
        devices_per_gpu=2,
        labels={
            STRATEGY_LABEL: "none",
            REPLICAS_LABEL: "1",
            "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing",
        },
    ),
)
