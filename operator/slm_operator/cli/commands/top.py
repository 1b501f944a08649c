"""`kubectl slm top`: measured figures of each deployment, beside the advised ones.

Figures are the engines' own counters, read twice through the API server's proxy with the user's own rights; nothing is
read from the operator, and nothing runs in the cluster for it. Where the proxy may not be used, what status says is
still shown.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from rich.console import Group
from rich.live import Live as LiveView
from rich.text import Text
from slm_core.engines.registry import default, engine_of
from slm_core.slo_check import resolve

from slm_operator.advisor.expectation import Reach, curve_of
from slm_operator.api import names
from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.cli.cluster import DEPLOYMENT, Cluster, ask
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.files import measured
from slm_operator.cli.inputs.profiles import rested_on
from slm_operator.cli.render.live_metrics import Look, Promised, Row, rows
from slm_operator.cli.render.terminal import bare_table, console
from slm_operator.kube.engine_metrics import NoMetrics, engine_counters
from slm_operator.kube.errors import ApiError, Forbidden
from slm_operator.kube.resources import POD
from slm_operator.manifests.engine import PORT
from slm_operator.manifests.metadata import label_value
from slm_operator.planning.deployment.advising import configuration_of, slo_of
from slm_operator.watch.pods import pod

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType
    from slm_core.counters import Counters
    from slm_core.engines.base import Engine
    from slm_core.measurements import MeasurementDocument

    from slm_operator.advisor.expectation import Expectation
    from slm_operator.watch.records import PodRecord

SECONDS = 2.0
AT_ONCE = 16
"""Most engines that are asked at the same moment."""
SIGNS = {"True": ("yes", "green"), "False": ("no", "bold red"), "Unknown": ("?", "yellow")}


def run(arguments: Namespace) -> int:
    """Show until interrupted; with --once, look twice, print and end."""

    async def show(cluster: Cluster) -> None:
        top, out = Top(cluster), console()
        first = await top.look()
        if arguments.once or not out.is_terminal:
            if first.engines:
                await asyncio.sleep(SECONDS)
                out.print(await top.seen(first, await top.look()))
            else:
                out.print(await top.seen(None, first))
            return
        with LiveView(await top.seen(None, first), console=out, auto_refresh=False) as view:
            while True:
                await asyncio.sleep(SECONDS)
                then = await top.look()
                view.update(await top.seen(first, then), refresh=True)
                first = then

    ask(arguments, show)
    return 0


@dataclass(slots=True)
class Top:
    """Looks at one namespace. SLOs in milliseconds are worked out once for each spec: that reads a whole profile."""

    cluster: Cluster
    _promised: dict[tuple[str, int, tuple[str, str] | None, str | None], Promised | None] = field(default_factory=dict)

    async def seen(self, before: Look | None, now: Look) -> RenderableType:
        """The table of a look."""
        promised = {raw["metadata"]["name"]: await self._promised_to(raw) for raw in now.deployments}
        known = {name: one for name, one in promised.items() if one is not None}
        return table(self.cluster.namespace, rows(before, now, known))

    async def look(self) -> Look:
        """The deployments and the counters of their ready replicas."""
        client, namespace = self.cluster.client, self.cluster.namespace
        deployments: list[dict[str, Any]] = await client.list(DEPLOYMENT, namespace)
        try:
            pods = await client.list(POD, namespace, selector=names.DEPLOYMENT_LABEL)
        except Forbidden as error:
            unread = {label_value(raw["metadata"]["name"]): error.message for raw in deployments}
            return Look(at_seconds=monotonic(), deployments=deployments, unread=unread)
        gate = asyncio.Semaphore(AT_ONCE)
        kinds = {label_value(raw["metadata"]["name"]): _engine(raw) for raw in deployments}
        replicas = [found for raw in pods if (found := pod(raw)) is not None and _answers(found)]
        answers = await asyncio.gather(
            *(self._read(one, kinds.get(one.replica_of or "", default()), gate) for one in replicas)
        )
        engines: dict[str, dict[str, Counters]] = {}
        unread = {}
        for label, name, answer in answers:
            if isinstance(answer, str):
                unread.setdefault(label, answer)
            else:
                engines.setdefault(label, {})[name] = answer
        return Look(at_seconds=monotonic(), deployments=deployments, engines=engines, unread=unread)

    async def _read(
        self, replica: PodRecord, engine: Engine, gate: asyncio.Semaphore
    ) -> tuple[str, str, Counters | str]:
        """Whose replica it is, its name, and its counters or why there are none."""
        label, name = replica.replica_of or "", replica.meta.key.name
        path = POD.path(self.cluster.namespace, f"{name}:{PORT}", f"proxy{engine.paths.metrics}")
        connection = self.cluster.connection
        async with gate:
            try:
                return label, name, await engine_counters(connection.session(), connection.server + path, engine)
            except NoMetrics as error:
                why = "no right to get pods/proxy" if error.forbidden else " ".join(error.because.split())[:120]
                return label, name, why

    async def _promised_to(self, raw: Mapping[str, Any]) -> Promised | None:
        profile, advice = rested_on(raw, self.cluster.namespace), (raw.get("status") or {}).get("advice") or {}
        key = (raw["metadata"]["name"], int(raw["metadata"].get("generation") or 0), profile, advice.get("digest"))
        if key not in self._promised:
            self._promised[key] = await self._resolved(raw, profile, advice)
        return self._promised[key]

    async def _resolved(
        self, raw: Mapping[str, Any], profile: tuple[str, str] | None, advice: Mapping[str, Any]
    ) -> Promised | None:
        """NB: a limit in milliseconds needs no profile, so it is known where the profile may not be read."""
        try:
            slo = slo_of(SLMDeploymentSpec.model_validate(raw.get("spec")).slo)
        except ValidationError:
            return None
        document = await self._measured(profile) if profile is not None else None
        if document is None:
            return Promised(limits=resolve(slo, ())) if slo.itl_ms is not None else None
        limits, served = resolve(slo, document.points), configuration_of(advice)
        return Promised(limits=limits, curve=curve_of(document.points, served, limits) if served is not None else None)

    async def _measured(self, profile: tuple[str, str]) -> MeasurementDocument | None:
        namespace, name = profile
        try:
            return measured(await self.cluster.profile(name, namespace), name)
        except (ApiError, Refused):
            return None


def table(namespace: str, found: Sequence[Row]) -> RenderableType:
    """The view, with what it lacks and why below it."""
    if not found:
        return Text(f"no SLMDeployment in namespace {namespace}")
    view = bare_table()
    view.add_column("DEPLOYMENT", no_wrap=True)
    for heading in (
        "READY",
        "PER GPU",
        "TOK/S",
        "EXPECTED",
        "PREDICTED",
        "ITL MS",
        "SLO MS",
        "KV",
        "RUNNING",
        "WAITING",
        "FITS",
    ):
        view.add_column(heading, justify="right", no_wrap=True)
    view.add_column("SLO MET", no_wrap=True)
    for row in found:
        view.add_row(*_cells(row))
    notes = [Text(f"{row.name}: {_lack(row)}", style="yellow") for row in found if _lack(row)]
    legend = Text(
        "TOK/S, EXPECTED, PREDICTED: input and output tokens per second and GPU: now, as measured under such a load, and "
        "under the load that was advised for. FITS: requests that a GPU takes beside those of now before the SLO breaks or one waits",
        style="dim",
    )
    return Group(view, Text(), legend, *notes)


def _cells(row: Row) -> tuple[str | Text, ...]:
    live = row.live
    sign, style = SIGNS.get(row.slo_met, ("", ""))
    statistic = "" if row.itl_statistic in ("", "Mean") else f" {row.itl_statistic}"
    return (
        row.name,
        f"{row.ready}/{row.replicas}",
        str(row.engines_per_gpu or ""),
        _number(live.tokens_per_second if live else None),
        _expected(row.expected),
        _number(row.predicted_tokens_per_second),
        _itl(row),
        "" if row.itl_limit_ms is None else f"{row.itl_limit_ms:.1f}{statistic}",
        f"{live.kv_usage:.0%}" if live else "",
        str(live.running) if live else "",
        str(live.waiting) if live else "",
        "" if row.headroom is None else str(row.headroom),
        Text(sign, style=style),
    )


def _expected(there: Expectation | None) -> str:
    if there is None:
        return ""
    bound = "≥" if there.reach is Reach.BOUND else ""
    return f"{bound}{_number(there.throughput_tokens_per_second)}"


def _itl(row: Row) -> str | Text:
    """Red where the mean is over a limit that is for the mean."""
    itl_ms = row.live.itl_ms if row.live else None
    if itl_ms is None:
        return ""
    over = row.itl_statistic == "Mean" and row.itl_limit_ms is not None and itl_ms > row.itl_limit_ms
    return Text(f"{itl_ms:.1f}", style="bold red" if over else "")


def _lack(row: Row) -> str:
    if not row.unread:
        return ""
    read = row.live.engines if row.live else 0
    return f"{read} of {row.ready} ready engines were read: {row.unread}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _engine(raw: Mapping[str, Any]) -> Engine:
    return engine_of(((raw.get("spec") or {}).get("engine") or {}).get("command"))


def _answers(found: PodRecord) -> bool:
    """NB: a pod that only bears our label is somebody else's, and is not asked."""
    return found.replica_of is not None and found.ready and not found.meta.deleting
