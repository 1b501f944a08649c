"""The pack that wins, with less than full batches, while its engines still run.

Exists because what is expected of a deployment under the load of now is read off a curve of measured loads: one engine
has its sweep, but a pack would have full batches alone, and for all that is less a bound. Two windows, half full and one
sequence for each engine, between which time per step is nearly a line. Must never start an engine, nor take what a budget
has left from a step that decides: without these points the decision is the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_core.load import is_at
from slm_core.search.costs import expected_seconds, left_seconds
from slm_core.search.sweep import measure
from slm_core.search.trial import holds, is_trial

if TYPE_CHECKING:
    from slm_core.configuration import EngineConfiguration
    from slm_core.search.steps import Findings, Measure, Request


def curve_step(request: Request, findings: Findings, on: EngineConfiguration) -> Measure | None:
    """The next load at which these engines are not known yet. None: all are, other engines run, or the budget ends."""
    running = findings.running
    if running is None or not is_trial(running, on) or not holds(running, on):
        return None
    alike = [m.point for m in findings.measured if m.point.batch_size == on.batch_size and is_trial(m.on, on)]
    for load in loads(on):
        if not any(is_at(point, load) for point in alike):
            because = f"{load} in flight fill its batches in part: what is expected of it there is read off this point"
            # NB: no percentile is asked of it, for which one sequence at a time would need a window of many minutes.
            step = replace(measure(request, on.batch_size, because, in_flight=load), min_samples=0)
            return step if expected_seconds(findings, step) <= left_seconds(request, findings) else None
    return None


def loads(on: EngineConfiguration) -> tuple[int, ...]:
    """Requests in flight on the GPU, the most first; with batches of one there is nothing below full ones."""
    each = (size for size in (on.batch_size // 2, 1) if size < on.batch_size)
    return tuple(size * on.engines_per_gpu for size in dict.fromkeys(each) if size)
