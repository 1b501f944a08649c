"""A pack in a pod: one pod has one whole GPU, and a supervisor in it runs all R engines under the limits that were measured.

No node is changed and none is asked for its consent: the pod requests what any GPU pod does, and the scheduler places
it. The product that was measured is bound by the first label that a node has of those that tell it; where it has none the
user's own selector is trusted, and the supervisor compares before it starts. Must never need a right on nodes.
"""

from __future__ import annotations

from slm_operator.api import names
from slm_operator.partitioning.base import Partitioning

PACK_POD = Partitioning(
    name="PackPod",
    resource=names.NVIDIA_GPU,
    changes_nodes=False,
    needs_opt_in=False,
    is_placed=False,
    runs_packs=True,
)
