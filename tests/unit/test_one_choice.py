"""Search and advisor come to the same choice, however noisy the machine: what is served is what was confirmed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.candidates import Source
from slm_core.configuration import EngineConfiguration
from slm_core.measurements import Cost, Mark, MeasurementDocument, Point
from slm_core.noise import WIDE_FRACTION
from slm_core.point_checks import MARK_REMEDY, MARK_SAYS
from slm_core.search.chosen import load_of
from slm_core.search.next_step import best
from slm_core.search.steps import Done, Findings, Measured, Request
from slm_core.slo import Slo
from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise
from slm_operator.advisor.validate import AdviceError, Unanswerable
from slm_runtime.search_loop import Event, run_search

from benchmarks.search.cases import Case, draw
from tests.builders import document
from tests.simulated_engine.physics import steady_state
from tests.simulated_engine.published import OPT_1_3B, SHAREGPT
from tests.simulated_engine.rig import SimulatedRig

if TYPE_CHECKING:
    from slm_core.search.steps import Measure
    from slm_operator.advisor.advice import Advice


@dataclass(slots=True, kw_only=True)
class NoisyRig(SimulatedRig):
    """Marks what says nearly nothing, as a real window does; its intervals vary as the noise does."""

    async def measure(self, step: Measure) -> Point:
        point = await SimulatedRig.measure(self, step)
        ci = (point.throughput_ci_fraction or 0.0) * self.random.uniform(0.6, 1.2)
        wide = (Mark.WIDE,) if ci > WIDE_FRACTION else ()
        return replace(point, throughput_ci_fraction=ci, marks=(*point.marks, *wide))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A search that came to its end, and the document that it leaves."""

    request: Request
    findings: Findings
    done: Done

    @property
    def document(self) -> MeasurementDocument:
        found, asked = self.findings, self.request
        lengths = next((p for p in found.points), None)
        workload = replace(
            document().workload,
            output_tokens_mean=lengths.output_tokens_mean if lengths else 100.0,
            concurrency=load_of(asked, found),
            requests_per_second=asked.requests_per_second,
        )
        return document(
            *found.points,
            ledger=found.ledger,
            gpu=replace(document().gpu, memory_bytes=found.ledger.device_bytes if found.ledger else 0),
            workload=workload,
            model=replace(document().model, max_model_len=asked.max_model_len),
            cost=Cost(gpu_seconds=found.gpu_seconds, engine_starts=found.engine_starts, startup_seconds=1.0),
        )

    def advice(self) -> Advice:
        asked = self.request
        settings = Settings(
            min_efficiency=asked.min_efficiency,
            min_gain=asked.min_gain,
            engines_per_gpu=asked.engines,
            requests_per_second=asked.requests_per_second,
        )
        return advise(self.document, asked.slo, settings)


def search(case: Case, random: Random, noise_fraction: float, **asked: Any) -> Ended:
    engine = replace(case.engine, noise_fraction=noise_fraction / 2)
    events: list[Event] = []
    request = replace(case.request, **asked)
    rig = NoisyRig(engine=engine, lengths=case.lengths, random=random)
    findings = asyncio.run(run_search(request, rig, events.append))
    done = events[-1].step
    assert isinstance(done, Done)
    return Ended(request=request, findings=findings, done=done)


LOADS: dict[str, Any] = {
    "full batches": lambda _: {},
    "a load": lambda random: {"concurrency": random.choice((3, 20, 60))},
    "a rate": lambda random: {"requests_per_second": random.choice((0.5, 4.0, 20.0))},
    "packs of one's own": lambda random: {"engines": random.choice((2, 3))},
}


FEW, MANY = range(8), range(8, 40)


@pytest.mark.parametrize("seeds", [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)])
@pytest.mark.parametrize("of", LOADS.values(), ids=LOADS)
def test_search_and_advisor_choose_the_same(of: Any, seeds: range) -> None:
    """With intervals of 1 to 25 %. Those with a choice among more than two configurations count: they are most."""
    interesting = 0
    for seed in seeds:
        random = Random(seed)
        ended = search(draw(random), random, random.uniform(0.01, 0.25), **of(random))
        found = best(ended.request, ended.findings)
        if found is None or not ended.done.complete:
            continue
        interesting += len({EngineConfiguration.of(p) for p in ended.findings.points}) > 2
        configuration, advice = EngineConfiguration.of(found), ended.advice()
        assert advice.feasible, (seed, ended.done.because, advice.message)
        assert replace(advice.configuration, kv_cache_bytes=None) == configuration, (seed, advice.message)
        confirmed = [p for p in ended.findings.points if p.confirmed and EngineConfiguration.of(p) == configuration]
        assert confirmed, (seed, ended.done.because)
        assert advice.configuration.kv_cache_bytes is not None
        assert f"B={found.batch_size}, R={found.replicas} is the best found" in ended.done.because
    assert interesting >= len(seeds) / 2


