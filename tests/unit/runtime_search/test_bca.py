from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_core import batching
from slm_core.batching import CheckName
from slm_core.measurements import Latency, Mark, Point
from slm_core.slo import Limits, Slo, resolve
from unit.runtime_search import published
from unit.runtime_search.points import point

EPSILON = 0.1

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
    points = published.sweep(model).points
    result = batching.choose(points, resolve(Slo(itl_factor=itl_factor), points), EPSILON)
    assert result.chosen is not None
    assert result.chosen.point.batch_size == batch_size
    assert result.closest is None


def test_the_published_knee_needs_a_small_part_of_the_pool() -> None:
    points = published.sweep("opt-1.3b").points
    chosen = batching.choose(points, resolve(Slo(itl_factor=2), points), EPSILON).chosen
    assert chosen is not None
    assert batching.kv_bytes(chosen.point) == pytest.approx(0.1598 * 54.48e9 / 0.92, rel=1e-6)


@pytest.mark.parametrize(
    ("of", "check", "because"),
    [
        (point(64, 12), CheckName.ITL, "mean ITL 12.0 ms exceeds 11.0 ms"),
        (point(64, 9, preemptions=3, marks=(Mark.PREEMPTED,)), CheckName.TRUSTED, "3 preemptions"),
        (point(64, 9, errors=2), CheckName.TRUSTED, "2 failed requests"),
        (point(64, 9, marks=(Mark.LITTLES_LAW,)), CheckName.TRUSTED, "marked LittlesLaw"),
        (
            point(1024, 10.9, throughput_tokens_per_second=1e4),
            CheckName.EFFICIENCY,
            "batching efficiency 0.049 is not above 0.1",
        ),
        (point(64, 9, ttft_ms=Latency(mean_ms=60)), CheckName.TTFT, "mean TTFT 60.0 ms exceeds 50.0 ms"),
        (point(64, 9, ttft_ms=None), CheckName.TTFT, "mean TTFT not known: 0 samples do not support it (1 needed)"),
    ],
)
def test_why_a_point_is_not_chosen(of: Point, check: CheckName, because: str) -> None:
    ttft = {"ttft_ms": Latency(mean_ms=10)}
    result = batching.choose([point(1, 10, **ttft), of], Limits(itl_ms=11, ttft_ms=50), EPSILON)
    assert result.chosen is not None
    assert result.chosen.point.batch_size == 1
    failed = [c for c in result.candidates[-1].checks if not c.passed]
    assert (check, because) in [(c.name, c.because) for c in failed]


def test_an_impossible_slo_yields_the_closest_trusted_point() -> None:
    points = [point(1, 5), point(32, 8), point(64, 4, errors=1)]
    result = batching.choose(points, Limits(itl_ms=1), EPSILON)
    assert result.chosen is None
    assert result.closest is not None
    assert result.closest.point.batch_size == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_confirmation_supersedes_the_sweep(order: int) -> None:
    twice = [point(64, 9), point(64, 12, confirmed=True)][::order]
    chosen = batching.choose([point(1, 5), *twice], Limits(itl_ms=10), EPSILON).chosen
    assert chosen is not None
    assert chosen.point.batch_size == (1 if order == 1 else 64)


def test_without_b_1_the_fit_says_what_it_would_give() -> None:
    result = batching.choose([point(32, 8.2), point(64, 11.4)], Limits(), EPSILON)
    assert result.single_sequence_tokens_per_second == pytest.approx(2 * 1000 / 5.1)
    assert result.single_sequence_source == "fitted (B=1 was not measured)"


def test_without_any_t1_nothing_is_efficient() -> None:
    result = batching.choose([point(32, 8)], Limits(), EPSILON)
    assert result.chosen is None
    assert result.candidates[0].unknown


@pytest.mark.parametrize(
    ("of", "floor_bytes", "expected"),
    [
        pytest.param(point(8, kv_peak_fraction=0.46), 0, 500_000_000, id="peak over 92 %"),
        pytest.param(point(8, kv_peak_fraction=0.46), 600_000_000, 600_000_000, id="at least one longest sequence"),
        pytest.param(point(8, kv_peak_fraction=0.9, confirmed=True), 0, 10**9, id="confirmed within bounds: as it was"),
        pytest.param(point(8, kv_peak_fraction=0.46, confirmed=True), 0, 500_000_000, id="confirmed but wasteful"),
        pytest.param(point(8, kv_pool_bytes=None), 0, None, id="pool not known"),
    ],
)
def test_kv_bytes(of: Point, floor_bytes: int, expected: int | None) -> None:
    assert batching.kv_bytes(of, floor_bytes=floor_bytes) == expected


@given(
    a=st.floats(0.5, 20),
    b=st.floats(0.001, 0.5),
    sizes=st.lists(st.integers(1, 512), min_size=2, max_size=10, unique=True),
    limit_ms=st.floats(1, 100),
    epsilon=st.floats(0.0, 0.5),
)
def test_the_choice_is_feasible_and_no_feasible_point_is_faster(
    a: float, b: float, sizes: list[int], limit_ms: float, epsilon: float
) -> None:
    result = batching.choose([point(size, a + b * size) for size in sizes], Limits(itl_ms=limit_ms), epsilon)
    feasible = [c for c in result.candidates if c.feasible]
    assert len(result.candidates) == len(sizes)
    if result.chosen is None:
        assert not feasible
        assert result.closest is not None
    else:
        assert result.chosen.point.itl_ms.mean_ms <= limit_ms
        rates = [c.point.throughput_tokens_per_second for c in feasible]
        assert result.chosen.point.throughput_tokens_per_second == max(rates)
