"""What a run of all stages says at its end: minutes by stage, what was noted and not judged, every failure and its log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .runner import Outcome

SLOWEST = 12
LOG_LINES = 40


def busy_seconds() -> float:
    """Processor time that was spent on this machine since it started, whoever did. Source: proc(5), stat."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle, waiting_for_disk = ticks[3:5]
    return (sum(ticks) - idle - waiting_for_disk) / os.sysconf("SC_CLK_TCK")


def summary(outcomes: Sequence[Outcome], minutes: float, busy_minutes: float = 0.0) -> Iterator[str]:
    """The lines of the end, the counts last. `busy_minutes` are the processors', all of them together."""
    for outcome in outcomes:
        yield from _failures(outcome)
    yield from _slowest(outcomes)
    yield from _notes(outcomes)
    yield f"\n{'stage':<15}{'result':<9}{'passed':>7}{'failed':>7}{'minutes':>9}  log"
    for outcome in outcomes:
        counts = f"{outcome.passed:>7}{len(outcome.failures):>7}{outcome.seconds / 60:>9.1f}"
        yield f"{outcome.stage.name:<15}{'ok' if outcome.ok else 'FAILED':<9}{counts}  {_short(outcome.log)}"
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    cores = f"{os.cpu_count()} cores, which worked {busy_minutes:.1f} minutes together"
    yield f"{minutes:.1f} minutes in all on {cores}, whoever had them; load at the end: {load}\n"
    failed = sum(max(len(one.failures), not one.ok) for one in outcomes)
    yield f"{sum(one.passed for one in outcomes)} passed, {failed} failed"


def _failures(outcome: Outcome) -> Iterator[str]:
    if outcome.ok:
        return
    yield f"\n==== {outcome.stage.name} failed: {outcome.ended_because or f'exit status {outcome.status}'}"
    for one in outcome.failures:
        yield f"---- {one['test']}\n{one.get('why', '')}"
    for left in outcome.left_behind:
        yield f"---- left behind, and ended now: {left}"
    if not outcome.failures:
        yield from outcome.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    yield f"---- all of it: {_short(outcome.log)}"


def _slowest(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "\nslowest (seconds of the call, or of the fixtures in brackets):"
    timed = [(float(one["seconds"]), test) for outcome in outcomes for test, one in outcome.tests.items()]
    timed += [(seconds, what) for outcome in outcomes for what, seconds in outcome.fixtures.items()]
    for seconds, what in sorted(timed, reverse=True)[:SLOWEST]:
        yield f"{seconds:>8.1f}  {what}"


def _notes(outcomes: Sequence[Outcome]) -> Iterator[str]:
    noted = [
        (one["test"], note) for outcome in outcomes for one in outcome.tests.values() for note in one.get("notes", ())
    ]
    if noted:
        yield "\nnoted on this machine, and judged by nobody:"
        yield from (f"  {test.rpartition('::')[2]}: {note}" for test, note in noted)


def _short(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