def published(**asked: Any) -> Ended:
    case = Case(engine=OPT_1_3B, lengths=SHAREGPT, request=Request(slo=Slo(itl_factor=4), max_gpu_seconds=1e6))
    return search(case, Random(1), 0.01, max_model_len=2048, **asked)


def truly_served(in_flight: int) -> float:
    """Requests per second of one engine that really has so many in flight."""
    one = EngineConfiguration(batch_size=512, max_num_batched_tokens=8192)
    return steady_state(OPT_1_3B, SHAREGPT, one, in_flight).output_tokens_per_second / SHAREGPT.output_tokens_mean


@pytest.mark.parametrize("rate", [2.0, 9.0, 20.0])
def test_a_load_named_by_rate_is_measured_as_what_it_comes_to(rate: float) -> None:
    """One function turns it into requests in flight, for search and advisor."""
    ended = published(requests_per_second=rate, max_engines=1)
    workload, advice = ended.document.workload, ended.advice()
    assert workload.requests_per_second == rate
    assert workload.concurrency is not None
    assert truly_served(workload.concurrency) >= 0.95 * rate
    assert truly_served(workload.concurrency - 1) <= 1.05 * rate
    assert advice.load.in_flight == workload.concurrency
    chosen = next(c for c in advice.candidates if c.chosen)
    assert (chosen.point.in_flight, chosen.point.confirmed) == (workload.concurrency, True)
    assert advice.source.predicted is Source.MEASURED


def test_a_pack_is_measured_at_the_rate_too() -> None:
    ended = published(requests_per_second=20.0)
    load = load_of(ended.request, ended.findings)
    assert {m.on.engines_per_gpu for m in ended.findings.measured if m.step.in_flight == load} >= {1, 2}


def test_a_rate_beyond_one_engine_fills_every_batch() -> None:
    ended = published(requests_per_second=500.0, max_engines=1)
    assert load_of(ended.request, ended.findings) is None
    assert all(p.in_flight is None for p in ended.findings.points)
    assert ended.advice().load.in_flight is None


@dataclass(slots=True, kw_only=True)
class MarkingRig(SimulatedRig):
    """Marks every point above B = 1."""

    mark: Mark

    async def measure(self, step: Measure) -> Point:
        point = await SimulatedRig.measure(self, step)
        return replace(point, marks=(self.mark,)) if point.batch_size > 1 else point


@pytest.mark.parametrize("mark", [Mark.THROTTLED, Mark.LITTLES_LAW, Mark.ERRORS, Mark.WIDE])
@pytest.mark.parametrize("slo", [Slo(itl_ms=40), Slo(itl_factor=4)], ids=["milliseconds", "a factor"])
def test_nothing_is_best_where_only_b_1_can_be_trusted(mark: Mark, slo: Slo) -> None:
    request = Request(slo=slo, max_gpu_seconds=1e6, max_model_len=2048)
    events: list[Event] = []
    rig = MarkingRig(engine=OPT_1_3B, lengths=SHAREGPT, random=Random(1), mark=mark)
    findings = asyncio.run(run_search(request, rig, events.append))
    done = events[-1].step
    assert isinstance(done, Done)
    assert best(request, findings) is None
    assert not done.complete
    assert MARK_SAYS[mark] in done.because
    assert not any(p.confirmed for p in findings.points)
    with pytest.raises(AdviceError) as refused:
        Ended(request=request, findings=findings, done=done).advice()
    assert refused.value.kind is Unanswerable.UNTRUSTED
    assert MARK_REMEDY[mark] in str(refused.value)


@dataclass(slots=True, kw_only=True)
class DisturbedRig(SimulatedRig):
    """The first window of packs, or of engines with KV bytes of their own, says nearly nothing."""

    replicas: int
    disturbed: list[int] = field(default_factory=list)

    async def measure(self, step: Measure) -> Point:
        point = await SimulatedRig.measure(self, step)
        on = self.running
        if self.disturbed or on is None or on.kv_cache_bytes is None or point.replicas != self.replicas:
            return point
        self.disturbed.append(point.batch_size)
        return replace(point, throughput_ci_fraction=0.3, marks=(Mark.WIDE,))


@pytest.mark.parametrize("replicas", [1, 2])
def test_point_of_wide_interval_is_measured_once_more(replicas: int) -> None:
    request = Request(slo=Slo(itl_factor=4), max_gpu_seconds=1e6, max_model_len=2048, max_engines=replicas)
    rig = DisturbedRig(engine=OPT_1_3B, lengths=SHAREGPT, random=Random(1), replicas=replicas)
    findings = asyncio.run(run_search(request, rig, lambda _: None))
    at = next(i for i, o in enumerate(findings.outcomes) if isinstance(o, Measured) and o.point.marks)
    wide, again = findings.outcomes[at : at + 2]
    assert isinstance(again, Measured)
    assert (again.on, again.point.batch_size, again.point.marks) == (wide.on, rig.disturbed[0], ())
    assert "measured once more" in again.step.because
    found = best(request, findings)
    assert found is not None
    assert (found.replicas, found.marks) == (replicas, ())
