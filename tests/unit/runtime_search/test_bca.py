from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_core import batching
from slm_core.candidates import CheckName
from slm_core.measurements import Latency, Mark, Point
from slm_core.noise import UNREPEATED_FRACTION
from slm_core.slo import Limits, Slo, Statistic
from slm_core.slo_check import resolve

from tests import builders as build
from tests.builders import point

EPSILON = 0.1


def once(batch: int, itl_ms: float) -> Point:
    """A point whose window nobody repeated."""
    return point(batch, itl_ms, throughput_ci_fraction=None)


def sampled(p99_ms: float) -> Latency:
    """Enough samples for every percentile."""
    return Latency(mean_ms=p99_ms / 2, p99_ms=p99_ms, samples=500)


PUBLISHED_ANSWERS = [
    ("opt-1.3b", 2, 96),
    ("opt-1.3b", 3, 128),
    ("opt-1.3b", 4, 256),
    ("opt-2.7b", 2, 96),
    ("opt-2.7b", 3, 128),
    ("opt-2.7b", 4, 256),
    ("llama-2-7b", 2, 96),
    ("llama-2-7b", 3, 192),
    ("llama-2-7b", 4, 192),
]


@pytest.mark.parametrize(("model", "itl_factor", "batch_size"), PUBLISHED_ANSWERS)
def test_the_published_answers(model: str, itl_factor: float, batch_size: int) -> None:
    points = build.published(model).points
    result = batching.choose(points, resolve(Slo(itl_factor=itl_factor), points), EPSILON)
    assert result.chosen is not None
    assert result.chosen.point.batch_size == batch_size


def test_the_published_knee_needs_a_small_part_of_the_pool() -> None:
    points = build.published("opt-1.3b").points
    chosen = batching.choose(points, resolve(Slo(itl_factor=2), points), EPSILON).chosen
    assert chosen is not None
    assert batching.kv_bytes(chosen.point) == pytest.approx(0.1598 * 54.48e9 / 0.92, rel=1e-6)


@pytest.mark.parametrize(
    ("of", "check", "because"),
    [
        (point(64, 12, ttft_ms=Latency(mean_ms=10)), CheckName.SLO, "mean ITL 12.0 ms exceeds 11.0 ms"),
        (
            point(64, 9, preemptions=3, marks=(Mark.PREEMPTED,)),
            CheckName.PREEMPTION,
            "3 preemptions: its KV pool is too small for this batch",
        ),
        (point(64, 9, errors=2), CheckName.TRUSTED, "not to be trusted: 2 requests failed"),
        (
            point(64, 9, marks=(Mark.LITTLES_LAW,)),
            CheckName.TRUSTED,
            "not to be trusted: throughput, ITL and running sequences contradict each other",
        ),
        (
            point(1024, 10.9, throughput_tokens_per_second=1e4, ttft_ms=Latency(mean_ms=10)),
            CheckName.EFFICIENCY,
            "batching efficiency 0.049 is not above 0.1: so large a batch buys too little",
        ),
        (point(64, 9, ttft_ms=Latency(mean_ms=60)), CheckName.SLO, "mean TTFT 60.0 ms exceeds 50.0 ms"),
        (point(64, 9, ttft_ms=None), CheckName.SLO, "mean TTFT not known: 0 samples do not support it (1 needed)"),
    ],
)
def test_why_a_point_is_not_chosen(of: Point, check: CheckName, because: str) -> None:
    ttft = {"ttft_ms": Latency(mean_ms=10)}
    result = batching.choose([point(1, 10, **ttft), of], Limits(itl_ms=11, ttft_ms=50), EPSILON)
    assert result.chosen is not None
    assert result.chosen.point.batch_size == 1
    found = result.candidates[-1]
    assert (found.passed, found.last.name, found.because) == (False, check, because)


@pytest.mark.parametrize(
    ("first", "again", "chosen"),
    [
        pytest.param(point(64, 9), point(64, 12), 1, id="the later decides"),
        pytest.param(point(64, 12), point(64, 9), 64, id="the later decides, for the better too"),
        pytest.param(point(64, 9), point(64, 12, confirmed=True), 1, id="a confirmation supersedes the sweep"),
        pytest.param(point(64, 12, confirmed=True), point(64, 9), 1, id="nothing unconfirmed supersedes it"),
    ],
)
def test_later_or_confirmed_measurement_decides(first: Point, again: Point, chosen: int) -> None:
    found = batching.choose([point(1, 5), first, again], Limits(itl_ms=10), EPSILON).chosen
    assert found is not None
    assert found.point.batch_size == chosen


def test_missing_b_1_is_taken_from_the_fit() -> None:
    rate, source = batching.single_sequence_tokens_per_second([point(32, 8.2), point(64, 11.4)])
    assert rate == pytest.approx(2 * 1000 / 5.1)
    assert source == "fitted (B=1 was not measured)"


