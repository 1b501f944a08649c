"""Whole GPUs, as the device plugin offers them on a node that nobody has set up otherwise: for engines that share with nobody."""

from slm_operator.api import names
from slm_operator.partitioning.base import Partitioning

WHOLE_GPUS = Partitioning(resource=names.NVIDIA_GPU, changes_nodes=False)
