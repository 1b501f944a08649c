"""Decides the next step of a search from all that has been found so far.

    once more, where a point says nearly nothing -> sweep -> the named load -> a smaller step budget -> packs, and the curve
    of one that wins -> confirmation of one engine, unless a pack has won

Pure: nothing is remembered but the findings, so a search can be replayed, explained and continued. Must never exceed
the budget knowingly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_core.point_checks import doubts_of, is_wide, only_one_sequence_is_sound
from slm_core.search.chosen import chosen, load_of
from slm_core.search.costs import expected_seconds, left_seconds
from slm_core.search.packs import pack_step
from slm_core.search.single import confirm_step, loaded_step, tuned_step
from slm_core.search.steps import Done, Failed, Measure, Measured, Started
from slm_core.search.sweep import limits_of, sweep_step
from slm_core.slo import REFERENCE_BATCH_SIZE
from slm_core.slo_check import slo_misses

if TYPE_CHECKING:
    from slm_core.measurements import Point
    from slm_core.search.steps import Findings, Request, Step


def next_step(request: Request, findings: Findings) -> Step:
    """The next step, or Done."""
    step = wanted_step(request, findings)
    if isinstance(step, Done):
        return step
    needed, left = expected_seconds(findings, step), left_seconds(request, findings)
    if left <= 0 or needed > left:
        because = (
            f"the budget of {request.max_gpu_seconds:.0f} GPU-seconds does not hold the next step "
            f"({step.because}): it needs about {needed:.0f}, {max(left, 0):.0f} are left{_before(findings)}"
        )
        return Done(complete=False, because=because)
    return step


def best(request: Request, findings: Findings) -> Point | None:
    """The best configuration found so far, as the advisor would choose it: a pack that won, or a single engine."""
    return chosen(request, findings)


def wanted_step(request: Request, findings: Findings) -> Step:
    """The next step, were there no budget."""
    for phase in (again_step, sweep_step, loaded_step, tuned_step, pack_step):
        step = phase(request, findings)
        if step is not None:
            return step
    found = chosen(request, findings)
    is_pack = found is not None and found.replicas > 1
    confirmation = None if is_pack or _is_pack_ordered(request, findings) else confirm_step(request, findings)
    return confirmation or _done(request, findings, found)


def again_step(request: Request, findings: Findings) -> Measure | None:
    """A point that keeps its limits but says nearly nothing is measured once more, while its engines still run."""
    last = findings.session[-1] if findings.session else None
    if not isinstance(last, Measured) or not is_wide(last.point):
        return None
    step, point = last.step, last.point
    if step.in_flight not in (None, load_of(request, findings)):
        return None  # of the curve, by which nothing is decided
    same = [m for m in findings.measured if (m.on, m.point.batch_size, m.point.in_flight) == (last.on, *_at(point))]
    anchors = last.on.kv_cache_bytes is None and step.in_flight is None and step.batch_size in (1, REFERENCE_BATCH_SIZE)
    if len(same) > 1 or (not anchors and slo_misses(point, limits_of(request, findings))):
        return None
    return replace(step, because="its interval was so wide that it said nearly nothing; it is measured once more")


def _at(point: Point) -> tuple[int, int | None]:
    return point.batch_size, point.in_flight


def _is_pack_ordered(request: Request, findings: Findings) -> bool:
    """The user asks for packs and one could be measured: no single engine will be deployed, so none is confirmed."""
    return request.engines is not None and any(
        m.on.engines_per_gpu == request.engines and not m.point.doubts for m in findings.measured
    )


def _done(request: Request, findings: Findings, found: Point | None) -> Done:
    failures = [f for f in findings.lasting_failures if f.on.engines_per_gpu == 1 and not _went_on(findings, f)]
    if failures:
        return Done(complete=False, because=failures[-1].reason)
    if found is None:
        return _nothing(request, findings)
    what = f"B={found.batch_size}, R={found.replicas}"
    return Done(complete=True, because=f"{what} is the best found; further points could not change that")


def _nothing(request: Request, findings: Findings) -> Done:
    """Nothing can be chosen: because of the SLO, or because what would keep it is in doubt."""
    limits = limits_of(request, findings)
    doubtful = [p for p in findings.points if p.replicas == 1 and doubts_of((p,))]
    if only_one_sequence_is_sound(findings.points) or any(not slo_misses(p, limits) for p in doubtful):
        said = ", ".join(doubt.says for doubt in doubts_of(doubtful))
        return Done(complete=False, because=f"what could be chosen is in doubt, so that nothing is: {said}")
    pack = f"pack of {request.engines} engines was found that fits its slices and keeps the SLO"
    what = "batch size keeps the SLO" if request.engines is None else pack
    return Done(complete=True, because=f"no {what}; further points could not change that")


def _went_on(findings: Findings, failed: Failed) -> bool:
    """The engine named the B at which it starts, and started: nothing is missing."""
    later = findings.outcomes[findings.outcomes.index(failed) :]
    started = (o.step.configuration for o in later if isinstance(o, Started))
    return failed.batch_size_limit is not None and any(on.is_like(failed.on) for on in started)


def _before(findings: Findings) -> str:
    """What made the next step necessary, if it was a failure: it must not be lost in an ended budget."""
    last = findings.session[-1] if findings.session else None
    return f"; before it, {last.reason}" if isinstance(last, Failed) else ""