def test_no_batch_is_efficient_without_b_1() -> None:
    result = batching.choose([point(32, 8)], Limits(), EPSILON)
    assert result.chosen is None
    assert result.candidates[0].because == "T(1) is not known, so no efficiency can be judged: measure B=1 again"


P99 = Limits(itl_ms=11, ttft_ms=50, itl_statistic=Statistic.P99, ttft_statistic=Statistic.P99)


@pytest.mark.parametrize(
    ("of", "is_undecided"),
    [
        pytest.param(point(64, 9, ttft_ms=Latency(mean_ms=10)), True, id="too few samples for either"),
        pytest.param(replace(point(64), itl_ms=sampled(10), ttft_ms=None), True, id="TTFT not known, ITL kept"),
        pytest.param(replace(point(64), itl_ms=sampled(12), ttft_ms=None), False, id="TTFT not known, ITL missed"),
        pytest.param(replace(point(64), itl_ms=sampled(10), ttft_ms=sampled(40)), False, id="it passes"),
        pytest.param(point(64, 9, errors=1), False, id="not to be trusted, whatever it took"),
        pytest.param(point(1024, 9, throughput_tokens_per_second=1e4), False, id="not efficient, whatever it took"),
    ],
)
def test_point_failing_for_lack_of_figures_is_undecided(of: Point, is_undecided: bool) -> None:  # noqa: FBT001
    rules = batching.choose([point(1, 5)], P99, EPSILON).rules
    assert rules.is_undecided(of) == is_undecided


@pytest.mark.parametrize(
    ("of", "is_near"),
    [
        (point(64, 11.9), True),
        (point(64, 12.2), False),
        (point(64, 11.9, ttft_ms=Latency(mean_ms=54)), True),
        (point(64, 11.9, ttft_ms=Latency(mean_ms=56)), False),
        (point(64, 9, errors=1), False),
        (point(1024, 9, throughput_tokens_per_second=1.9e4), True),
        (point(1024, 9, throughput_tokens_per_second=1.8e4), False),
    ],
)
def test_point_is_near_if_it_passes_with_moved_limits(of: Point, is_near: bool) -> None:  # noqa: FBT001
    rules = batching.choose([point(1, 10)], Limits(itl_ms=11, ttft_ms=50), EPSILON).rules
    given = of if of.ttft_ms else replace(of, ttft_ms=Latency(mean_ms=10))
    assert rules.is_near(given, 0.1) == is_near


@pytest.mark.parametrize(
    ("of", "floor_bytes", "expected"),
    [
        pytest.param(point(8, kv_pool_bytes=10**9, kv_peak_fraction=0.46), 0, 500_000_000, id="peak over 92 %"),
        pytest.param(
            point(8, kv_pool_bytes=10**9, kv_peak_fraction=0.46),
            600_000_000,
            600_000_000,
            id="at least one longest sequence",
        ),
        pytest.param(
            point(8, kv_pool_bytes=10**9, kv_peak_fraction=0.9, confirmed=True),
            0,
            10**9,
            id="confirmed within bounds: as it was",
        ),
        pytest.param(
            point(8, kv_pool_bytes=10**9, kv_peak_fraction=0.46, confirmed=True),
            0,
            500_000_000,
            id="confirmed but wasteful",
        ),
        pytest.param(point(8, kv_pool_bytes=None), 0, None, id="pool not known"),
    ],
)
def test_kv_bytes_of_a_point(of: Point, floor_bytes: int, expected: int | None) -> None:
    assert batching.kv_bytes(of, floor_bytes=floor_bytes) == expected


@given(
    a=st.floats(0.5, 20),
    b=st.floats(0.001, 0.5),
    sizes=st.lists(st.integers(1, 512), min_size=2, max_size=10, unique=True),
    limit_ms=st.floats(1, 100),
    epsilon=st.floats(0.0, 0.5),
)
def test_choice_is_feasible_and_fastest_within_chance(
    a: float, b: float, sizes: list[int], limit_ms: float, epsilon: float
) -> None:
    result = batching.choose([once(size, a + b * size) for size in sizes], Limits(itl_ms=limit_ms), epsilon)
    feasible = [c for c in result.candidates if c.passed]
    assert len(result.candidates) == len(sizes)
    if result.chosen is None:
        assert not feasible
    else:
        assert result.chosen.point.itl_ms.mean_ms <= limit_ms
        assert result.fastest is not None
        rates = [c.point.throughput_tokens_per_second for c in feasible]
        assert result.fastest.point.throughput_tokens_per_second == max(rates)
        alike = [c.point for c in feasible if max(rates) / c.throughput - 1 <= UNREPEATED_FRACTION]
        assert result.chosen.point.batch_size == min(p.batch_size for p in alike)
