"""What the scheduler is asked of a node, as terms of which one must hold. Must never ask for a label that not every cluster has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.partitioning.discovery import PRODUCT_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

Expression = dict[str, Any]
"""Of a node selector, as Kubernetes has it."""
Term = tuple[Expression, ...]
"""Expressions that must all hold."""
_NO_LABELS: Mapping[str, str] = {}


def absent(label: str) -> Expression:
    """That a node has no such label."""
    return {"key": label, "operator": "DoesNotExist"}


def product_terms(product: str, others: Mapping[str, str] = _NO_LABELS) -> tuple[Term, ...]:
    """Terms that bind a GPU product by the first label that a node has of those that tell it.

    `others`: value of each further label, in the order in which they are asked. Where a node has none of them, it may be.
    """
    terms: list[Term] = []
    none_before: Term = ()
    for label, value in {PRODUCT_LABEL: product, **others}.items():
        terms.append((*none_before, {"key": label, "operator": "In", "values": [value]}))
        none_before = (*none_before, absent(label))
    return (*terms, none_before)
