from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_core.latency_model import fit_line, fit_points, sweep_of
from slm_core.measurements import Mark, Point

from tests import builders as build
from tests.builders import point

SIZES = st.lists(st.integers(1, 1024), min_size=2, max_size=8, unique=True)


@given(a=st.floats(0.1, 50), b=st.floats(0, 1), sizes=SIZES, at=st.integers(1, 2048))
def test_a_perfect_line_is_recovered(a: float, b: float, sizes: list[int], at: int) -> None:
    fit = fit_points([point(size, a + b * size) for size in sizes])
    assert fit is not None
    predicted = fit.predict(at)
    assert predicted.itl_ms == pytest.approx(a + b * at, rel=1e-6)
    assert predicted.output_tokens_per_second == pytest.approx(1000 * at / (a + b * at), rel=1e-6)
    assert predicted.throughput_tokens_per_second == pytest.approx(2 * predicted.output_tokens_per_second)
    assert fit.noise_fraction < 1e-6


@given(
    points=st.lists(
        st.tuples(st.integers(1, 512), st.floats(0.1, 100)), min_size=2, max_size=6, unique_by=lambda p: p[0]
    )
)
def test_fitted_step_time_is_positive_and_never_falls(
    points: list[tuple[int, float]],
) -> None:
    fit = fit_points([point(size, itl_ms) for size, itl_ms in points])
    assert fit is not None
    for line in (fit.itl, fit.turn):
        assert line.intercept >= 0
        assert line.slope >= 0
        assert line.at(1) > 0


def test_near_points_with_narrow_intervals_weigh_more() -> None:
    wide, narrow = {"throughput_ci_fraction": 0.4}, {"throughput_ci_fraction": 0.0}
    fit = fit_points([point(1, 5, **narrow), point(100, 15, **narrow), point(50, 20, **wide)])
    assert fit is not None
    assert fit.predict(50).itl_ms == pytest.approx(10.0, rel=0.05)


@pytest.mark.parametrize(
    ("of", "kept"),
    [
        (point(8), True),
        (point(8, in_flight=8), True),
        (point(8, in_flight=4), False),
        (point(8, replicas=2), False),
        (point(8, marks=(Mark.THROTTLED,)), False),
        (point(8, preemptions=1), False),
        (point(8, errors=1), False),
        (point(8, max_num_batched_tokens=512), False),
    ],
)
def test_the_sweep_is_one_clean_engine_with_full_batches(*, of: Point, kept: bool) -> None:
    assert (of in sweep_of([point(1), of])) == kept


def test_one_batch_size_is_no_line() -> None:
    assert fit_points([point(8), point(8, 11)]) is None


def test_a_flat_line_never_reaches_a_value_above_it() -> None:
    line = fit_line([1, 10], [5, 5], [0.01, 0.01])
    assert (line.inverse(4), line.inverse(6)) == (-math.inf, math.inf)


@pytest.mark.parametrize("model", build.MODELS)
def test_a_few_published_points_predict_the_others(model: str) -> None:
    points = [p for p in build.published(model).points if not p.marks]
    used = (1, 32, 128)
    fit = fit_points(p for p in points if p.batch_size in used)
    assert fit is not None
    errors = [
        abs(fit.predict(p.batch_size).throughput_tokens_per_second / p.throughput_tokens_per_second - 1)
        for p in points
        if p.batch_size not in used
    ]
    assert sum(errors) / len(errors) <= 0.04
    assert max(errors) <= 0.10
