"""`kubectl slm history`: which advice a deployment ran with, from which profile, and which of it can be had again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text
from slm_core.measurements import camel
from slm_core.units import GIB

from slm_operator.api import names
from slm_operator.cli.cluster import REPLICA_SET, Cluster, ask
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.files import measured
from slm_operator.cli.inputs.revisions import Revision, WayBack, revisions, way_back
from slm_operator.cli.render.for_scripts import print_json
from slm_operator.cli.render.terminal import bare_table, console
from slm_operator.defaults import Defaults
from slm_operator.kube.errors import NotFound
from slm_operator.manifests.metadata import label_value
from slm_operator.planning.deployment.kept import resolved
from slm_operator.watch import custom_resources

if TYPE_CHECKING:
    from argparse import Namespace

    from rich.console import RenderableType
    from slm_core.measurements import MeasurementDocument

SCHEMA = "slm-operator.io/history/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The revisions of one deployment, newest first, and the way back to each of the former ones."""

    name: str
    resource_version: str
    revisions: tuple[Revision, ...]
    ways_back: dict[int, WayBack]
    """By number of the revision; the present one has none."""


def run(arguments: Namespace) -> int:
    """Print the revisions."""
    history = ask(arguments, lambda cluster: look(cluster, arguments.name))
    if arguments.output == "json":
        print_json(plain(history))
    else:
        console().print(table(history))
    return 0


async def look(cluster: Cluster, name: str) -> History:
    """What the cluster remembers of a deployment. Raises Refused for a spec that cannot be read."""
    raw = await cluster.deployment(name)
    spec = resolved(custom_resources.deployment(raw), None, Defaults()).spec
    if spec is None:
        raise Refused(f"SLMDeployment {name} cannot be read by this version: `kubectl slm check` compares them")
    selector = f"{names.DEPLOYMENT_LABEL}={label_value(name)}"
    found = revisions(await cluster.client.list(REPLICA_SET, cluster.namespace, selector))
    former = found[1:]
    documents = {one: await _document(cluster, one) for one in sorted({r.profile for r in former if r.profile})}
    served = spec.model.name or name
    ways = {one.number: way_back(spec, served, found[0], one, documents.get(one.profile)) for one in former}
    version = str(raw["metadata"].get("resourceVersion") or "")
    return History(name=name, resource_version=version, revisions=found, ways_back=ways)


async def _document(cluster: Cluster, profile: str) -> MeasurementDocument | None:
    try:
        return measured(await cluster.profile(profile), f"SLMProfile {profile}")
    except (NotFound, Refused):
        return None


def plain(history: History) -> dict[str, Any]:
    """For scripts."""
    return {
        "schema": SCHEMA,
        "deployment": history.name,
        "revisions": [_plain(one, history.ways_back.get(one.number)) for one in history.revisions],
    }


def _plain(revision: Revision, way: WayBack | None) -> dict[str, Any]:
    words = asdict(revision)
    fields = {camel(name): list(value) if isinstance(value, tuple) else value for name, value in words.items()}
    return fields | {
        "current": way is None,
        "canBeHadAgain": way is not None and not way.refused,
        "because": way.refused if way is not None else "",
    }


def table(history: History) -> RenderableType:
    """For people: a line a revision, newest first, and why a former one cannot be had again."""
    if not history.revisions:
        return Text(f"{history.name} has run nothing yet: `kubectl slm explain {history.name}` says what it waits for")
    view = bare_table()
    view.add_column("REVISION", justify="right", no_wrap=True)
    view.add_column("SINCE", no_wrap=True)
    for heading in ("PER GPU", "BATCH", "KV GIB", "PODS"):
        view.add_column(heading, justify="right", no_wrap=True)
    view.add_column("PROFILE", overflow="fold")
    view.add_column("ADVICE", no_wrap=True)
    view.add_column("AGAIN", no_wrap=True)
    for one in history.revisions:
        view.add_row(*_cells(one, history.ways_back.get(one.number)))
    notes = [Text(f"{n}: {way.refused}", style="dim") for n, way in history.ways_back.items() if way.refused]
    return Group(view, *([Text(), *notes] if notes else []))


def _cells(one: Revision, way: WayBack | None) -> tuple[str, ...]:
    engines = "1" if one.engines_per_gpu == 1 else f"{one.engines_per_gpu} {one.sharing_mode}"
    return (
        str(one.number),
        one.created.replace("T", " ").removesuffix("Z"),
        engines,
        str(one.batch_size or ""),
        "" if one.kv_bytes is None else f"{one.kv_bytes / GIB:.2f}",
        f"{one.ready}/{one.replicas}" if one.replicas else "",
        one.profile,
        one.advice,
        "now" if way is None else "no" if way.refused else "yes",
    )
