"""The Batching Configuration Advisor for one engine, as published, with feasibility made explicit.

    B_opt = argmax_B T(B)   subject to   L(B) <= SLO   and   T(B) / (B T(1)) > epsilon

Source: "Mind the Memory Gap" (arXiv 2503.08311), section 6. The formula does not say that points with preemptions are
infeasible, the authors drop them by hand; here that is a check like the others. Assumes measured points and chooses
among them only. Must never look at packs: whether a second engine pays is another question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from slm_core.candidates import Check, CheckName, deciding, judge
from slm_core.choice import choose_among
from slm_core.latency_model import fit_points, is_full_single
from slm_core.point_checks import SOUND, latency
from slm_core.slo import METRICS
from slm_core.slo_check import figure_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.candidates import Candidate
    from slm_core.measurements import Point
    from slm_core.slo import Limits

KV_TARGET_FRACTION = 0.92
"""KV bytes given are the observed peak over this, so that the peak is between the bounds below when it recurs."""
KV_MIN_FRACTION, KV_MAX_FRACTION = 0.85, 0.98
"""A confirmed configuration peaks between these fractions of its KV pool: neither waste nor preemption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Parameters of the formula for one engine."""

    limits: Limits
    min_efficiency: float
    """epsilon, a fraction."""
    single_sequence: float | None
    """T(1) in input and output tokens per second. Absent: not known, and nothing is efficient."""

    def judge(self, point: Point) -> Candidate:
        """The conditions of the formula, and those that it leaves out."""
        efficiency_check = partial(efficient, single_sequence=self.single_sequence, min_efficiency=self.min_efficiency)
        return judge(point, (*SOUND, partial(latency, limits=self.limits), efficiency_check))

    def is_near(self, point: Point, tolerance: float) -> bool:
        """It would pass with every limit moved by this fraction."""
        limits = self.limits.moved(1 + tolerance)
        moved = replace(self, limits=limits, min_efficiency=self.min_efficiency * (1 - tolerance))
        return moved.judge(point).passed

    def is_undecided(self, point: Point) -> bool:
        """It fails, and only limits for which its samples give no figure: another measurement may tell."""
        silent = [m for m in METRICS if (of := m.of(point)) is None or figure_ms(of, m.statistic(self.limits)) is None]
        limits = self.limits.without(silent)
        return not self.judge(point).passed and replace(self, limits=limits).judge(point).passed


@dataclass(frozen=True, slots=True, kw_only=True)
class BcaResult:
    """The answer for one engine."""

    fastest: Candidate | None
    """The published answer: of those that passed the most tokens per second. Absent when there is none."""
    chosen: Candidate | None
    """The one of the lowest latency that cannot be distinguished from it."""
    candidates: tuple[Candidate, ...]
    """Every full-batch single engine, in order of B, by the measurement that decides."""
    rules: Rules
    """What they were judged by."""


def choose(points: Sequence[Point], limits: Limits, min_efficiency: float) -> BcaResult:
    """Run the advisor over the full-batch single-engine points of `points`, in the order in which they were measured."""
    one, _ = single_sequence_tokens_per_second(points)
    rules = Rules(limits=limits, min_efficiency=min_efficiency, single_sequence=one)
    singles = deciding(p for p in points if is_full_single(p)).values()
    candidates = tuple(rules.judge(p) for p in sorted(singles, key=lambda p: p.batch_size))
    choice = choose_among(candidates)
    fastest, chosen = (choice.fastest, choice.chosen) if choice else (None, None)
    return BcaResult(fastest=fastest, chosen=chosen, candidates=candidates, rules=rules)


def single_sequence_tokens_per_second(points: Sequence[Point]) -> tuple[float | None, str]:
    """T(1) in input and output tokens per second, and where it comes from."""
    measured = next((p for p in points if is_full_single(p) and p.batch_size == 1 and p.is_trusted), None)
    if measured:
        return measured.throughput_tokens_per_second, "measured"
    fit = fit_points(points)
    if fit:
        return fit.predict(1).throughput_tokens_per_second, "fitted (B=1 was not measured)"
    return None, "not known: measure B=1, or two other batch sizes"


def efficiency(point: Point, single_sequence: float) -> float:
    """Batching efficiency T(B) / (B T(1)); 1.0 is perfect scaling. Where fewer were in flight than B, B is those."""
    running = min(point.load, point.batch_size)
    return point.throughput_tokens_per_second / (running * single_sequence)


def efficient(point: Point, *, single_sequence: float | None, min_efficiency: float) -> Check:
    """The knee of one engine: T(B) / (B T(1)) above epsilon, as published."""
    if not single_sequence:
        because = "T(1) is not known, so no efficiency can be judged: measure B=1 again"
        return Check(CheckName.EFFICIENCY, False, because)
    value = efficiency(point, single_sequence)
    said = f"batching efficiency {value:.3f}"
    if value > min_efficiency:
        return Check(CheckName.EFFICIENCY, True, f"{said} is above {min_efficiency:g}", value, min_efficiency)
    because = f"{said} is not above {min_efficiency:g}: so large a batch buys too little"
    return Check(CheckName.EFFICIENCY, False, because, value, min_efficiency)


def kv_bytes(point: Point, *, floor_bytes: int = 0, pool_bytes: int | None = None) -> int | None:
    """KV bytes for each engine at this point: observed peak over the target use, at least `floor_bytes`.

    The floor is one sequence of the longest length, without which the engine refuses to start. A confirmed point whose
    peak lies within bounds keeps the pool that it was confirmed with. `pool_bytes` stands in where the point does not
    know its pool; None without either.
    """
    pool = pool_bytes if point.kv_pool_bytes is None else point.kv_pool_bytes
    if pool is None:
        return None
    if point.confirmed and KV_MIN_FRACTION <= point.kv_peak_fraction <= KV_MAX_FRACTION:
        return pool
    peak_bytes = point.kv_peak_fraction * pool
    return max(math.ceil(peak_bytes / KV_TARGET_FRACTION), floor_bytes)
