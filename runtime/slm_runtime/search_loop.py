"""Runs the search on a rig: ask for the next step, do it, remember the outcome.

Exists to keep effects out of the decisions, which are the core's: this is the only part of the search that awaits
anything. Assumes that the rig's clock only moves forward. Must never decide, and never leave engines behind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, assert_never

from slm_core.batching import KV_MAX_FRACTION
from slm_core.failure import EngineFailed, EngineFault
from slm_core.search.next_step import next_step
from slm_core.search.steps import Done, Failed, Findings, Measure, Measured, Started, StartEngines

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_core.configuration import EngineConfiguration
    from slm_core.measurements import Point
    from slm_core.search.steps import EngineReport, Outcome, Request, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something for the one who watches: a step begins (no outcome yet), ends, or the search is done.

    `findings` is complete at every event: whoever is interrupted between two of them has lost nothing.
    """

    step: Step
    outcome: Outcome | None
    findings: Findings


class Rig(Protocol):
    """Whatever runs engines. Its methods are awaited one at a time."""

    async def start(self, configuration: EngineConfiguration) -> EngineReport:
        """Start these engines, none runs before. Raises EngineFailed."""

    async def measure(self, step: Measure) -> Point:
        """Measure the engines that run; faults of the window are marks and counts of the point. Raises EngineFailed."""

    async def stop(self) -> None:
        """Stop every engine and whatever came with them, also after a failure and when none runs."""

    def gpu_seconds(self) -> float:
        """Time for which the GPU has been held until now, by this rig's clock."""

    def download_seconds(self) -> float:
        """Part of it for which the model was being downloaded."""


async def run_search(
    request: Request, rig: Rig, report: Callable[[Event], None], findings: Findings | None = None
) -> Findings:
    """Search until done; engines are stopped whatever happens. `report` hears of every step, before and after it.

    `findings`: of former sessions, to go on from.
    """
    findings = findings or Findings()
    try:
        while True:
            step = next_step(request, findings)
            report(Event(step=step, outcome=None, findings=findings))
            if isinstance(step, Done):
                return findings
            outcome = await _execute(step, rig, findings.running)
            findings = findings.add(outcome)
            report(Event(step=step, outcome=outcome, findings=findings))
    finally:
        await rig.stop()


async def _execute(step: StartEngines | Measure, rig: Rig, running: EngineConfiguration | None) -> Outcome:
    began, downloaded = rig.gpu_seconds(), rig.download_seconds()
    outcome = await _attempt(step, rig, running)
    cost, download = rig.gpu_seconds() - began, rig.download_seconds() - downloaded
    return replace(outcome, gpu_seconds=cost, download_seconds=download)


async def _attempt(step: StartEngines | Measure, rig: Rig, running: EngineConfiguration | None) -> Outcome:
    try:
        match step:
            case StartEngines():
                await rig.stop()
                return Started(step=step, report=await rig.start(step.configuration))
            case Measure():
                assert running is not None, "the search measures only what it has started"
                return Measured(step=step, on=running, point=_confirmed(await rig.measure(step), running))
            case _:
                assert_never(step)
    except EngineFailed as error:
        await rig.stop()
        on = step.configuration if isinstance(step, StartEngines) else running
        assert on is not None
        failed = Failed(step=step, on=on, reason=str(error))
        if isinstance(error, EngineFault):
            named = error.batch_size_limit
            smaller = named if named is not None and 0 < named < on.batch_size else None
            failed = replace(failed, failure=error.failure, batch_size_limit=smaller)
        return failed


def _confirmed(point: Point, on: EngineConfiguration) -> Point:
    """Mark a point whose engines had KV bytes of their own and kept within them."""
    kept = on.kv_cache_bytes is not None and not point.preemptions and point.kv_peak_fraction <= KV_MAX_FRACTION
    return replace(point, confirmed=kept)
