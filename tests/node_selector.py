"""Which nodes a pod may be on by its labels: node selector and required affinity, as the scheduler reads them.

Source: Kubernetes core/v1, NodeSelectorRequirement, and component-helpers' nodeaffinity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def admits(pod: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a pod with this spec may be on a node with these labels."""
    selected = all(labels.get(name) == value for name, value in (pod.get("nodeSelector") or {}).items())
    return selected and any_holds(required_terms(pod), labels)


def required_terms(pod: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """The terms of which a node must meet one; None: no affinity is required."""
    nodes = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    required = nodes.get("requiredDuringSchedulingIgnoredDuringExecution")
    return None if required is None else required["nodeSelectorTerms"]


def any_holds(terms: Sequence[Mapping[str, Any]] | None, labels: Mapping[str, str]) -> bool:
    """NB: a term with nothing in it is met by no node."""
    if terms is None:
        return True
    asked = (term.get("matchExpressions") or () for term in terms)
    return any(bool(all_of) and all(_holds(one, labels) for one in all_of) for all_of in asked)


def _holds(one: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(one["key"]), one.get("values") or ()
    match one["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Lt":
            return value is not None and value.isdecimal() and int(value) < int(values[0])
        case "Gt":
            return value is not None and value.isdecimal() and int(value) > int(values[0])
        case other:
            raise ValueError(other)
