"""Which taints keep a pod away: the scheduler's own rule, for whoever asks before it does.

Source: Kubernetes core/v1, Toleration.ToleratesTaint. What a user wrote may be anything; the API server refuses a pod
with a toleration that it does not know, so here such a one tolerates nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slm_operator.watch.records import Taint

_TAINTS_OF_CONDITIONS = "node.kubernetes.io/"


class Toleration(NamedTuple):
    """What a pod puts up with. An empty key or effect stands for all of them."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


def tolerations_of(raws: Iterable[Mapping[str, Any]]) -> tuple[Toleration, ...]:
    """Tolerations as a pod spec has them."""
    return tuple(Toleration(*(str(raw.get(name) or "") for name in Toleration._fields)) for raw in raws)


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    """Whether a pod with these tolerations may be placed in spite of a taint."""
    return any(_matches(one, taint) for one in tolerations)


def is_for_long(taint: Taint) -> bool:
    """Whether a taint keeps pods away for good: those of conditions come and go, and DaemonSets tolerate them."""
    return taint.effect != "PreferNoSchedule" and not taint.key.startswith(_TAINTS_OF_CONDITIONS)


def _matches(toleration: Toleration, taint: Taint) -> bool:
    if toleration.key not in {"", taint.key} or toleration.effect not in {"", taint.effect}:
        return False
    if toleration.operator == "Exists":
        return True
    return toleration.operator in {"", "Equal"} and bool(toleration.key) and toleration.value == taint.value
