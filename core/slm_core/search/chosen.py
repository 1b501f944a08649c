"""What would be served by what has been found until now: the advisor's own decision, asked of unfinished findings.

Exists so that what the search confirms, and what it ends with, is what the advisor chooses from its document. Must never
have a rule of its own: the decision is `slm_core.decision`.
"""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from slm_core.decision import Basis, Wanted, decide, evaluate
from slm_core.latency_model import fit_points
from slm_core.load import in_flight_of_rate
from slm_core.point_checks import only_one_sequence_is_sound
from slm_core.search.sweep import limits_of, swept

if TYPE_CHECKING:
    from slm_core.measurements import Point
    from slm_core.search.steps import Findings, Request


def chosen(request: Request, findings: Findings) -> Point | None:
    """The configuration that would be served: a pack that won, else one engine. The advisor comes to the same."""
    choice = decide(basis_of(request, findings))
    return choice.chosen.point if choice else None


def chosen_single(request: Request, findings: Findings) -> Point | None:
    """The same, were no pack allowed."""
    if only_one_sequence_is_sound(findings.points):
        return None
    best = evaluate(basis_of(request, findings)).best
    return best.chosen.point if best else None


def basis_of(request: Request, findings: Findings) -> Basis:
    """The findings as the advisor would look at them."""
    wanted = Wanted(
        limits=limits_of(request, findings),
        tuning=request,
        in_flight=load_of(request, findings),
        engines=request.engines,
    )
    return Basis.of(findings.points, wanted)


def load_of(request: Request, findings: Findings) -> int | None:
    """Requests in flight to decide for. A rate becomes what it comes to on one engine, by the sweep alone.

    NB: the sweep ends before anything is measured at a load, so the load stays the same from then on.
    """
    rate, points = request.requests_per_second, swept(findings)
    if request.concurrency is not None or rate is None or not points:
        return request.concurrency
    return in_flight_of_rate(fit_points(points), rate, fmean(p.output_tokens_mean for p in points))
