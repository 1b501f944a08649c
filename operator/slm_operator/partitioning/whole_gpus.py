"""Whole GPUs, as the device plugin offers them on a node that nobody has set up otherwise: for engines that share with nobody.

The name `nvidia.com/gpu` proves nothing: a time slice, a MIG device and a virtual GPU bear it too. So a GPU is whole only
where nothing says otherwise; a label that is absent says nothing, for not every cluster has feature discovery.
Source: docs/concepts/gpu-sharing.md, 27 and 28.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product as combinations
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.partitioning import discovery
from slm_operator.partitioning.base import UNSHARED, Partitioning
from slm_operator.partitioning.node_slices import REPLICAS_LABEL, STRATEGIES, STRATEGY_LABEL, UNSHARED_STRATEGY
from slm_operator.partitioning.node_terms import absent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.partitioning.base import SliceClass
    from slm_operator.partitioning.node_terms import Term

WHOLE_GPUS = Partitioning(name="WholeGPUs", resource=names.NVIDIA_GPU, changes_nodes=False)

NO_MIG = "all-disabled"
"""The value of MIG manager's label under which it has no GPU divided."""
_VIRTUAL = re.compile(r"-[0-9]{1,3}[ABCQ]$")
"""NVIDIA's types of virtual GPUs end so: A40-8Q, A100-1-5C."""
_OTHER_NODE = "use another node"

_EACH = (
    {"key": STRATEGY_LABEL, "operator": "NotIn", "values": sorted(one.label for one in STRATEGIES.values())},
    {"key": discovery.VIRTUAL_LABEL, "operator": "NotIn", "values": ["true"]},
    *map(absent, (discovery.MIG_SLICES_LABEL, *discovery.CLOUD_SHARING_LABELS)),
)
_EITHER = (
    (absent(REPLICAS_LABEL), {"key": REPLICAS_LABEL, "operator": "Lt", "values": ["2"]}),
    (absent(discovery.MIG_CONFIG_LABEL), {"key": discovery.MIG_CONFIG_LABEL, "operator": "In", "values": [NO_MIG]}),
)
"""NB: no operator of Kubernetes is for a label that is absent or small, so each is asked for both ways."""
ONLY_WHOLE: tuple[Term, ...] = tuple((*one, *_EACH) for one in combinations(*_EITHER))
"""The same for the scheduler, as far as labels can say it: terms of which a node must meet one. What a product's name says, its
label does not: whoever wants whole GPUs selects the product too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Why what a node offers as `nvidia.com/gpu` is part of a GPU each."""

    evidence: str
    """What says so: a label, a resource, a product."""
    what: str
    """What its devices are, as the rest of a sentence that begins with the node."""
    remedy: str = ""
    for_good: bool = False
    """Whether no configuration of the device plugin makes them whole: such a node is never reconfigured."""

    @property
    def because(self) -> str:
        """The rest of a sentence that begins with the node."""
        return f"{self.what} ({self.evidence}){f': {self.remedy}' if self.remedy else ''}"


def parts_of_gpus(
    labels: Mapping[str, str],
    capacity: Mapping[str, int],
    allocatable: Mapping[str, int],
    configured: SliceClass | None = None,
) -> Parts | None:
    """Why the devices of a node are no whole GPUs, the most lasting reason first; None where nothing says so.

    `configured`: the class of the configuration in force there, where anybody can say.
    """
    product = labels.get(discovery.PRODUCT_LABEL, "")
    return (
        _by_mig(labels, allocatable, product)
        or _virtual(labels, product)
        or _by_the_cloud(labels)
        or _by_the_plugin(labels, product, configured)
        or _by_count(labels, capacity, allocatable)
    )


def _by_mig(labels: Mapping[str, str], allocatable: Mapping[str, int], product: str) -> Parts | None:
    config = labels.get(discovery.MIG_CONFIG_LABEL, NO_MIG)
    devices = next((name for name in allocatable if name.startswith(discovery.MIG_DEVICES)), None)
    if config != NO_MIG:
        found = f"{discovery.MIG_CONFIG_LABEL}={config}"
    elif discovery.MIG_SLICES_LABEL in labels or "-MIG-" in product:
        found = f"{discovery.PRODUCT_LABEL}={product}"
    elif devices is not None and allocatable[devices]:
        found = f"it offers {devices}"
    else:
        return None
    return Parts(evidence=found, what="is divided by MIG", remedy=f"disable MIG there or {_OTHER_NODE}", for_good=True)


def _virtual(labels: Mapping[str, str], product: str) -> Parts | None:
    if labels.get(discovery.VIRTUAL_LABEL) == "true":
        found = f"{discovery.VIRTUAL_LABEL}=true"
    elif _VIRTUAL.search(product):
        found = f"{discovery.PRODUCT_LABEL}={product}"
    else:
        return None
    return Parts(evidence=found, what="has virtual GPUs, not whole ones", remedy=_OTHER_NODE, for_good=True)


def _by_the_cloud(labels: Mapping[str, str]) -> Parts | None:
    found = next((f"{name}={labels[name]}" for name in discovery.CLOUD_SHARING_LABELS if name in labels), None)
    if found is None:
        return None
    remedy = "use a node pool without GPU sharing"
    return Parts(evidence=found, what="has its GPUs shared by the cloud", remedy=remedy, for_good=True)


def _by_the_plugin(labels: Mapping[str, str], product: str, configured: SliceClass | None) -> Parts | None:
    strategy, replicas = labels.get(STRATEGY_LABEL) or UNSHARED_STRATEGY, labels.get(REPLICAS_LABEL)
    if strategy != UNSHARED_STRATEGY:
        found = f"{STRATEGY_LABEL}={strategy}"
    elif discovery.number(replicas) > 1:
        found = f"{REPLICAS_LABEL}={replicas}"
    elif product.endswith(discovery.SHARED_SUFFIX):
        found = f"{discovery.PRODUCT_LABEL}={product}"
    elif configured is not None and configured != UNSHARED:
        found = f"its device plugin is configured for {configured.label}"
    else:
        return None
    return Parts(evidence=found, what="offers slices of its GPUs, not whole ones")


def _by_count(labels: Mapping[str, str], capacity: Mapping[str, int], allocatable: Mapping[str, int]) -> Parts | None:
    """NB: where feature discovery does not read the plugin's configuration, it says that nobody shares them."""
    offered = max(one.get(WHOLE_GPUS.resource, 0) for one in (capacity, allocatable))
    count = discovery.number(labels.get(discovery.COUNT_LABEL))
    if not 0 < count < offered:
        return None
    found = f"it offers {offered} {WHOLE_GPUS.resource}, and {discovery.COUNT_LABEL} is {count}"
    return Parts(evidence=found, what="offers slices of its GPUs, not whole ones")
