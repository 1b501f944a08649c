"""`kubectl slm rollback`: return to the advice of a former revision, by naming its profile in spec.

It writes one field of one object, spec.profiling.profileRef, on the condition that the object is still as it was read; the
operator does the rest, replica by replica. Must never write where that would bring other arguments than the revision's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.cli.cluster import DEPLOYMENT, Cluster, ask
from slm_operator.cli.commands.history import History, look
from slm_operator.cli.errors import Refused
from slm_operator.kube.errors import Conflict

if TYPE_CHECKING:
    from argparse import Namespace

    from slm_operator.cli.inputs.revisions import WayBack


def run(arguments: Namespace) -> int:
    """Set the field, or with --dry-run say what it would be set to."""

    async def work(cluster: Cluster) -> str:
        history = await look(cluster, arguments.name)
        number, way = chosen(history, arguments.to_revision)
        if not arguments.dry_run:
            patch = {
                "metadata": {"resourceVersion": history.resource_version},
                "spec": {"profiling": {"profileRef": {"name": way.profile}}},
            }
            try:
                await cluster.client.merge_patch(DEPLOYMENT, cluster.namespace, arguments.name, patch)
            except Conflict:
                raise Refused(f"SLMDeployment {arguments.name} was changed while it was looked at: try again") from None
        does = "would be" if arguments.dry_run else "was"
        return (
            f"spec.profiling.profileRef of SLMDeployment {arguments.name} {does} set to {way.profile}: "
            f"the advice of revision {number}"
        )

    print(ask(arguments, work))  # noqa: T201
    return 0


def chosen(history: History, number: int | None) -> tuple[int, WayBack]:
    """The revision that is asked for, and the way to it. Raises Refused."""
    former = sorted(history.ways_back)
    if not former:
        raise Refused(f"{history.name} has no former revision: nothing to return to")
    number = former[-1] if number is None else number
    way = history.ways_back.get(number)
    if way is None and any(one.number == number for one in history.revisions):
        raise Refused(f"revision {number} is what runs now: choose one of {', '.join(map(str, former))}")
    if way is None:
        raise Refused(f"there is no revision {number}: choose one of {', '.join(map(str, former))}")
    if way.refused:
        raise Refused(way.refused)
    return number, way
