"""A node that changes is kept from the autoscalers of nodes: emptied by its change, it is what they take away first.

Karpenter and the cluster autoscaler each have an annotation for that. One that is there already is somebody's, whatever it
says, and stays; those that were added are remembered on the node. Must never leave one behind when the change is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api import names

if TYPE_CHECKING:
    from slm_operator.planning.fleet.node.state import NodeState


def keep(state: NodeState) -> dict[str, str | None]:
    """Annotations of a node whose change begins."""
    found = state.node.meta.annotations
    added = {*_added(state), *(name for name in names.KEEP_NODE_ANNOTATIONS if name not in found)}
    set_by_us: dict[str, str | None] = dict.fromkeys(sorted(added), "true")
    return set_by_us | {names.KEPT_ANNOTATION: " ".join(sorted(added))} if added else {}


def let_go(state: NodeState) -> dict[str, str | None]:
    """Annotations of a node whose change is over."""
    if names.KEPT_ANNOTATION not in state.node.meta.annotations:
        return {}
    return dict.fromkeys((*sorted(_added(state)), names.KEPT_ANNOTATION))


def _added(state: NodeState) -> set[str]:
    """Those that were added. NB: anybody may edit the memory of it, and no other name is taken from there."""
    remembered = (state.node.meta.annotations.get(names.KEPT_ANNOTATION) or "").split()
    return {name for name in names.KEEP_NODE_ANNOTATIONS if name in remembered}
