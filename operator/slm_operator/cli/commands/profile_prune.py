"""`kubectl slm profile prune`: delete profiles that the operator made and that nobody has used for a while.

Shows them, and deletes only with --yes. Each deletion is bound to the uid and the version that was looked at: a profile
that came into use meanwhile has lost its status.unusedSince, and survives. Must never delete what a person made or imported.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from slm_operator.cli.cluster import PROFILE, Cluster, ask
from slm_operator.cli.commands.profile_list import day, look, plain
from slm_operator.cli.inputs.profiles import KnownProfile, prunable
from slm_operator.cli.render.for_scripts import print_json
from slm_operator.cli.render.terminal import bare_table, console
from slm_operator.kube.errors import ApiError, Conflict, NotFound

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

SCHEMA = "slm-operator.io/prune/v1"


def run(arguments: Namespace) -> int:
    """Show what would go; with --yes delete it, and say what became of each."""
    days: float = arguments.unused_for
    is_json = arguments.output == "json"

    async def work(cluster: Cluster) -> tuple[int, tuple[KnownProfile, ...], dict[str, str]]:
        _, found = await look(cluster)
        going = prunable(found, days, datetime.now(UTC))
        said: dict[str, str] = {}
        for one in going if arguments.yes else ():
            try:
                said[one.name] = await _delete(cluster, one)
            except ApiError:
                if is_json:  # NB: a right that is lost in the middle must not hide what is gone
                    _print_for_scripts(days, going, said, otherwise="was not deleted")
                raise
            if not is_json:
                print(f"SLMProfile {one.namespace}/{one.name} {said[one.name]}")  # noqa: T201
        return len(found), going, said

    count, going, said = ask(arguments, work)
    if is_json:
        _print_for_scripts(days, going, said, otherwise="would be deleted")
    elif not said:
        console().print(table(going, count, days))
    return 0


def _print_for_scripts(days: float, going: Sequence[KnownProfile], said: Mapping[str, str], *, otherwise: str) -> None:
    profiles = [plain(one) | {"outcome": said.get(one.name, otherwise)} for one in going]
    print_json({"schema": SCHEMA, "unusedForDays": days, "profiles": profiles})


async def _delete(cluster: Cluster, one: KnownProfile) -> str:
    """What became of it, in words."""
    try:
        await cluster.client.delete(PROFILE, one.namespace, one.name, one.uid, resource_version=one.resource_version)
    except NotFound:
        return "was gone already"
    except Conflict:
        return "was kept: it was changed while it was looked at. Look again with `kubectl slm profile list`"
    return "deleted"


def table(going: Sequence[KnownProfile], count: int, days: float) -> RenderableType:
    """For people: what would go, and how to have it go."""
    if not going:
        if not count:
            return Text("nothing to prune: there is no SLMProfile here")
        return Text(
            f"none of {count} profiles was made by the operator and is unused for {days:g} days: "
            "`kubectl slm profile list` shows since when each is"
        )
    view = bare_table()
    view.add_column("PROFILE", no_wrap=True)
    view.add_column("MODEL", overflow="fold")
    view.add_column("POINTS", justify="right", no_wrap=True)
    view.add_column("UNUSED SINCE", no_wrap=True)
    view.add_column("GPU SECONDS", justify="right", no_wrap=True)
    for one in going:
        spent = "" if one.gpu_seconds is None else f"{one.gpu_seconds:,.0f}"
        view.add_row(one.name, one.model, str(one.points or ""), day(one.unused_since), spent)
    cost = sum(one.gpu_seconds or 0.0 for one in going)
    verdict = (
        f"{len(going)} of {count} profiles would go: made by the operator, and unused for {days:g} days or more. "
        f"Measuring took {cost:,.0f} GPU seconds."
    )
    how = "Nothing was deleted: keep one with `kubectl slm profile export`, delete all of these with --yes"
    return Group(view, Text(), Text(verdict, style="bold"), Text(how))
