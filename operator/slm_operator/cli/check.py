"""`kubectl slm check`: whether this cluster and this user are ready, with the mend for what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from slm_operator.cli.cluster import DEPLOYMENT, PROFILE, Cluster, ask
from slm_operator.cli.preflight import Facts, Level, Node, preflight
from slm_operator.cli.terminal import console
from slm_operator.kube.errors import Forbidden, NotFound
from slm_operator.kube.resources import NODE, WORKLOAD, Resource

if TYPE_CHECKING:
    from argparse import Namespace

OPERATOR_SELECTOR = "app.kubernetes.io/name=slm-operator"
ACCESS_REVIEW = Resource(
    "authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
)
STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILED: "bold red"}


def run(arguments: Namespace) -> int:
    """Print one line a check. Exit code 1 when one failed."""
    findings = preflight(ask(arguments, gather))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for finding in findings:
        mend = f"\n{finding.mend}" if finding.mend else ""
        table.add_row(finding.level, finding.check, finding.because + mend, style=STYLES[finding.level])
    console().print(table)
    return 1 if any(f.level is Level.FAILED for f in findings) else 0


async def gather(cluster: Cluster) -> Facts:
    """Look at the cluster, as far as this user may."""
    missing = [r.kind for r in (DEPLOYMENT, PROFILE) if not await _served(cluster, r)]
    return Facts(
        missing_kinds=tuple(missing),
        operators_ready=await _operators_ready(cluster),
        nodes=await _nodes(cluster),
        may_create=await _may_create(cluster),
        namespace=cluster.namespace,
    )


async def _served(cluster: Cluster, resource: Resource) -> bool:
    try:
        await cluster.client.list(resource, cluster.namespace)
    except NotFound:
        return False
    except Forbidden:
        return True
    return True


async def _operators_ready(cluster: Cluster) -> int | None:
    try:
        found = await cluster.client.list(WORKLOAD, selector=OPERATOR_SELECTOR)
    except Forbidden:
        return None
    return sum(int(raw.get("status", {}).get("readyReplicas", 0)) for raw in found)


async def _nodes(cluster: Cluster) -> tuple[Node, ...] | None:
    try:
        found = await cluster.client.list(NODE)
    except Forbidden:
        return None
    return tuple(
        Node(
            name=raw["metadata"]["name"],
            labels=raw["metadata"].get("labels") or {},
            allocatable=raw.get("status", {}).get("allocatable") or {},
        )
        for raw in found
    )


async def _may_create(cluster: Cluster) -> bool:
    asked = {
        "apiVersion": ACCESS_REVIEW.api_version,
        "kind": ACCESS_REVIEW.kind,
        "spec": {
            "resourceAttributes": {
                "namespace": cluster.namespace,
                "verb": "create",
                "group": DEPLOYMENT.group,
                "resource": DEPLOYMENT.plural,
            }
        },
    }
    answer = await cluster.client.create(ACCESS_REVIEW, "", asked)
    return bool(answer.get("status", {}).get("allowed"))
