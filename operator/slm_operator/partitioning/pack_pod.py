"""A pack in a pod: one pod has one whole GPU, and a supervisor in it runs all R engines under the limits that were measured.

No node is changed and none is asked for its consent: the pod requests what any GPU pod does, and the scheduler places
it. The product that was measured is bound by the first label that a node has of those that tell it; where it has none the
user's own selector is trusted, and the supervisor compares before it starts. Must never need a right on nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.partitioning.base import Partitioning
from slm_operator.partitioning.discovery import PRODUCT_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

PACK_POD = Partitioning(
    name="PackPod",
    resource=names.NVIDIA_GPU,
    changes_nodes=False,
    needs_opt_in=False,
    is_placed=False,
    runs_packs=True,
)


def product_terms(product: str, others: Mapping[str, str]) -> list[dict[str, Any]]:
    """Node selector terms, of which one must hold, that bind a GPU product. `others`: value of each further label that tells it.

    The labels are asked in order: the next one counts only where a node has none of those before it.
    """
    terms: list[dict[str, Any]] = []
    absent: list[dict[str, Any]] = []
    for label, value in {PRODUCT_LABEL: product, **others}.items():
        terms.append({"matchExpressions": [*absent, {"key": label, "operator": "In", "values": [value]}]})
        absent = [*absent, {"key": label, "operator": "DoesNotExist"}]
    return [*terms, {"matchExpressions": absent}]
