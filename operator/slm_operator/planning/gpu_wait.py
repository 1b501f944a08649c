"""Why no whole GPU is free for a profile: what the scheduler's "0/3 nodes are available" does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.planning.node_state import PRODUCT_LABEL, NodeState, node_states, whose
from slm_operator.planning.views import FleetView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.api.profile import GpuSpec
    from slm_operator.observe.records import NodeRecord, PodRecord

SHOWN_NODES = 5


def gpu_wait(gpu: GpuSpec, nodes: Iterable[NodeRecord], pods: Iterable[PodRecord]) -> str:
    """One sentence over the nodes that the profile could run on."""
    seen = FleetView(demands=(), nodes=tuple(nodes), pods=tuple(pods))
    states = [state for state in node_states(seen, "") if state.node.meta.labels.get(names.OPT_IN_LABEL) == "true"]
    if not states:
        return f"no node opted in; label GPU nodes {names.OPT_IN_LABEL}=true"
    told = [f"node {state.name} {_obstacle(state, gpu)}" for state in states]
    more = f"; and {len(told) - SHOWN_NODES} more" if len(told) > SHOWN_NODES else ""
    return "; ".join(told[:SHOWN_NODES]) + more


def _obstacle(state: NodeState, gpu: GpuSpec) -> str:
    labels = state.node.meta.labels
    missing = [f"{name}={value}" for name, value in gpu.node_selector.items() if labels.get(name) != value]
    holders = [whose(pod) for pod in (*state.busy_pods, *state.our_pods)]
    obstacles = (
        (not state.node.ready, "is not ready"),
        (state.node.unschedulable, "is cordoned"),
        (
            gpu.product is not None and labels.get(PRODUCT_LABEL) != gpu.product,
            f"has {labels.get(PRODUCT_LABEL)}, not {gpu.product}",
        ),
        (bool(missing), f"lacks label {', '.join(missing)}"),
        (names.SERVES_LABEL in labels, f"is cut into slices for {labels.get(names.SERVES_LABEL)}"),
        (bool(holders), f"has its GPU held by {', '.join(holders)}"),
        (state.node.allocatable.get(names.NVIDIA_GPU, 0) == 0, f"has no {names.NVIDIA_GPU} allocatable"),
    )
    return next(
        (words for applies, words in obstacles if applies),
        "has a GPU, and something else keeps the pod away: see its events",
    )
