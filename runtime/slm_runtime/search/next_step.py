"""Decides the next step of a search from all that has been found so far.

    sweep -> the named load -> a smaller step budget -> packs -> confirmation of one engine, unless a pack has won

Pure: nothing is remembered but the findings, so a search can be replayed, explained and continued. Must never exceed
the budget knowingly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_runtime.search.costs import expected_seconds
from slm_runtime.search.packs import best_pack, pack_step
from slm_runtime.search.single import chosen_single, confirm_step, tuned_step
from slm_runtime.search.steps import Done, Failed, Started
from slm_runtime.search.sweep import loaded_step, sweep_step, untrusted

if TYPE_CHECKING:
    from slm_core.measurements import Point

    from slm_runtime.search.steps import Findings, Request, Step


def next_step(request: Request, findings: Findings) -> Step:
    """The next step, or Done."""
    step = _wanted(request, findings)
    if isinstance(step, Done):
        return step
    needed = expected_seconds(findings, step)
    left = request.max_gpu_seconds + findings.download_seconds - findings.gpu_seconds
    if left <= 0 or needed > left:
        because = (
            f"the budget of {request.max_gpu_seconds:.0f} GPU-seconds does not hold the next step "
            f"({step.because}): it needs about {needed:.0f}, {max(left, 0):.0f} are left{_before(findings)}"
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
    failures = [f for f in findings.lasting_failures if f.on.engines_per_gpu == 1 and not _went_on(findings, f)]
    if failures:
        return Done(complete=False, because=failures[-1].reason)
    doubtful = untrusted(findings.points)
    if doubtful:
        marks = " and ".join(sorted({mark for point in doubtful for mark in point.doubts}))
        because = f"no point above B=1 can be trusted ({marks or 'failed requests'}), so nothing is known of batches"
        return Done(complete=False, because=because)
    chosen = won or chosen_single(request, findings)
    if chosen is None:
        return Done(complete=True, because="no batch size keeps the SLO; further points could not change that")
    what = f"B={chosen.batch_size}, R={chosen.replicas}"
    return Done(complete=True, because=f"{what} is the best found; further points could not change that")


def _went_on(findings: Findings, failed: Failed) -> bool:
    """The engine named the B at which it starts, and started: nothing is missing."""
    later = findings.outcomes[findings.outcomes.index(failed) :]
    started = (o.step.configuration for o in later if isinstance(o, Started))
    return failed.batch_size_limit is not None and any(on.is_like(failed.on) for on in started)


def _before(findings: Findings) -> str:
    """What made the next step necessary, if it was a failure: it must not be lost in an ended budget."""
    last = findings.outcomes[-1] if findings.outcomes else None
    return f"; before it, {last.reason}" if isinstance(last, Failed) else ""
