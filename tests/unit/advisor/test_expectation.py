"""What is expected at a load that nobody measured, and how much more fits: never a figure beyond what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_core.configuration import EngineConfiguration
from slm_core.measurements import Latency, Mark, Point, SharingMode
from slm_core.slo import Limits, Statistic
from slm_operator.advisor.expectation import Curve, Expectation, Reach, curve_of

from tests.builders import SINGLES, pack, point, published
from tests.builders.documents import MODELS
from tests.builders.points import A_MS, B_MS

NO_LIMIT = Limits()
SINGLE = EngineConfiguration(batch_size=128, max_num_batched_tokens=None)
PACK = replace(SINGLE, batch_size=64, engines_per_gpu=2, sharing_mode=SharingMode.MPS)


def curve(*points: Point, served: EngineConfiguration = SINGLE, limits: Limits = NO_LIMIT) -> Curve:
    found = curve_of(points or SINGLES, served, limits)
    assert found is not None
    return found


def at(found: Curve, in_flight: float) -> Expectation:
    expected = found.at(in_flight)
    assert expected is not None
    return expected


@pytest.mark.parametrize("in_flight", [1, 4, 17.5, 32, 90, 128])
def test_between_measured_loads_the_law_of_the_engine_holds(in_flight: float) -> None:
    expected = at(curve(), in_flight)
    assert expected.itl_ms == pytest.approx(A_MS + B_MS * in_flight)
    assert expected.output_tokens_per_second == pytest.approx(1000 * in_flight / (A_MS + B_MS * in_flight))
    assert expected.reach is Reach.MEASURED


@pytest.mark.parametrize("in_flight", [2, 4, 8, 16, 24, 48, 60])
def test_engine_that_first_waits_for_its_weights_is_known(in_flight: int) -> None:
    """As the real vLLM on two cores: up to five sequences a step takes as long as with one, then each takes its time."""

    def itl_ms(batch: int) -> float:
        return max(2.6, 1.9 + 0.15 * batch)

    expected = at(curve(*(point(batch, itl=itl_ms(batch)) for batch in (1, 32, 60))), in_flight)
    assert expected.itl_ms == pytest.approx(itl_ms(in_flight), rel=0.1)
    assert expected.output_tokens_per_second == pytest.approx(1000 * in_flight / itl_ms(in_flight), rel=0.1)


def test_no_more_is_said_to_fit_than_surely_does() -> None:
    """Half way between two lines is the best guess of a figure, and one of two that would break a limit."""
    flat_first = [point(batch, itl=max(2.6, 1.9 + 0.15 * batch)) for batch in (1, 32, 60)]
    limits = Limits(itl_ms=2.6 + 8.5 / 31 * (6.7 - 2.6))
    found = curve(*flat_first, limits=limits)
    assert at(found, 10).itl_ms < (limits.itl_ms or 0)
    assert found.fits(limits) == 9


def test_loads_close_to_each_other_do_not_bend_the_curve() -> None:
    """Noise between two of them is no law."""
    straight = [point(batch, itl=2 + batch / 10) for batch in (1, 32, 80)]
    noisy = point(33, itl=5.6)
    assert at(curve(*straight, noisy), 16).itl_ms == pytest.approx(3.6, rel=0.01)


def test_below_the_least_measured_load_there_are_bounds() -> None:
    found = curve(*SINGLES[1:])
    expected = at(found, 16)
    assert expected.reach is Reach.BOUND
    assert expected.output_tokens_per_second == pytest.approx(1000 * 16 / (A_MS + B_MS * 32))
    assert expected.itl_ms == A_MS + B_MS * 32


def test_beyond_full_batches_requests_wait_for_their_first_token() -> None:
    full = point(128, ttft_ms=Latency(mean_ms=200))
    expected, just_full = at(curve(SINGLES[0], full), 228), at(curve(SINGLES[0], full), 128)
    assert expected.reach is Reach.WAITING
    assert expected.throughput_tokens_per_second == just_full.throughput_tokens_per_second
    # A hundred more wait until a hundred requests of a hundred tokens have been answered.
    assert expected.ttft_ms == pytest.approx(200 + 1000 * 100 * 100 / full.output_tokens_per_second)


def test_beyond_what_was_measured_nothing_is_said() -> None:
    found = curve(*SINGLES[:3])
    assert found.at(65) is None
    assert found.at(64) is not None
    assert curve().at(0) is None


def test_doubted_points_and_other_packs_are_no_part_of_a_curve() -> None:
    doubted = point(64, itl=30.0, marks=(Mark.THROTTLED,))
    other = pack(32, 4), pack(64, 2, sharing_mode=SharingMode.TIME_SLICING)
    assert curve(*SINGLES, doubted, *other) == curve()
    assert curve_of((doubted, *other), SINGLE, NO_LIMIT) is None


def test_a_pack_has_the_points_of_its_kind() -> None:
    found = curve(*SINGLES, pack(64, 2), pack(64, 2, in_flight=32, output=4000), served=PACK)
    assert [knot.in_flight for knot in found.knots] == [32, 128]
    assert found.full == 128


@pytest.mark.parametrize("model", MODELS)
def test_published_engines_are_expected_within_a_tenth(model: str) -> None:
    """Of a search's few points: one, 32, and full batches; at 4, 16, and from a quarter of the batch to full."""
    measured = [p for p in published(model).points if p.is_trusted and p.batch_size <= 192]
    found = curve(*[p for p in measured if p.batch_size in (1, 32, 192)], served=replace(SINGLE, batch_size=192))
    for one in measured:
        expected = at(found, one.batch_size)
        assert expected.throughput_tokens_per_second == pytest.approx(one.throughput_tokens_per_second, rel=0.1)
        assert expected.itl_ms == pytest.approx(one.itl_ms.mean_ms, rel=0.1)


