"""`kubectl slm upgrade`: let a deployment take the operator's defaults of now in place of those that it was made with.

It writes one annotation of one object; the operator does the rest, as after any change of spec. Must never write where that
would change nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.api.conditions import rfc3339
from slm_operator.cli.cluster import DEPLOYMENT, Cluster, ask
from slm_operator.cli.errors import Refused
from slm_operator.cli.preflight.installation import operator_settings
from slm_operator.defaults import read_kept
from slm_operator.kube.errors import Conflict
from slm_operator.planning.deployment.kept import older
from slm_operator.watch import custom_resources

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Write the annotation, or with --dry-run say what would change."""

    async def work(cluster: Cluster) -> str:
        raw = await cluster.deployment(arguments.name)
        record = custom_resources.deployment(raw)
        kept = read_kept(record.status.get("defaults"))
        if kept is None:
            raise Refused(
                f"SLMDeployment {arguments.name} has no status.defaults: its operator has not looked at it yet"
            )
        settings, doubt = await operator_settings(cluster)
        differing = older(record, kept, settings.defaults)
        if not doubt and not differing:
            return f"SLMDeployment {arguments.name} has the operator's defaults of now: nothing to do"
        changed = f"which of them differ is not known ({doubt})" if doubt else f"others are now: {', '.join(differing)}"
        if arguments.dry_run:
            return f"SLMDeployment {arguments.name} would take the operator's defaults of now; {changed}"
        patch = {
            "metadata": {
                "resourceVersion": raw["metadata"].get("resourceVersion"),
                "annotations": {names.UPGRADE_ANNOTATION: rfc3339(datetime.now(UTC))},
            }
        }
        try:
            await cluster.client.merge_patch(DEPLOYMENT, cluster.namespace, arguments.name, patch)
        except Conflict:
            raise Refused(f"SLMDeployment {arguments.name} was changed while it was looked at: try again") from None
        return f"SLMDeployment {arguments.name} takes the operator's defaults of now; {changed}"

    print(ask(arguments, work))  # noqa: T201
    return 0
