"""Which nodes a pod must be on beyond the labels that it selects, beside whatever its user asks for.

Kubernetes has one list of terms, of which a node must meet one. So what two ask for is each term of the one with each of the
other. Must never drop what a user asked for, nor correct it: what is misshapen is the API server's to refuse.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_operator.partitioning.node_terms import Term

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def required(pod: dict[str, Any], terms: Iterable[Term]) -> dict[str, Any]:
    """A pod's spec, on nodes that also meet one of these terms."""
    affinity = pod.get("affinity") or {}
    nodes = affinity.get("nodeAffinity") or {} if isinstance(affinity, dict) else None
    theirs = nodes.get(_REQUIRED) or {} if isinstance(nodes, dict) else None
    if not isinstance(theirs, dict) or not isinstance(nodes, dict):
        return pod
    ours = [{"matchExpressions": deepcopy(list(one))} for one in terms]
    both = (
        [joined for one in _listed(theirs.get("nodeSelectorTerms")) for joined in _joined(one, ours)]
        if theirs
        else ours
    )
    return pod | {"affinity": affinity | {"nodeAffinity": nodes | {_REQUIRED: theirs | {"nodeSelectorTerms": both}}}}


def _joined(theirs: Any, ours: list[dict[str, Any]]) -> list[Any]:
    """NB: a term with nothing in it is met by no node, and must go on being met by none."""
    is_term = isinstance(theirs, dict) and any(theirs.get(name) for name in ("matchExpressions", "matchFields"))
    expressions = (theirs.get("matchExpressions") or []) if is_term else None
    if not isinstance(expressions, list):
        return [theirs]
    return [theirs | {"matchExpressions": deepcopy([*expressions, *one["matchExpressions"]])} for one in ours]


def _listed(terms: Any) -> list[Any]:
    return terms if isinstance(terms, list) else []
