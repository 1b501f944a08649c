"""How much two figures may differ by chance: one formula for each comparison, each with its own name.

All results are fractions. The intervals that go in are half widths of 95 % confidence, which is two standard deviations.
Must never be zero where nothing is known: runs of one configuration differ, even if a single run shows no spread.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

REPEAT_FRACTION = 0.02
"""Spread between repeated runs of one configuration, where a point does not bring its own (0.1-4.1 % as published)."""
UNREPEATED_FRACTION = 0.041
"""Single runs without a confidence interval differ by up to this from run to run (memory-gap data, computed)."""

WIDE_FRACTION = 0.2
"""A point whose interval is wider than this says nearly nothing: it is shown, and neither search nor advisor chooses it."""
LITTLES_LAW_FRACTION = 0.05
"""Throughput, ITL and running sequences of a sound window agree within this."""


def of_fitted_point(ci_fraction: float | None) -> float:
    """One standard deviation of a point on a line: interval of the window and spread between runs, together.

    Holds for points of several windows or engine starts that one line is to explain; it weighs them against each other.
    """
    return math.hypot((ci_fraction or 0.0) / 2, REPEAT_FRACTION)


def of_next_measurement(ci_fractions: Iterable[float | None]) -> float:
    """One standard deviation of a further measurement: half of the widest interval, or the usual spread of repeats.

    Holds for the engine that is being swept, which is not started anew: how near to a limit it is worth measuring.
    """
    return max((ci / 2 for ci in ci_fractions if ci is not None), default=REPEAT_FRACTION / 2)


def of_comparison(one: float | None, other: float | None, *, fit_fraction: float | None = None) -> float:
    """What the difference of two configurations may be by chance, at 95 %: their intervals, together.

    Holds for points of different engine starts. Where either has no interval, at least what single runs differ by;
    `fit_fraction` is what the fit left unexplained, where one of the two is predicted by it.
    """
    known = [ci for ci in (one, other) if ci is not None]
    least = 0.0 if len(known) == 2 else UNREPEATED_FRACTION
    if fit_fraction is not None:
        known.append(max(fit_fraction, REPEAT_FRACTION))
    return max(math.hypot(*known), least)
