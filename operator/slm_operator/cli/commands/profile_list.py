"""`kubectl slm profile list`: what is measured, who uses it, and what it cost. Reads only."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text
from slm_core.measurements import camel

from slm_operator.cli.cluster import DEPLOYMENT, PROFILE, Cluster, ask
from slm_operator.cli.inputs.profiles import KnownProfile, known_profiles
from slm_operator.cli.render.for_scripts import print_json
from slm_operator.cli.render.terminal import bare_table, console, print_rows

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from rich.table import Table

SCHEMA = "slm-operator.io/profiles/v1"
WHOLE_NAME = 32
"""Signs of a name that is never folded."""


def run(arguments: Namespace) -> int:
    """Print every profile of the namespace, or of all."""
    everywhere = arguments.all_namespaces
    namespace, found = ask(arguments, lambda cluster: look(cluster, everywhere=everywhere))
    if arguments.output == "json":
        print_json({"schema": SCHEMA, "profiles": [plain(one) for one in found]})
    elif not found:
        console().print(f"no SLMProfile in {namespace}: one is made for the first SLMDeployment, or imported")
    else:
        print_rows(table(found, everywhere=everywhere))
    return 0


async def look(cluster: Cluster, *, everywhere: bool = False) -> tuple[str, tuple[KnownProfile, ...]]:
    """Where it was looked, and the profiles there, with the deployments that use them."""
    namespace = "" if everywhere else cluster.namespace
    profiles = await cluster.client.list(PROFILE, namespace)
    deployments = await cluster.client.list(DEPLOYMENT, namespace)
    return f"namespace {namespace}" if namespace else "any namespace", known_profiles(profiles, deployments)


def plain(profile: KnownProfile) -> dict[str, Any]:
    """For scripts. What is not known is null."""
    return {camel(name): None if value == "" else value for name, value in asdict(profile).items()}


def table(found: Sequence[KnownProfile], *, everywhere: bool = False) -> Table:
    """For people: a line a profile."""
    view = bare_table()
    if everywhere:
        view.add_column("NAMESPACE", no_wrap=True)
    # NB: a name of 54 signs that never folds leaves the other columns none.
    view.add_column("PROFILE", overflow="fold", no_wrap=max(len(one.name) for one in found) <= WHOLE_NAME)
    for heading in ("MODEL", "PRODUCT"):
        view.add_column(heading, overflow="fold")
    view.add_column("POINTS", justify="right", no_wrap=True)
    view.add_column("MEASURED", no_wrap=True)
    view.add_column("USED BY", overflow="fold")
    view.add_column("UNUSED SINCE", no_wrap=True)
    view.add_column("GPU SECONDS", justify="right", no_wrap=True)
    for one in found:
        view.add_row(*((one.namespace,) if everywhere else ()), *_cells(one))
    return view


def _cells(one: KnownProfile) -> tuple[str | Text, ...]:
    return (
        one.name,
        one.model,
        one.product,
        str(one.points or ""),
        day(one.measured_at) or Text(one.phase, style="dim"),
        ", ".join(one.used_by),
        Text(day(one.unused_since), style="yellow"),
        "" if one.gpu_seconds is None else f"{one.gpu_seconds:,.0f}",
    )


def day(time: str) -> str:
    """The day of a moment."""
    return time.partition("T")[0]
