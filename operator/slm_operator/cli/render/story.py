"""What the cluster says of deployments and profiles, for a person at a terminal.

Must never word a reason: messages are the conditions', sentences are the advisor's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from slm_operator.cli.render.terminal import bare_table, console

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.api.status import AdviceStatus, SharingStatus, SLMDeploymentStatus
    from slm_operator.cli.inputs.profile_of import Found

SIGNS = {"True": ("yes", "green"), "False": ("no", "red"), "Unknown": ("?", "yellow")}
VERDICTS = {"Chosen": "bold green", "Kept": "", "Rejected": "dim"}


def show_status(name: str, status: SLMDeploymentStatus) -> None:
    """One deployment: where it stands, step by step, and the advice with its evidence."""
    out = console()
    ready = next((c for c in status.conditions if c.type == "Ready"), None)
    message = (
        ready.message if ready else "the operator has not looked at it yet: `kubectl slm check` says whether it runs"
    )
    style = "bold green" if ready and ready.status == "True" else "bold yellow"
    out.print(Text(f"{name} is {status.phase or 'new'}: {message}", style=style))
    steps = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for condition in status.conditions:
        if condition.type not in ("Ready", "Reconciling", "Stalled"):
            sign, colour = SIGNS[condition.status]
            steps.add_row(condition.type, Text(sign, style=colour), condition.reason, condition.message)
    out.print(Padding(steps, (0, 0, 0, 2), expand=False))
    if status.sharing:
        out.print(Padding(Text(_divided(status.sharing)), (1, 0, 0, 0)))
    if status.advice:
        _show_advice_status(status.advice)


def _divided(sharing: SharingStatus) -> str:
    pods = "" if sharing.pods is None else f", {sharing.pods} pods"
    return f"GPUs are divided by {sharing.partitioning}{pods} ({sharing.reason}): {sharing.message}."


def _show_advice_status(advice: AdviceStatus) -> None:
    out = console()
    out.print()
    for sentence in advice.sentences:
        out.print(Text(sentence))
    considered = bare_table()
    for heading in ("BATCH", "ENGINES"):
        considered.add_column(heading, justify="right", no_wrap=True)
    for heading in ("VERDICT", "REASON"):
        considered.add_column(heading, no_wrap=True)
    money = any(c.cost_per_million_tokens is not None for c in advice.candidates)
    energy = any(c.joules_per_token is not None for c in advice.candidates)
    for heading in ([f"{advice.currency}/M TOK"] if money else []) + (["J/TOK"] if energy else []):
        considered.add_column(heading, justify="right", no_wrap=True)
    considered.add_column("MESSAGE", overflow="fold")
    for c in advice.candidates:
        one = c.configuration
        engines = "1" if one.engines_per_gpu == 1 else f"{one.engines_per_gpu} {one.sharing_mode}"
        shown = ((money, c.cost_per_million_tokens), (energy, c.joules_per_token))
        figures = ("" if value is None else f"{value:.3f}" for wanted, value in shown if wanted)
        cells = (str(one.batch_size), engines, c.verdict, c.reason, *figures, c.message)
        considered.add_row(*cells, style=VERDICTS[c.verdict])
    out.print()
    out.print(considered)
    left_out = (advice.candidate_count or 0) - len(advice.candidates)
    if left_out > 0:
        out.print(Text(f"{left_out} more were considered: `kubectl slm report` draws all of them", style="dim"))


def show_sentence(sentence: str) -> None:
    """One more, below an answer."""
    out = console()
    out.print()
    out.print(Text(sentence))


def show_unmeasured(found: Found, spec: SLMDeploymentSpec) -> None:
    """What would happen first: measuring, or waiting for it or for an import."""
    out = console()
    is_there = f"is {found.phase}" if found.phase else "does not exist"
    out.print(Text(f"No measurements yet: SLMProfile {found.name} {is_there}.", style="bold yellow"))
    if found.phase:
        out.print("  `kubectl slm watch` shows its progress.")
    elif spec.profiling.policy == "Never" or spec.profiling.profile_name is not None:
        out.print("  It is not measured by itself here: import it with `kubectl slm profile import`.")
    else:
        out.print(f"  It would be measured first, in at most {spec.profiling.max_gpu_minutes:g} GPU minutes.")
    if found.unseen:
        out.print(f"  Unless a library of profiles has it, which is not known: {found.unseen}.")
    out.print("  For an estimate now, give the model's config.json with --config.")


def overview(
    namespace: str, deployments: Sequence[Mapping[str, Any]], profiles: Sequence[Mapping[str, Any]]
) -> RenderableType:
    """Deployments and profiles of a namespace, one line each."""
    if not deployments and not profiles:
        return Text(f"no SLMDeployment and no SLMProfile in namespace {namespace}")
    return Group(_deployments(deployments), Text(), _profiles(profiles))


def _deployments(found: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("DEPLOYMENT", "PHASE", "READY", "ENGINES/GPU", "BATCH", "GAIN", "MESSAGE")
    for raw in found:
        status = raw.get("status") or {}
        advice = status.get("advice") or {}
        served, gain = advice.get("configuration") or {}, advice.get("gain")
        table.add_row(
            raw["metadata"]["name"],
            status.get("phase") or "",
            f"{status.get('readyReplicas') or 0}/{status.get('replicas') or 0}",
            str(served.get("enginesPerGpu") or ""),
            str(served.get("batchSize") or ""),
            "" if gain is None else f"{gain:+.0%}",
            _ready_message(status),
        )
    return table


def _profiles(found: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("PROFILE", "PHASE", "PROGRESS", "GPU-SECONDS", "MESSAGE")
    for raw in found:
        status = raw.get("status") or {}
        spent = status.get("gpuSeconds")
        table.add_row(
            raw["metadata"]["name"],
            status.get("phase") or "",
            status.get("summary") or "",
            "" if spent is None else f"{spent:.0f}",
            _ready_message(status),
        )
    return table


def _table(*headings: str) -> Table:
    table = bare_table()
    for heading in headings[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1], overflow="fold")
    return table


def _ready_message(status: Mapping[str, Any]) -> str:
    return next((c["message"] for c in status.get("conditions") or () if c["type"] == "Ready"), "")
