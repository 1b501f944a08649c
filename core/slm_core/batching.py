"""The Batching Configuration Advisor for one engine, as published, with feasibility made explicit.

    B_opt = argmax_B T(B)   subject to   L(B) <= SLO   and   T(B) / (B T(1)) > epsilon

Source: "Mind the Memory Gap" (arXiv 2503.08311), section 6. The formula does not say that points with preemptions are
infeasible, the authors drop them by hand; here that is a check like the others. Assumes measured points and chooses
among them only. Must never look at packs: whether a second engine pays is another question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from slm_core.latency_model import fit_points, is_full_single
from slm_core.measurements import Mark
from slm_core.slo import figure_ms, slo_misses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.measurements import Point
    from slm_core.slo import Limits

KV_TARGET_FRACTION = 0.92
"""KV bytes given are the observed peak over this, so that the peak is between the bounds below when it recurs."""
KV_MIN_FRACTION, KV_MAX_FRACTION = 0.85, 0.98
"""A confirmed configuration peaks between these fractions of its KV pool: neither waste nor preemption."""


class CheckName(StrEnum):
    """The conditions of the formula, and those that it leaves out."""

    TRUSTED = "Trusted"
    """No preemption, no failed request, no mark."""
    ITL = "ITL"
    TTFT = "TTFT"
    EFFICIENCY = "Efficiency"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition on one point, with the figures that decided it."""

    name: CheckName
    passed: bool
    value: float | None
    """Measured figure: preemptions and errors, milliseconds, or a fraction. Absent: not known."""
    limit: float | None
    """What it was held against. Absent: there is no limit, or it is not known."""
    because: str
    """The whole sentence."""

    def is_near(self, tolerance: float) -> bool:
        """The value would pass with the limit moved by this fraction; False where there are no two figures to compare."""
        if self.value is None or self.limit is None or self.name is CheckName.TRUSTED:
            return False
        if self.name is CheckName.EFFICIENCY:
            return self.value > self.limit * (1 - tolerance)
        return self.value <= self.limit * (1 + tolerance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One single-engine point and its checks."""

    point: Point
    checks: tuple[Check, ...]

    @property
    def feasible(self) -> bool:
        """Every check passed."""
        return all(check.passed for check in self.checks)

    def is_near(self, tolerance: float) -> bool:
        """Every check that failed would pass with its limit moved by this fraction."""
        return all(check.passed or check.is_near(tolerance) for check in self.checks)

    @property
    def unknown(self) -> bool:
        """What failed, failed only for want of figures."""
        failed = [check for check in self.checks if not check.passed]
        return bool(failed) and all(check.value is None for check in failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class BcaResult:
    """The answer for one engine."""

    chosen: Candidate | None
    """The feasible point of highest throughput. Absent when there is none."""
    closest: Candidate | None
    """Without a choice: the trusted point with the lowest latency, which is the nearest that can be had."""
    candidates: tuple[Candidate, ...]
    """Every full-batch single-engine point, in order of B."""
    single_sequence_tokens_per_second: float | None
    """T(1)."""
    single_sequence_source: str
    """Where T(1) comes from: measured, or the fit."""


def choose(points: Sequence[Point], limits: Limits, min_efficiency: float) -> BcaResult:
    """Run the advisor over the full-batch single-engine points of `points`. `min_efficiency` is epsilon, a fraction.

    Of several points of one configuration the last counts: a confirmation supersedes the sweep, whatever it says.
    """
    last = {(p.batch_size, p.max_num_batched_tokens): p for p in points if is_full_single(p)}
    singles = sorted(last.values(), key=lambda p: p.batch_size)
    one, source = single_sequence_tokens_per_second(points)
    candidates = tuple(Candidate(point=p, checks=_checks(p, limits, one, min_efficiency)) for p in singles)
    feasible = [c for c in candidates if c.feasible]
    trusted = [c for c in candidates if not _faults(c.point)]
    return BcaResult(
        chosen=max(feasible, key=lambda c: c.point.throughput_tokens_per_second, default=None),
        closest=None if feasible else min(trusted, key=lambda c: c.point.itl_ms.mean_ms, default=None),
        candidates=candidates,
        single_sequence_tokens_per_second=one,
        single_sequence_source=source,
    )


def single_sequence_tokens_per_second(points: Sequence[Point]) -> tuple[float | None, str]:
    """T(1) in input and output tokens per second, and where it comes from."""
    measured = next((p for p in points if is_full_single(p) and p.batch_size == 1 and not _faults(p)), None)
    if measured:
        return measured.throughput_tokens_per_second, "measured"
    fit = fit_points(points)
    if fit:
        return fit.predict(1).throughput_tokens_per_second, "fitted (B=1 was not measured)"
    return None, "not known: measure B=1, or two other batch sizes"


def efficiency(point: Point, single_sequence: float) -> float:
    """Batching efficiency T(B) / (B T(1)); 1.0 is perfect scaling."""
    return point.throughput_tokens_per_second / (point.batch_size * single_sequence)


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


def _faults(point: Point) -> tuple[str, ...]:
    counted = (
        (point.preemptions, Mark.PREEMPTED, "preemptions"),
        (point.errors, Mark.ERRORS, "failed requests"),
    )
    faults = [f"{count} {what}" for count, _, what in counted if count]
    said = [mark for count, mark, _ in counted if count]
    return (*faults, *(f"marked {mark}" for mark in point.doubts if mark not in said))


def _checks(point: Point, limits: Limits, single_sequence: float | None, min_efficiency: float) -> tuple[Check, ...]:
    return (_trusted(point), *_latency(point, limits), _efficient(point, single_sequence, min_efficiency))


def _trusted(point: Point) -> Check:
    faults = _faults(point)
    return Check(
        name=CheckName.TRUSTED,
        passed=not faults,
        value=float(point.preemptions + point.errors),
        limit=0.0,
        because=", ".join(faults) or "no preemption, no failed request, no mark",
    )


def _latency(point: Point, limits: Limits) -> tuple[Check, ...]:
    misses = {str(miss.what): miss for miss in slo_misses(point, limits)}
    asked = (
        (CheckName.ITL, limits.itl_ms, point.itl_ms, limits.itl_ms is not None or limits.unresolved is not None),
        (CheckName.TTFT, limits.ttft_ms, point.ttft_ms, limits.ttft_ms is not None),
    )
    checks = []
    for name, limit_ms, latency, is_asked in asked:
        if not is_asked:
            continue
        value = figure_ms(latency, limits.percentile) if latency else None
        miss = misses.get(str(name))
        kept = f"{limits.percentile.lower()} {name} {value or 0:.1f} ms is within {limit_ms or 0:.1f} ms"
        checks.append(
            Check(name=name, passed=miss is None, value=value, limit=limit_ms, because=miss.because if miss else kept)
        )
    return tuple(checks)


def _efficient(point: Point, single_sequence: float | None, min_efficiency: float) -> Check:
    if not single_sequence:
        return Check(
            name=CheckName.EFFICIENCY, passed=False, value=None, limit=min_efficiency, because="T(1) is not known"
        )
    value = efficiency(point, single_sequence)
    passed = value > min_efficiency
    words = "is above" if passed else "is not above"
    return Check(
        name=CheckName.EFFICIENCY,
        passed=passed,
        value=value,
        limit=min_efficiency,
        because=f"batching efficiency {value:.3f} {words} {min_efficiency:g}",
    )
