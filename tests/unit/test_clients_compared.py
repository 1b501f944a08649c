"""What other clients' files say is read as they mean it, and held against the profiler by the product's own measure."""

from typing import Any

import pytest
from slm_core.noise import UNREPEATED_FRACTION

from benchmarks.clients_compared import Figures, differences, interval, of_aiperf, of_guidellm, of_points, table

AIPERF = {
    "output_token_throughput": {"unit": "tokens/sec", "avg": 625.0},
    "inter_token_latency": {"unit": "ms", "avg": 11.6, "p50": 11.5},
    "time_to_first_token": {"unit": "ms", "avg": 48.3, "p50": 34.4},
}
GUIDELLM_METRICS = {
    "output_tokens_per_second": {"mean": 659.2, "median": 265.5},
    "inter_token_latency_ms": {"mean": 11.5, "median": 11.6},
    "time_to_first_token_ms": {"mean": 24.8, "median": 23.8},
    "time_per_output_token_ms": {"mean": 11.8, "median": 11.8},
    "text": {"tokens": {}},
}
GUIDELLM = {"benchmarks": [{"metrics": {n: {"successful": v} for n, v in GUIDELLM_METRICS.items()}}]}


def point(rate: float = 600.0, itl_ms: float = 12.0, ttft_ms: float = 30.0, ci: float | None = 0.01) -> dict[str, Any]:
    latencies = {"itlMs": {"meanMs": itl_ms, "p50Ms": 0.0}, "ttftMs": {"meanMs": 0.0, "p50Ms": ttft_ms}}
    return {"outputTokensPerSecond": rate, "throughputCiFraction": ci, **latencies}


def test_each_client_is_read_by_its_own_names() -> None:
    assert of_aiperf(AIPERF) == Figures(625.0, 11.6, 34.4)
    assert of_guidellm(GUIDELLM) == Figures(659.2, 11.5, 23.8)


def test_the_profilers_figures_are_the_mean_of_its_points() -> None:
    assert of_points([point(590, 11, 20), point(610, 13, 40)]) == Figures(600, 12, 30)


def test_an_interval_is_never_less_than_what_single_runs_differ_by() -> None:
    assert interval([point(), point()]) == Figures(*[UNREPEATED_FRACTION] * 3)


@pytest.mark.parametrize(("points", "allowed"), [([point(ci=0.2)], 0.2), ([point(540), point(660)], 0.1)])
def test_an_interval_grows_with_the_points_own(points: list[dict[str, Any]], allowed: float) -> None:
    assert interval(points).output_tokens_per_second == pytest.approx(allowed)


def test_a_table_says_which_figures_agree() -> None:
    seen = {"one": {"output_tokens_per_second": 606.0, "itl_ms": 12.1, "ttft_ms": 60.0}}
    assert differences([point()], Figures(**seen["one"])).ttft_ms == pytest.approx(1.0)
    record = {"loads": [{"engine": "light", "batch_size": 8, "points": [point()], "clients": seen}]}
    row = "| light | 8 | 600, 12.0 ms, 30 ms | one | +1.0% (±4.1%) | +0.8% (±4.1%) | +100.0% (±4.1%) | tok/s, ITL |"
    assert table(record).splitlines()[-1] == row


def test_nothing_is_said_to_agree_where_the_profiler_doubts_itself() -> None:
    seen = {"one": {"output_tokens_per_second": 600.0, "itl_ms": 12.0, "ttft_ms": 30.0}}
    doubted = point() | {"marks": ["LittlesLaw"]}
    record = {"loads": [{"engine": "light", "batch_size": 8, "points": [point(), doubted], "clients": seen}]}
    assert table(record).endswith("| not known: the profiler's own points are marked LittlesLaw |")
