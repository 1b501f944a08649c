from __future__ import annotations

from dataclasses import replace

import pytest
from slm_core.measurements import Latency, Mark
from slm_core.slo import TTFT, Limits, Slo, Statistic
from slm_core.slo_check import resolve, slo_misses

from tests.builders import point

SWEEP = (point(1, 5), point(32, 8), point(64, 11))


@pytest.mark.parametrize(
    ("slo", "points", "limit_ms", "source"),
    [
        pytest.param(Slo(), SWEEP, None, "", id="no limit"),
        pytest.param(Slo(itl_ms=20), SWEEP, 20, "as asked", id="absolute"),
        pytest.param(Slo(itl_ms=20, itl_factor=2), SWEEP, 20, "as asked", id="absolute wins over the factor"),
        pytest.param(Slo(itl_factor=2), SWEEP, 16, "2 x 8.00 ms, the mean ITL measured at B=32", id="factor"),
        pytest.param(
            Slo(itl_factor=2),
            (point(1, 5.1), point(64, 11.4)),
            16.4,
            "2 x 8.20 ms, the mean ITL fitted (32 was not measured) at B=32",
            id="factor of the fit",
        ),
    ],
)
def test_the_itl_limit(slo: Slo, points: tuple, limit_ms: float | None, source: str) -> None:
    assert resolve(slo, points).itl_ms == (None if limit_ms is None else pytest.approx(limit_ms))
    assert resolve(slo, points).itl_source == source


@pytest.mark.parametrize(
    "points",
    [
        pytest.param((), id="nothing measured"),
        pytest.param((point(16),), id="one point is no line"),
        pytest.param((point(32, preemptions=1, marks=(Mark.PREEMPTED,)), point(1)), id="B=32 preempted"),
        pytest.param((point(32, replicas=2), point(1)), id="B=32 is a pack's"),
    ],
)
def test_a_factor_that_cannot_be_resolved_is_kept_by_nothing(points: tuple) -> None:
    limits = resolve(Slo(itl_factor=2), points)
    assert limits.itl_ms is None
    assert limits.unresolved == "2 x ITL at B=32: measure one engine at B=32, or at two other batch sizes"
    (miss,) = slo_misses(point(1, 1), limits)
    assert miss.unknown


@pytest.mark.parametrize(
    ("percentile", "latency", "sentence"),
    [
        (Statistic.MEAN, Latency(mean_ms=10), None),
        (Statistic.MEAN, Latency(mean_ms=12.34), "mean ITL 12.3 ms exceeds 12.0 ms"),
        (Statistic.P50, Latency(mean_ms=20, p50_ms=11, samples=7), None),
        (
            Statistic.P50,
            Latency(mean_ms=1, p50_ms=1, samples=6),
            "p50 ITL not known: 6 samples do not support it (7 needed)",
        ),
        (Statistic.P90, Latency(mean_ms=1, p90_ms=13, samples=64), "p90 ITL 13.0 ms exceeds 12.0 ms"),
        (
            Statistic.P99,
            Latency(mean_ms=1, p99_ms=1, samples=458),
            "p99 ITL not known: 458 samples do not support it (459 needed)",
        ),
        (
            Statistic.P99,
            Latency(mean_ms=1, samples=1000),
            "p99 ITL not known: it was not recorded",
        ),
    ],
)
def test_point_misses_limits(percentile: Statistic, latency: Latency, sentence: str | None) -> None:
    misses = slo_misses(replace(point(8), itl_ms=latency), Limits(itl_ms=12, itl_statistic=percentile))
    assert [m.because for m in misses] == ([sentence] if sentence else [])
    assert all(m.unknown == ("not known" in m.because) for m in misses)


def test_ttft_has_its_own_limit_and_is_unknown_unsampled() -> None:
    limits = Limits(ttft_ms=50)
    assert slo_misses(point(8, ttft_ms=Latency(mean_ms=49)), limits) == ()
    (late,) = slo_misses(point(8, ttft_ms=Latency(mean_ms=51)), limits)
    assert (late.what, late.measured_ms, late.limit_ms) == (TTFT, 51, 50)
    (unknown,) = slo_misses(point(8), limits)
    assert unknown.unknown
