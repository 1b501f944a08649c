"""Decides the next step of a search from all that has been found so far.

    sweep -> the named load -> a smaller step budget -> packs -> confirmation of one engine, unless a pack has won

Pure: nothing is remembered but the findings, so a search can be replayed, explained and continued. Must never exceed
the budget knowingly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_runtime.search.packs import best_pack, pack_step
from slm_runtime.search.single import chosen_single, confirm_step, tuned_step
from slm_runtime.search.steps import Done, Measure
from slm_runtime.search.sweep import loaded_step, sweep_step

if TYPE_CHECKING:
    from slm_core.measurements import Point

    from slm_runtime.search.steps import Findings, Request, StartEngines, Step


def next_step(request: Request, findings: Findings) -> Step:
    """The next step, or Done."""
    step = _wanted(request, findings)
    if isinstance(step, Done):
        return step
    needed = _expected_seconds(findings, step)
    left = request.max_gpu_seconds - findings.gpu_seconds
    if left <= 0 or needed > left:
        because = (
            f"the budget of {request.max_gpu_seconds:.0f} GPU-seconds does not hold the next step "
            f"({step.because}): it needs about {needed:.0f}, {max(left, 0):.0f} are left"
        )
        return Done(complete=False, because=because)
    return step


def best(request: Request, findings: Findings) -> Point | None:
    """The best configuration found so far: a pack that won, or a single engine. The advisor has the last word."""
    return best_pack(request, findings) or chosen_single(request, findings)


def _wanted(request: Request, findings: Findings) -> Step:
    for phase in (sweep_step, loaded_step, tuned_step, pack_step):
        step = phase(request, findings)
        if step is not None:
            return step
    won = best_pack(request, findings)
    confirmation = None if won or _is_pack_ordered(request, findings) else confirm_step(request, findings)
    return confirmation or _done(request, findings, won)


def _is_pack_ordered(request: Request, findings: Findings) -> bool:
    """The user asks for packs and one could be measured: no single engine will be deployed, so none is confirmed."""
    return request.engines is not None and any(
        m.on.engines_per_gpu == request.engines and not m.point.doubts for m in findings.measured
    )


def _done(request: Request, findings: Findings, won: Point | None) -> Done:
    failures = [f for f in findings.failures if f.on.engines_per_gpu == 1]
    if failures:
        return Done(complete=False, because=failures[-1].reason)
    chosen = won or chosen_single(request, findings)
    if chosen is None:
        return Done(complete=True, because="no batch size keeps the SLO; further points could not change that")
    what = f"B={chosen.batch_size}, R={chosen.replicas}"
    return Done(complete=True, because=f"{what} is the best found; further points could not change that")


def _expected_seconds(findings: Findings, step: StartEngines | Measure) -> float:
    """What the step will cost, going by the dearest of its kind so far; a start is of no use without a measurement."""
    measuring = max((m.gpu_seconds for m in findings.measured), default=0.0)
    if isinstance(step, Measure):
        return measuring
    starting = max((s.gpu_seconds / s.step.configuration.engines_per_gpu for s in findings.starts), default=0.0)
    return starting * step.configuration.engines_per_gpu + measuring
