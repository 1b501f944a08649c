"""What the readings of a window come to."""

from dataclasses import replace
from itertools import cycle, islice

import pytest
from slm_runtime.board import Board, board_over
from slm_runtime.nvml import Reading

POWER, HEAT, BRAKE = "SwPowerCap", "HwThermalSlowdown", "HwPowerBrakeSlowdown"


def readings(*slowed_by: tuple[str, ...], clocks: tuple[int, ...] = (1500,), count: int = 40) -> list[Reading]:
    """So many, the reasons and the clocks in turns."""
    pairs = islice(zip(cycle(slowed_by or ((),)), cycle(clocks), strict=False), count)
    return [
        Reading(energy_joules=100.0 * i, power_watts=250, sm_clock_mhz=clock, used_bytes=0, slowed_by=reasons)
        for i, (reasons, clock) in enumerate(pairs)
    ]


FALLING = tuple(1500 - 5 * i for i in range(40))
UNSTEADY = (*(1600, 1400) * 10, *(1640, 1440) * 10)
SLOWED = [
    ("no reason", readings(), False),
    ("a power cap throughout", readings((POWER,)), False),
    ("heat in one of forty", readings((HEAT,), *[()] * 39), False),
    ("heat in most", readings((HEAT,), (HEAT, POWER), ()), True),
    ("a power brake in most", readings((BRAKE,)), True),
    ("a cap under which the clock falls", readings((POWER,), clocks=FALLING), True),
    ("a falling clock in a moment's cap", readings((POWER,), *[()] * 39, clocks=FALLING), False),
    ("a cap under which the clock only trembles", readings((POWER,), clocks=UNSTEADY), False),
    ("a cap in a window too short to tell", readings((POWER,), clocks=(1500, 1000), count=3), False),
]


@pytest.mark.parametrize(("name", "seen", "is_slowed"), SLOWED, ids=[case[0] for case in SLOWED])
def test_a_window_is_slowed_by_a_fault_or_a_drift_only(name: str, seen: list[Reading], is_slowed: bool) -> None:  # noqa: FBT001
    assert board_over(seen, ci_fraction=0.02).is_slowed == is_slowed


def test_a_drift_within_the_interval_of_throughput_is_no_doubt() -> None:
    seen = readings((POWER,), clocks=FALLING)
    assert not board_over(seen, ci_fraction=0.1).is_slowed
    assert not board_over(seen, ci_fraction=None).is_slowed


def test_a_power_cap_is_a_figure() -> None:
    assert board_over(readings((POWER,), (POWER, HEAT), (), (HEAT,), count=4), 0.02) == Board(
        energy_joules=300, mean_power_watts=250, mean_sm_clock_mhz=1500, power_capped_fraction=0.5, is_slowed=True
    )


def test_a_board_that_names_no_reasons_has_no_capped_share() -> None:
    unsaid = [replace(reading, slowed_by=None) for reading in readings()]
    assert (board_over(unsaid, 0.02).power_capped_fraction, board_over(unsaid, 0.02).is_slowed) == (None, False)


@pytest.mark.parametrize("missed", [0, -1])
def test_energy_needs_a_reading_at_both_ends(missed: int) -> None:
    seen = readings()
    seen[missed] = replace(seen[missed], energy_joules=None)
    assert board_over(seen, 0.02).energy_joules is None


def test_without_readings_nothing_is_known() -> None:
    assert board_over([], 0.02) == Board()
