"""The search on boards whose clocks are lowered: under a power cap it finds what it finds without, beside heat it trusts nothing."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from slm_core.measurements import Mark, Point
from slm_core.search.steps import Request
from slm_core.slo import Slo
from slm_runtime.board import board_over
from slm_runtime.nvml import POWER_CAP, Reading
from slm_runtime.search_loop import run_search

from tests.simulated_engine.published import OPT_1_3B, SHAREGPT
from tests.simulated_engine.rig import SimulatedRig

if TYPE_CHECKING:
    from slm_core.search.steps import Measure


class Slowed(SimulatedRig):
    """On a board that shows these reasons in every reading."""

    reasons: tuple[str, ...] = ()

    async def measure(self, step: Measure) -> Point:
        point = await super().measure(step)
        reading = Reading(energy_joules=0, power_watts=70, sm_clock_mhz=1100, used_bytes=0, slowed_by=self.reasons)
        board = board_over([reading] * 40, point.throughput_ci_fraction)
        marks = (*point.marks, Mark.THROTTLED) if board.is_slowed else point.marks
        return replace(point, marks=marks, power_capped_fraction=board.power_capped_fraction)


async def measured(*reasons: str) -> tuple[Point, ...]:
    rig = Slowed(engine=OPT_1_3B, lengths=SHAREGPT, random=Random(1))
    rig.reasons = reasons
    asked = Request(slo=Slo(itl_factor=4), max_gpu_seconds=1e6, max_model_len=2048)
    return (await run_search(asked, rig, lambda _: None)).points


async def test_under_a_power_cap_the_same_packs_are_measured() -> None:
    plain, capped = await measured(), await measured(POWER_CAP)
    assert {point.power_capped_fraction for point in capped} == {1}
    assert tuple(replace(point, power_capped_fraction=0) for point in capped) == plain
    assert any(point.replicas > 1 and point.confirmed for point in capped)


@pytest.mark.parametrize("reason", ["HwThermalSlowdown", "HwPowerBrakeSlowdown", "HwSlowdown", "SwThermalSlowdown"])
async def test_point_slowed_by_a_fault_is_trusted_nowhere(reason: str) -> None:
    points = await measured(reason, POWER_CAP)
    assert points
    assert not any(point.is_trusted for point in points)
