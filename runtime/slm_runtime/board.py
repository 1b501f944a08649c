"""What a window's readings of the board come to: figures for the point, and whether it was slowed by a fault. Pure.

A power cap is how a board runs under load, in a test and in production alike: a figure, no doubt. Heat and the hardware's
own brakes depend on the room and not on the model. Must never doubt a window for what a single reading shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, variance
from typing import TYPE_CHECKING

from slm_runtime.nvml import POWER_CAP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_runtime.nvml import Reading

SLOWED_FRACTION = 0.2
"""In more of the readings than this a reason counts as that of the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The board over a window. Absent: what it does not offer."""

    energy_joules: float | None = None
    """Between the first and the last reading."""
    mean_power_watts: float | None = None
    mean_sm_clock_mhz: float | None = None
    power_capped_fraction: float | None = None
    """Share of the readings in which power kept the clock below the one requested."""
    is_slowed: bool = False
    """The point must not be taken as it stands."""


def board_over(readings: Sequence[Reading], ci_fraction: float | None) -> Board:
    """`ci_fraction`: half width of the interval of the window's throughput, as a fraction of it."""
    if not readings:
        return Board()
    first, last = readings[0].energy_joules, readings[-1].energy_joules
    watts = [reading.power_watts for reading in readings if reading.power_watts is not None]
    clocks = [reading.sm_clock_mhz for reading in readings if reading.sm_clock_mhz is not None]
    reasons = [reading.slowed_by for reading in readings if reading.slowed_by is not None]
    capped = fmean(POWER_CAP in named for named in reasons) if reasons else None
    braked = fmean(any(reason != POWER_CAP for reason in named) for named in reasons) if reasons else 0.0
    return Board(
        energy_joules=last - first if first is not None and last is not None else None,
        mean_power_watts=fmean(watts) if watts else None,
        mean_sm_clock_mhz=fmean(clocks) if clocks else None,
        power_capped_fraction=capped,
        is_slowed=braked > SLOWED_FRACTION or ((capped or 0.0) > SLOWED_FRACTION and _drifts(clocks, ci_fraction)),
    )


def _drifts(clocks: Sequence[int], ci_fraction: float | None) -> bool:
    """Whether the clock of the second half differs from the first's by more than the interval, and than its own noise."""
    half = len(clocks) // 2
    if half < 2 or ci_fraction is None:
        return False
    early, late = clocks[:half], clocks[-half:]
    noise = 2 * math.sqrt((variance(early) + variance(late)) / half)
    return abs(fmean(late) - fmean(early)) - noise > ci_fraction * fmean(clocks)
