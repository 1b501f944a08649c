"""The pack that wins, measured below full batches: so that what is expected of it at the load of now is no bound."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from slm_core.configuration import EngineConfiguration
from slm_core.search.chosen import chosen
from slm_core.search.curve import loads
from slm_core.search.next_step import best, wanted_step
from slm_core.search.steps import Done, Findings, Measured, Request
from slm_core.slo import Limits, Slo, Statistic
from slm_operator.advisor.expectation import Reach, curve_of
from unit.runtime_search.searches import request, rig, search

from tests.simulated_engine.physics import steady_state
from tests.simulated_engine.published import LLAMA_2_7B, OPT_1_3B, OPT_2_7B, SHAREGPT

if TYPE_CHECKING:
    from slm_core.measurements import Point

PACKED = request(Slo(itl_factor=4))


def in_part(findings: Findings) -> list[Point]:
    return [p for p in findings.points if p.in_flight is not None]


def until(findings: Findings, point: Point) -> Findings:
    """What was known once this point was."""
    at = next(at for at, o in enumerate(findings.outcomes) if isinstance(o, Measured) and o.point == point)
    return replace(findings, outcomes=findings.outcomes[: at + 1])


def winner(asked: Request, findings: Findings) -> Point:
    won = best(asked, findings)
    assert won is not None
    assert won.replicas > 1
    return won


def test_loads_are_half_full_and_one_sequence_an_engine() -> None:
    pack = EngineConfiguration(batch_size=48, max_num_batched_tokens=2048, engines_per_gpu=3)
    assert loads(pack) == (72, 3)
    assert loads(replace(pack, batch_size=3)) == (3,)
    assert loads(replace(pack, batch_size=1)) == ()


async def test_a_pack_that_wins_is_measured_in_part_by_no_other_start() -> None:
    findings, done, _ = await search(PACKED, rig())
    won = winner(PACKED, findings)
    assert done.complete
    assert [(p.batch_size, p.replicas, p.in_flight) for p in in_part(findings)] == [(144, 2, 144), (144, 2, 2)]
    packs = [s for s in findings.starts if s.step.configuration.engines_per_gpu == 2]
    assert len(packs) == 1
    assert chosen(PACKED, until(findings, won)) == won, "it decides nothing"


async def test_a_pack_that_loses_is_not_measured_in_part() -> None:
    findings, _, _ = await search(PACKED, rig(LLAMA_2_7B))
    assert {p.replicas for p in findings.points} == {1, 2}
    assert in_part(findings) == []


async def test_what_a_user_ordered_is_measured_in_part_though_it_loses() -> None:
    asked = request(Slo(itl_factor=2), engines=3)
    findings, _, _ = await search(asked, rig(LLAMA_2_7B))
    assert [p.replicas for p in in_part(findings)] == [3, 3]


async def test_a_budget_that_holds_only_what_decides_ends_complete() -> None:
    whole, _, _ = await search(PACKED, rig())
    needed = until(whole, winner(PACKED, whole))
    # What decides is followed by one more try in vain; a second more would not hold a window.
    asked = replace(PACKED, max_gpu_seconds=needed.gpu_seconds + 1)
    findings, done, _ = await search(asked, rig())
    assert in_part(findings) == []
    assert best(asked, findings) == winner(PACKED, whole)
    assert done.complete


async def test_engines_that_run_no_more_are_not_started_for_a_curve() -> None:
    whole, _, _ = await search(PACKED, rig())
    former = until(whole, winner(PACKED, whole))
    assert not isinstance(wanted_step(PACKED, former), Done)
    assert isinstance(wanted_step(PACKED, replace(former, earlier=len(former.outcomes))), Done)


async def test_a_named_load_near_the_curves_needs_no_second_window() -> None:
    asked = replace(PACKED, concurrency=140)
    findings, _, _ = await search(asked, rig())
    packs = [p.in_flight for p in in_part(findings) if p.replicas == 2]
    assert packs == [140, 2]


async def test_a_wide_interval_of_the_curve_is_taken_as_it_is() -> None:
    """What decides nothing is not paid for twice."""
    findings, _, _ = await search(PACKED, rig())
    last = in_part(findings)[0]
    wide = replace(last, throughput_ci_fraction=3.0)
    seen = until(findings, last)
    end = seen.outcomes[-1]
    assert isinstance(end, Measured)
    seen = replace(seen, outcomes=(*seen.outcomes[:-1], replace(end, point=wide)))
    step = wanted_step(PACKED, seen)
    assert getattr(step, "in_flight", None) == 2


async def test_no_percentile_is_waited_for_in_a_curve() -> None:
    asked = request(Slo(itl_ms=30, itl_statistic=Statistic.P99), engines=2)
    findings, _, _ = await search(asked, rig())
    assert {m.step.min_samples for m in findings.measured if m.step.in_flight is not None} == {0}


@pytest.mark.parametrize("engine", [OPT_1_3B, OPT_2_7B, LLAMA_2_7B], ids=lambda engine: engine.name)
@pytest.mark.parametrize("engines", [2, 3])
async def test_what_a_pack_does_in_part_is_expected_within_a_tenth(engine: object, engines: int) -> None:
    """At 4 and 16 requests in flight, at 30 to 70 % of full batches, and full."""
    asked = request(Slo(itl_factor=4), engines=engines)
    findings, _, _ = await search(asked, rig(engine))
    won = winner(asked, findings)
    on = next(m.on for m in findings.measured if m.point == won)
    found = curve_of(findings.points, EngineConfiguration.of(won), Limits())
    assert found is not None
    for load in (4, 16, *(round(part * found.full) for part in (0.3, 0.5, 0.7, 1))):
        expected, really = found.at(load), steady_state(engine, SHAREGPT, on, load / engines)
        assert expected is not None
        assert expected.reach is Reach.MEASURED
        assert expected.output_tokens_per_second == pytest.approx(engines * really.output_tokens_per_second, rel=0.1)
        assert expected.itl_ms == pytest.approx(really.itl_ms, rel=0.1)
