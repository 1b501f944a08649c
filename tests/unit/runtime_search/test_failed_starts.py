"""What the search does with engines that do not start: no start is repeated that would fail again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slm_core.configuration import EngineConfiguration
from slm_core.failure import EngineFailed, EngineFault, Failure
from slm_core.measurements import Point, SharingMode
from slm_core.search.next_step import best, next_step
from slm_core.search.steps import PASSING, EngineReport, Findings, Measure, StartEngines
from slm_core.slo import Slo, Statistic
from unit.runtime_search.searches import request, rig, search

from benchmarks.search.cases import draw
from tests.simulated_engine.published import OPT_1_3B, SHAREGPT
from tests.simulated_engine.rig import SimulatedRig

MODES = (SharingMode.MPS, SharingMode.TIME_SLICING)
Refused = tuple[EngineConfiguration, Failure | None]


class Moody(SimulatedRig):
    """Engines that fail at random: at their start or under load, with a cause and sometimes with a number, however odd."""

    def __init__(self, *, moods: Random, failing: float, **rest: Any) -> None:
        super().__init__(**rest)
        self._moods, self._failing = moods, failing
        self.asked: list[EngineConfiguration] = []
        self.refused: list[Refused] = []

    def _fails(self, on: EngineConfiguration, *, starting: bool) -> None:
        moods = self._moods
        if moods.random() >= self._failing:
            return
        failure = moods.choice([None, *Failure])
        if starting:
            self.refused.append((on, failure))
        if failure is None:
            raise EngineFailed("it says nothing")
        raise EngineFault(failure, "it fails", batch_size_limit=moods.choice((None, None, -1, 0, 1, 7, 171, 10**6)))

    async def start(self, on: EngineConfiguration) -> EngineReport:
        self.asked.append(on)
        self._fails(on, starting=True)
        return await super().start(on)

    async def measure(self, step: Measure) -> Point:
        assert self.running is not None
        self._fails(self.running, starting=False)
        return await super().measure(step)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), failing=st.sampled_from((0.1, 0.4, 0.8, 1.0)))
async def test_failed_start_is_repeated_only_for_a_passing_cause(seed: int, failing: float) -> None:
    moods = Random(seed)
    case = draw(moods)
    tail = Slo(itl_ms=30, ttft_ms=14, ttft_statistic=moods.choice(list(Statistic)))  # asks for another token budget
    asked = replace(
        case.request,
        slo=moods.choice((case.request.slo, tail)),
        modes=moods.choice((MODES, MODES[:1], MODES[1:], ())),
        engines=moods.choice((None, 2, 3)),
        concurrency=moods.choice((None, 20)),
        max_batch_size=moods.choice((1, 2, 48, 512)),
        max_gpu_seconds=1e6,
    )
    it = Moody(engine=case.engine, lengths=case.lengths, random=Random(seed), moods=moods, failing=failing)
    findings, done, _ = await search(asked, it)
    assert done.because
    assert len(findings.outcomes) <= 40
    refusals = Counter(on for on, _ in it.refused)
    for on, times in refusals.items():
        first = next(failure for refused, failure in it.refused if refused == on)
        assert times <= 1 + (first in PASSING), (on, first)
    # Pure: the same findings lead to the same step.
    replayed = Findings()
    for outcome in findings.outcomes:
        assert next_step(asked, replayed) == outcome.step
        replayed = replayed.add(outcome)


class Refusing(SimulatedRig):
    """Starts of some configurations fail, each in its turn: `causes` are used up in order."""

    def __init__(self, causes: list[EngineFailed], *, packs: bool = False, pooled: bool = False, **rest: Any) -> None:
        super().__init__(**{"engine": OPT_1_3B, "lengths": SHAREGPT, "random": Random(1)} | rest)
        self._causes, self._packs, self._pooled = causes, packs, pooled
        self.asked: list[EngineConfiguration] = []

    async def start(self, on: EngineConfiguration) -> EngineReport:
        self.asked.append(on)
        concerned = (on.engines_per_gpu > 1 or not self._packs) and (on.kv_cache_bytes is not None or not self._pooled)
        if concerned and self._causes:
            self.seconds += 10
            raise self._causes.pop(0)
        return await super().start(on)


async def test_engines_that_refuse_every_pool_are_asked_for_each_once() -> None:
    it = Refusing([EngineFailed("the pool holds no sequence")] * 40, pooled=True)
    findings, done, _ = await search(request(modes=MODES), it)
    refused = [f.on for f in findings.failures if isinstance(f.step, StartEngines)]
    assert refused
    assert len(set(refused)) == len(refused)
    assert len(findings.points) >= 3
    assert done.complete is False


async def test_engine_failing_at_one_sequence_is_started_once() -> None:
    it = Refusing([EngineFailed("no")] * 40)
    _, done, _ = await search(request(max_batch_size=1), it)
    assert len(it.asked) == 1
    assert (done.complete, done.because) == (False, "no")


@pytest.mark.parametrize("cause", sorted(PASSING))
@pytest.mark.parametrize("packs", [False, True], ids=["the sweep's engine", "a pack"])
async def test_start_failed_for_a_passing_cause_is_tried_once_more(cause: Failure, *, packs: bool) -> None:
    asked = request(Slo(itl_factor=4), modes=MODES)
    plain, _, _ = await search(asked, rig())
    it = Refusing([EngineFault(cause, "not within 900 s")], packs=packs)
    findings, done, _ = await search(asked, it)
    assert done.complete
    assert [p.batch_size for p in findings.points] == [p.batch_size for p in plain.points], "nothing was given up"
    assert SharingMode.TIME_SLICING not in {on.sharing_mode for on in it.asked}


async def test_start_failed_twice_for_passing_cause_is_given_up() -> None:
    it = Refusing([EngineFault(Failure.NEVER_HEALTHY, "not within 900 s")] * 40)
    findings, done, _ = await search(request(), it)
    assert len(it.asked) == len(findings.failures) == 2
    assert (done.complete, done.because) == (False, "not within 900 s")


async def test_a_budget_that_ends_after_a_failure_names_the_failure() -> None:
    it = Refusing([EngineFault(Failure.NEVER_HEALTHY, "not within 900 s")])
    _, done, _ = await search(request(max_gpu_seconds=5), it)
    assert done.because.endswith("; before it, not within 900 s")


@pytest.mark.parametrize("state_mib", [64, 304, 900], ids=["for 810", "for 171", "for 57"])
async def test_search_goes_on_at_the_batch_that_the_engine_names(state_mib: int) -> None:
    """As of models with a state: a sequence takes a block of the pool, however short it is."""
    engine = replace(OPT_1_3B, state_bytes=state_mib * 2**20)
    limit = 54_480_000_000 // engine.state_bytes
    asked = request(Slo(itl_factor=4), max_batch_size=1024, modes=MODES)
    findings, done, _ = await search(asked, rig(engine))
    sweeps = [s.step.configuration for s in findings.starts if s.step.configuration.kv_cache_bytes is None]
    assert [limit * 0.96 <= on.batch_size <= limit for on in sweeps] == [True]
    assert done.complete, done.because
    assert len(findings.failures) <= 2
    chosen = best(asked, findings)
    assert chosen is not None
    assert chosen.confirmed


async def test_named_batch_that_fails_too_is_followed_by_the_next() -> None:
    it = Refusing(
        [EngineFault(Failure.DIED, "no", batch_size_limit=171), EngineFault(Failure.DIED, "no", batch_size_limit=160)]
    )
    findings, done, _ = await search(request(), it)
    assert [on.batch_size for on in it.asked][:3] == [512, 168, 160]
    assert findings.points
    assert done.complete


@pytest.mark.parametrize("named", [-1, 0, 512, 10**6])
async def test_a_number_that_is_no_smaller_batch_is_no_help(named: int) -> None:
    it = Refusing([EngineFault(Failure.DIED, "no", batch_size_limit=named)])
    await search(request(), it)
    assert [on.batch_size for on in it.asked][:2] == [512, 256]


async def test_a_users_own_packs_are_tried_in_every_way_of_sharing() -> None:
    it = rig(refuses=frozenset({SharingMode.MPS}))
    findings, _, _ = await search(request(modes=MODES, engines=3), it)
    assert SharingMode.TIME_SLICING in {m.on.sharing_mode for m in findings.measured}
