"""What a cluster must have before a small language model can be served from shared GPUs: pure checks over gathered facts.

Each check is a line of a table that reads as the installation guide. Must never ask the cluster: `check` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.planning.node_state import COUNT_LABEL, MIG_CONFIG_LABEL, PRODUCT_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MIG_OFF = ("", "all-disabled")


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, with less than it could."""
    FAILED = "failed"
    """Nothing is served before this is mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node as far as the checks look."""

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, str]

    @property
    def gpus(self) -> int:
        """GPUs that feature discovery counts, else those that the plugin offers."""
        said = self.labels.get(COUNT_LABEL) or self.allocatable.get(names.NVIDIA_GPU) or "0"
        return int(said) if said.isdigit() else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was seen."""

    missing_kinds: tuple[str, ...]
    """Kinds of ours that the API server does not serve."""
    operators_ready: int | None
    """Ready pods of the operator. None: not allowed to look."""
    nodes: tuple[Node, ...] | None
    """None: not allowed to look."""
    may_create: bool
    """Whether this user may create an SLMDeployment in this namespace."""
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check's answer."""

    check: str
    level: Level
    because: str
    mend: str = ""


def preflight(facts: Facts) -> tuple[Finding, ...]:
    """Every check's answer, in the order in which one would install."""
    return tuple(check(facts) for check in CHECKS)


def _kinds(facts: Facts) -> Finding:
    if facts.missing_kinds:
        missing = " and ".join(facts.missing_kinds)
        return Finding(
            check="API", level=Level.FAILED, because=f"{missing} not known here", mend="install the chart slm-operator"
        )
    return Finding(check="API", level=Level.OK, because=f"{names.API_VERSION} is served")


def _operator(facts: Facts) -> Finding:
    ready = facts.operators_ready
    if ready is None:
        return Finding(
            check="Operator",
            level=Level.WARNING,
            because="not seen: no right to list Deployments",
            mend="ask whoever runs the cluster",
        )
    if ready == 0:
        return Finding(
            check="Operator", level=Level.FAILED, because="no ready pod of the operator",
            mend="install the chart, or read its log: kubectl logs -A -l app.kubernetes.io/name=slm-operator",
        )  # fmt: skip
    return Finding(check="Operator", level=Level.OK, because=f"{ready} ready")


def _rights(facts: Facts) -> Finding:
    if not facts.may_create:
        return Finding(
            check="Rights", level=Level.FAILED, because=f"you may not create an SLMDeployment in namespace {facts.namespace}",
            mend="ask for the verb create on slmdeployments, or give another -n",
        )  # fmt: skip
    return Finding(
        check="Rights", level=Level.OK, because=f"you may create an SLMDeployment in namespace {facts.namespace}"
    )


def _gpus(facts: Facts) -> Finding:
    nodes = _gpu_nodes(facts)
    if facts.nodes is None:
        return Finding(
            check="GPUs",
            level=Level.WARNING,
            because="not seen: no right to list Nodes",
            mend="ask whoever runs the cluster",
        )
    if not nodes:
        return Finding(
            check="GPUs", level=Level.FAILED, because="no node offers an NVIDIA GPU",
            mend="install NVIDIA's GPU Operator, or its device plugin with feature discovery",
        )  # fmt: skip
    products = sorted({n.labels.get(PRODUCT_LABEL, "of unknown product") for n in nodes})
    return Finding(
        check="GPUs",
        level=Level.OK,
        because=f"{sum(n.gpus for n in nodes)} on {len(nodes)} nodes: {', '.join(products)}",
    )


def _discovery(facts: Facts) -> Finding:
    blind = [n.name for n in _gpu_nodes(facts) if PRODUCT_LABEL not in n.labels]
    if blind:
        return Finding(
            check="Feature discovery", level=Level.FAILED, because=f"no label {PRODUCT_LABEL} on {_some(blind)}",
            mend="enable GPU feature discovery (gfd) in NVIDIA's chart",
        )  # fmt: skip
    return Finding(check="Feature discovery", level=Level.OK, because="every GPU node says what it has")


def _opted_in(facts: Facts) -> Finding:
    nodes = _gpu_nodes(facts)
    chosen = [n for n in nodes if names.OPT_IN_LABEL in n.labels]
    if nodes and not chosen:
        return Finding(
            check="Opt-in", level=Level.WARNING, because="no GPU node may be sliced by the operator: one engine per GPU at most",
            mend=f"kubectl label node {nodes[0].name} {names.OPT_IN_LABEL}=true",
        )  # fmt: skip
    return Finding(check="Opt-in", level=Level.OK, because=f"{len(chosen)} of {len(nodes)} GPU nodes may be sliced")


def _mig(facts: Facts) -> Finding:
    cut = [
        n.name
        for n in _gpu_nodes(facts)
        if names.OPT_IN_LABEL in n.labels and n.labels.get(MIG_CONFIG_LABEL, "") not in MIG_OFF
    ]
    if cut:
        return Finding(
            check="MIG", level=Level.WARNING, because=f"MIG is configured on {_some(cut)}: the operator leaves them alone",
            mend=f"switch MIG off there ({MIG_CONFIG_LABEL}=all-disabled), or take {names.OPT_IN_LABEL} away",
        )  # fmt: skip
    return Finding(check="MIG", level=Level.OK, because="off where the operator slices")


CHECKS: tuple[Callable[[Facts], Finding], ...] = (_kinds, _operator, _rights, _gpus, _discovery, _opted_in, _mig)


def _gpu_nodes(facts: Facts) -> Sequence[Node]:
    return [n for n in facts.nodes or () if n.gpus or PRODUCT_LABEL in n.labels]


def _some(nodes: Sequence[str]) -> str:
    return ", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