FITS: list[tuple[str, Limits, int | None]] = [
    ("no limit", Limits(), 128),
    ("an ITL of 10 ms", Limits(itl_ms=10.0), 60),
    ("an ITL that one sequence breaks", Limits(itl_ms=4.0), 0),
    ("a TTFT that was not measured", Limits(ttft_ms=100.0), None),
    ("a percentile without samples", Limits(itl_ms=10.0, itl_statistic=Statistic.P99), None),
    ("a limit that could not be computed", Limits(unresolved="B=32 was not measured"), None),
]


@pytest.mark.parametrize(("limits", "fits"), [c[1:] for c in FITS], ids=[c[0] for c in FITS])
def test_requests_that_fit_under(limits: Limits, fits: int | None) -> None:
    found = curve(limits=limits)
    assert found.fits(limits) == fits
    assert found.headroom(12.5, limits) == (None if fits is None else max(0, fits - 13))


def test_percentile_of_too_few_samples_is_no_worse_than_the_next() -> None:
    limits = Limits(itl_ms=20.0, itl_statistic=Statistic.P90)
    measured = [replace(p, itl_ms=replace(p.itl_ms, p90_ms=2 * p.itl_ms.mean_ms, samples=64)) for p in SINGLES[1:]]
    found = curve(SINGLES[0], *measured, limits=limits)
    assert found.fits(limits) == 60  # 2 x (4 ms + 0.1 ms x 60)
    assert curve(*measured[:2], SINGLES[3], limits=limits).fits(limits) == 60
    assert curve(SINGLES[0], measured[0], SINGLES[3], limits=limits).fits(limits) == 32


@st.composite
def measured_points(draw: st.DrawFn) -> list[Point]:
    def one(batch: int) -> Point:
        ttft = draw(st.one_of(st.none(), st.floats(1, 5000).map(lambda ms: Latency(mean_ms=ms))))
        return point(batch, itl=draw(st.floats(0.5, 500)), ttft_ms=ttft)

    return [
        one(batch) for batch in draw(st.lists(st.sampled_from((1, 2, 8, 32, 64, 128, 256)), unique=True, min_size=1))
    ]


loads = st.floats(0.01, 1000)


@given(measured_points(), loads, loads)
def test_more_requests_never_bring_less_nor_wait_less(points: list[Point], one: float, other: float) -> None:
    found = curve(*points)
    few, many = found.at(min(one, other)), found.at(max(one, other))
    if few is None or many is None:
        return
    almost = 1 - 1e-9
    assert many.throughput_tokens_per_second >= few.throughput_tokens_per_second * almost
    assert many.output_tokens_per_second >= few.output_tokens_per_second * almost
    assert many.itl_ms >= few.itl_ms * almost
    if few.ttft_ms is not None and many.ttft_ms is not None:
        assert many.ttft_ms >= few.ttft_ms * almost


@given(measured_points(), loads)
def test_expected_figures_stay_within_the_measured_ones(points: list[Point], in_flight: float) -> None:
    found = curve(*points).at(in_flight)
    if found is None or found.reach is not Reach.MEASURED:
        return
    rates = [p.throughput_tokens_per_second for p in points]
    itls = [p.itl_ms.mean_ms for p in points]
    assert min(rates) * 0.999 <= found.throughput_tokens_per_second <= max(rates) * 1.001
    assert min(itls) * 0.999 <= found.itl_ms <= max(itls) * 1.001


@given(measured_points(), loads, st.floats(0.5, 500))
def test_what_fits_keeps_the_limit_and_one_more_does_not(
    points: list[Point], in_flight: float, limit_ms: float
) -> None:
    limits = Limits(itl_ms=limit_ms)
    found = curve(*points, limits=limits)
    fits = found.fits(limits)
    assert fits is not None
    assert fits <= found.full
    if fits:
        assert at(found, fits).itl_ms <= limit_ms
    more = found.at(fits + 1)
    assert fits == found.full or more is None or more.itl_ms > limit_ms
    assert found.headroom(in_flight, limits) == max(0, fits - -int(-in_flight // 1))
