"""What holds for every document, SLO and setting."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from slm_core import batching
from slm_core.candidates import CheckName, Measurement, Verdict
from slm_core.choice import chance_fraction
from slm_core.measurements import Latency, Mark, MeasurementDocument, Point, SharingMode
from slm_core.slo import Slo
from slm_core.slo_check import resolve
from slm_core.units import GIB
from slm_operator.advisor.advice import Objective, Settings
from slm_operator.advisor.advise import advise
from slm_operator.advisor.economy import Price
from slm_operator.advisor.select import pareto_frontier
from slm_operator.advisor.validate import AdviceError, check_trust

from tests.best_single import fastest_single
from tests.builders import document, point

if TYPE_CHECKING:
    from random import Random

    from slm_core.candidates import Check

pytestmark = pytest.mark.slow
BATCHES = (1, 2, 8, 32, 64, 96, 128, 256, 512)
MARKS = st.sampled_from([(), (), (), (Mark.WIDE,), (Mark.THROTTLED,)])


@st.composite
def points(draw: st.DrawFn, batch: int, replicas: int) -> Point:
    host, slope = draw(st.floats(1, 10)), draw(st.floats(0.01, 0.5))
    spread = draw(st.floats(0.8, 1.25))
    itl = (host + slope * batch * replicas) * spread
    mode = (
        SharingMode.EXCLUSIVE if replicas == 1 else draw(st.sampled_from([SharingMode.MPS, SharingMode.TIME_SLICING]))
    )
    return point(
        batch,
        itl=itl,
        output=1000 * batch * replicas / itl,
        replicas=replicas,
        sharing_mode=mode,
        kv_pool_bytes=draw(st.integers(1, 60)) * GIB,
        kv_peak_fraction=draw(st.floats(0.01, 1)),
        preemptions=draw(st.sampled_from([0, 0, 0, 5])),
        marks=draw(MARKS),
        confirmed=replicas > 1 and draw(st.booleans()),
        throughput_ci_fraction=draw(st.sampled_from([None, 0.005, 0.02])),
        ttft_ms=draw(st.sampled_from([None, Latency(mean_ms=100), Latency(mean_ms=500)])),
        mean_power_watts=draw(st.floats(100, 700)),
    )


@st.composite
def documents(draw: st.DrawFn) -> MeasurementDocument:
    one = point(1, itl=draw(st.floats(1, 12)), mean_power_watts=100.0)
    singles = [draw(points(b, 1)) for b in draw(st.lists(st.sampled_from(BATCHES[1:]), unique=True, max_size=6))]
    shapes = draw(st.lists(st.tuples(st.sampled_from(BATCHES), st.sampled_from([2, 3, 4])), unique=True, max_size=6))
    packs = [draw(points(b, r)) for b, r in shapes]
    made = document(one, *singles, *packs)
    assume(not check_trust(made.points, Settings()))
    return made


@st.composite
def documents_with_two_alike(draw: st.DrawFn) -> MeasurementDocument:
    """Documents whose fastest engine cannot be told apart from one of half its sequences, which answers sooner."""
    made = draw(documents())
    sound = [p for p in made.points if p.replicas == 1 and not p.doubts and not p.preemptions]
    best = max(sound, key=lambda p: p.throughput_tokens_per_second)
    batch, gain = 2 * best.batch_size + 1, draw(st.floats(0.001, 0.01))
    itl = best.itl_ms.mean_ms * batch / best.batch_size / (1 + gain)
    watts = best.mean_power_watts
    twin = point(batch, itl=itl, kv_pool_bytes=best.kv_pool_bytes, ttft_ms=best.ttft_ms, mean_power_watts=watts)
    return replace(made, points=(*made.points, twin))


slos = st.builds(
    Slo,
    itl_ms=st.one_of(st.none(), st.floats(0.5, 200)),
    ttft_ms=st.one_of(st.none(), st.just(300.0)),
)
efforts = st.builds(
    Settings,
    min_efficiency=st.floats(0.01, 0.9),
    min_gain=st.sampled_from([0.0, 0.02, 0.05, 0.2]),
    objective=st.sampled_from(Objective),
)
THROUGHPUT = efforts.map(lambda s: replace(s, objective=Objective.THROUGHPUT))
FEW = settings(max_examples=25)


@FEW
@given(documents(), slos, efforts)
def test_feasible_whenever_something_is(doc: MeasurementDocument, slo: Slo, effort: Settings) -> None:
    advice = advise(doc, slo, effort)
    kept = [c for c in advice.candidates if c.verdict is not Verdict.REJECTED]
    assert advice.feasible == bool(kept) == (advice.closest is None)
    assert [c.verdict for c in kept].count(Verdict.CHOSEN) == bool(kept)


@FEW
@given(documents(), slos, efforts)
def test_never_below_the_best_feasible_single_engine(doc: MeasurementDocument, slo: Slo, effort: Settings) -> None:
    advice = advise(doc, slo, effort)
    singles = [c for c in advice.candidates if c.point.replicas == 1 and c.verdict is not Verdict.REJECTED]
    assert (advice.best_single is None) == (not singles)
    if singles:
        assert advice.predicted
        best = max(c.point.throughput_tokens_per_second for c in singles)
        assert advice.predicted.throughput_tokens_per_second >= best
        assert advice.best_single
        assert advice.best_single.throughput_tokens_per_second == best


@FEW
@given(documents(), slos, efforts)
def test_one_engine_is_what_the_published_advisor_says(doc: MeasurementDocument, slo: Slo, effort: Settings) -> None:
    alone = replace(doc, points=tuple(p for p in doc.points if p.replicas == 1), ledger=None)
    answer = batching.choose(alone.points, resolve(slo, alone.points), effort.min_efficiency).chosen
    advice = advise(alone, slo, replace(effort, objective=Objective.THROUGHPUT))
    assert advice.feasible == (answer is not None)
    if answer:
        assert advice.configuration.batch_size == answer.point.batch_size


@FEW
@given(documents_with_two_alike(), slos, efforts, st.sampled_from([2, 3, 4]))
def test_the_users_number_is_compared_with_the_fastest_engine(
    doc: MeasurementDocument, slo: Slo, effort: Settings, engines: int
) -> None:
    advice = advise(doc, slo, replace(effort, engines_per_gpu=engines))
    assume(advice.configuration.engines_per_gpu > 1)
    best = advice.best_single and advice.best_single.throughput_tokens_per_second
    assert best == fastest_single(doc, slo, effort.min_efficiency, advice)


@FEW
@given(documents(), slos, THROUGHPUT, st.floats(1, 20))
def test_looser_slo_loses_at_most_the_min_gain(
    doc: MeasurementDocument, slo: Slo, effort: Settings, factor: float
) -> None:
    looser = replace(slo, itl_ms=slo.itl_ms * factor if slo.itl_ms else None, ttft_ms=None)
    assert_no_loss(doc, (slo, effort), (looser, effort))


@FEW
@given(documents(), slos, THROUGHPUT, st.integers(8, 80), st.integers(0, 60))
def test_more_memory_loses_at_most_the_min_gain(
    doc: MeasurementDocument, slo: Slo, effort: Settings, small: int, more: int
) -> None:
    less, much = (replace(effort, gpu_memory_bytes=gib * GIB) for gib in (small, small + more))
    assert_no_loss(doc, (slo, less), (slo, much))


def is_in_words_alone(check: Check) -> bool:
    """Passed, without a figure, for what one candidate is by itself."""
    return check.passed and check.name is not CheckName.RANK and not any(map(str.isdigit, check.because))


def assert_no_loss(doc: MeasurementDocument, tight: tuple[Slo, Settings], loose: tuple[Slo, Settings]) -> None:
    before, after = advise(doc, *tight), advise(doc, *loose)
    if not before.feasible:
        return
    assert after.feasible
    assert before.predicted
    assert after.predicted
    widest = max((p.throughput_ci_fraction or 0.041 for p in doc.points), default=0)
    gate = max(tight[1].min_gain, 2**0.5 * widest, 0.041)
    kept = after.predicted.throughput_tokens_per_second * (1 + gate)
    assert kept >= before.predicted.throughput_tokens_per_second * (1 - 1e-9)


@FEW
@given(documents(), slos, efforts, st.randoms(use_true_random=False))
def test_order_of_points_matters_only_among_repetitions(
    doc: MeasurementDocument, slo: Slo, effort: Settings, random: Random
) -> None:
    places = list(doc.points)
    random.shuffle(places)
    again = {what: iter([p for p in doc.points if Measurement.of(p) == what]) for what in map(Measurement.of, places)}
    shuffled = [next(again[Measurement.of(p)]) for p in places]
    assert advise(replace(doc, points=tuple(shuffled)), slo, effort) == advise(doc, slo, effort)


@FEW
@given(
    documents(),
    slos,
    efforts.filter(lambda s: s.objective is not Objective.ENERGY),
    st.sampled_from([None, 20, 64, 300]),
)
def test_every_rejected_candidate_failed_its_last_check_only(
    doc: MeasurementDocument, slo: Slo, effort: Settings, load: int | None
) -> None:
    advice = advise(doc, slo, replace(effort, concurrency=load))
    assert len(advice.candidates) == len(doc.points)
    for c in advice.candidates:
        failed = [check for check in c.checks if not check.passed]
        assert failed == ([c.checks[-1]] if c.verdict is Verdict.REJECTED else [])
        assert all(check.because for check in c.checks)
        assert all((check.value, check.limit) == (0, 0) for check in c.checks if is_in_words_alone(check))


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([0, 0, 1])), max_size=8))
def test_no_point_beats_the_pareto_frontier(figures: list[tuple[int, int, int]]) -> None:
    """Few values, so that many are equal. Points with an error are beside the question."""
    points = [point(8, output=100.0 * t, itl=float(itl), errors=errors) for t, itl, errors in figures]
    frontier = [(p.throughput_tokens_per_second, p.itl_ms.mean_ms) for p in pareto_frontier(points)]
    sound = {(200.0 * t, float(itl)) for t, itl, errors in figures if not errors}
    unbeaten = [(t, itl) for t, itl in sound if not any(u >= t and soon <= itl for u, soon in sound - {(t, itl)})]
    assert frontier == sorted(unbeaten, key=lambda f: f[1])


@FEW
@given(documents(), slos, efforts)
def test_an_advised_pack_was_measured_and_won(doc: MeasurementDocument, slo: Slo, effort: Settings) -> None:
    advice = advise(doc, slo, replace(effort, objective=Objective.THROUGHPUT))
    if advice.configuration.engines_per_gpu == 1:
        assert advice.configuration.sharing_mode is SharingMode.EXCLUSIVE
        return
    measured = next(c.point for c in advice.candidates if c.verdict is Verdict.CHOSEN)
    assert measured.confirmed
    assert not (measured.preemptions)
    assert not (measured.doubts)
    assert advice.gain is None or advice.gain >= effort.min_gain


@FEW
@given(documents(), slos, efforts, st.integers(2, 6))
def test_the_users_number_wins_or_does_not_fit(doc: MeasurementDocument, slo: Slo, effort: Settings, own: int) -> None:
    advice = advise(doc, slo, replace(effort, engines_per_gpu=own))
    assert advice.configuration.engines_per_gpu == own or (advice.closest and advice.closest.check == "Memory")
    if advice.feasible and advice.configuration.kv_cache_bytes is not None:
        assert doc.ledger
        assert own * (doc.ledger.fixed_bytes + advice.configuration.kv_cache_bytes) <= doc.ledger.device_bytes


@FEW
@given(documents(), slos, THROUGHPUT, st.one_of(st.none(), st.floats(0.01, 100)))
def test_cost_decides_as_throughput(doc: MeasurementDocument, slo: Slo, effort: Settings, price: float | None) -> None:
    priced = None if price is None else Price(per_gpu_hour=price, currency="EUR")
    by_cost = replace(effort, objective=Objective.COST, price=priced)
    fast, cheap = advise(doc, slo, effort), advise(doc, slo, by_cost)
    assert (cheap.configuration, cheap.candidates) == (fast.configuration, fast.candidates)


@FEW
@given(documents(), slos, efforts)
def test_no_objective_breaks_slo_or_gate(doc: MeasurementDocument, slo: Slo, effort: Settings) -> None:
    """What is served has passed every check, and a pack makes no less than the fastest single engine."""
    advice = advise(doc, slo, effort)
    (chosen,) = [c for c in advice.candidates if c.chosen] or [None]
    assert (chosen is not None) == advice.feasible
    if chosen is None:
        return
    assert all(check.passed for check in chosen.checks)
    best = fastest_single(doc, slo, effort.min_efficiency, advice)
    if best is not None and chosen.point.replicas > 1:
        least = 0.0 if effort.objective is Objective.FREE_MEMORY else effort.min_gain
        assert chosen.throughput >= best * (1 + least) * 0.999


@FEW
@given(documents(), slos, efforts)
def test_nothing_that_passed_takes_surely_less_energy(doc: MeasurementDocument, slo: Slo, effort: Settings) -> None:
    advice = advise(doc, slo, replace(effort, objective=Objective.ENERGY))
    (chosen,) = [c for c in advice.candidates if c.chosen] or [None]
    for other in advice.candidates if chosen is not None else ():
        if other.passed and chosen is not None:
            mine, theirs = chosen.figures.joules_per_token, other.figures.joules_per_token
            assert mine is not None
            assert theirs is None or mine <= theirs * (1 + chance_fraction(other, chosen)) * 1.001


@st.composite
def documents_of_some_watts(draw: st.DrawFn) -> MeasurementDocument:
    """Documents as they are imported: some points without watts, some with a count of energy, some without a window."""
    made = draw(documents())

    def known(one: Point) -> Point:
        return replace(
            one,
            mean_power_watts=draw(st.sampled_from([None, 0.0, one.mean_power_watts])),
            energy_joules=draw(st.sampled_from([None, None, 0.0, 3000.0])),
            window_seconds=draw(st.sampled_from([0.0, one.window_seconds])),
        )

    return replace(made, points=tuple(known(one) for one in made.points))


@FEW
@given(documents_of_some_watts(), slos, THROUGHPUT)
def test_energy_decides_among_what_has_it_or_not_at_all(doc: MeasurementDocument, slo: Slo, effort: Settings) -> None:
    """Whoever passed for the most tokens may be chosen for energy, if its energy was measured."""
    passed = [c for c in advise(doc, slo, effort).candidates if c.passed]
    known = [c.point for c in passed if c.figures.joules_per_token]
    by_energy = replace(effort, objective=Objective.ENERGY)
    if passed and not known:
        with pytest.raises(AdviceError, match="EnergyPerToken needs measured watts"):
            advise(doc, slo, by_energy)
        return
    chosen = [c for c in advise(doc, slo, by_energy).candidates if c.chosen]
    assert len(chosen) == bool(passed)
    assert all(one.point in known and all(check.passed for check in one.checks) for one in chosen)
