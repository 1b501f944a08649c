"""`kubectl slm check`: whether this cluster and this user are ready, with the remedy for what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from slm_operator.cli.cluster import ask
from slm_operator.cli.preflight.findings import Level, some
from slm_operator.cli.preflight.gather import gather
from slm_operator.cli.preflight.table import preflight
from slm_operator.cli.render.for_scripts import print_json
from slm_operator.cli.render.terminal import console

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from rich.console import RenderableType

    from slm_operator.cli.preflight.findings import Finding

SCHEMA = "slm-operator.io/check/v1"
STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


def run(arguments: Namespace) -> int:
    """Print every finding. Exit code 1 when one of them is a problem."""
    findings = preflight(ask(arguments, gather))
    sound = all(finding.answer.level is not Level.PROBLEM for finding in findings)
    if arguments.output == "json":
        print_json(plain(findings))
    else:
        console().print(table(findings))
    return 0 if sound else 1


def plain(findings: Sequence[Finding]) -> dict[str, Any]:
    """For scripts."""
    levels = [finding.answer.level for finding in findings]
    return {
        "schema": SCHEMA,
        "ok": Level.PROBLEM not in levels,
        "problems": levels.count(Level.PROBLEM),
        "warnings": levels.count(Level.WARNING),
        "findings": [
            {
                "check": finding.check,
                "level": str(finding.answer.level),
                "what": finding.answer.what,
                "remedy": finding.answer.remedy,
                "nodes": list(finding.nodes),
            }
            for finding in findings
        ],
    }


def table(findings: Sequence[Finding]) -> RenderableType:
    """For people: a line a finding, the remedy below it."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for column in ("level", "check"):
        grid.add_column(column, no_wrap=True)
    grid.add_column("what", overflow="fold")
    for finding in findings:
        answer = finding.answer
        on = f"{some(finding.nodes)}: " if finding.nodes else ""
        remedy = f"\n→ {answer.remedy}" if answer.remedy else ""
        grid.add_row(str(answer.level), finding.check, f"{on}{answer.what}{remedy}", style=STYLES[answer.level])
    return Group(grid, Text(), Text(_summary(findings), style="bold"))


def _summary(findings: Sequence[Finding]) -> str:
    levels = [finding.answer.level for finding in findings]
    counts = {"problem": levels.count(Level.PROBLEM), "warning": levels.count(Level.WARNING)}
    counted = [f"{count} {word}{'' if count == 1 else 's'}" for word, count in counts.items() if count]
    return ", ".join(counted) or "nothing to fix"
