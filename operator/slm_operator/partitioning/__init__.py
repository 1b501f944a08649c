"""Partitionings: ways of dividing GPUs. Code that gives an engine its share asks `partitioning_of`; nothing else distinguishes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.partitioning.node_slices import NODE_SLICES
from slm_operator.partitioning.pack_pod import PACK_POD
from slm_operator.partitioning.whole_gpus import WHOLE_GPUS

if TYPE_CHECKING:
    from slm_operator.partitioning.base import Partitioning, SliceClass

PARTITIONINGS: tuple[Partitioning, ...] = (WHOLE_GPUS, NODE_SLICES, PACK_POD)
RESOURCES = frozenset(one.resource for one in PARTITIONINGS)
"""Extended resources by which GPUs, or shares of them, are requested."""


def partitioning_of(slice_class: SliceClass) -> Partitioning:
    """What divides GPUs for engines of this class."""
    if slice_class.in_one_pod:
        return PACK_POD
    return WHOLE_GPUS if slice_class.is_whole else NODE_SLICES
