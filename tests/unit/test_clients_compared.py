"""What other clients' files say is read as they mean it, and held against the profiler by the product's own measure."""

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from slm_core.codec import DocumentError
from slm_core.noise import UNREPEATED_FRACTION

from benchmarks.clients.compared import Figures, differences, interval, of_points, of_result, table

RESULTS = Path(__file__).parents[1] / "data" / "results"


def point(rate: float = 600.0, itl_ms: float = 12.0, ttft_ms: float = 30.0, ci: float | None = 0.01) -> dict[str, Any]:
    latencies = {"itlMs": {"meanMs": itl_ms, "p50Ms": 0.0}, "ttftMs": {"meanMs": 0.0, "p50Ms": ttft_ms}}
    return {"outputTokensPerSecond": rate, "throughputCiFraction": ci, **latencies}


def test_a_clients_file_is_read_as_the_product_reads_it() -> None:
    found = of_result("guidellm.json", json.loads((RESULTS / "guidellm.json").read_text()))
    assert astuple(found) == pytest.approx((659.196, 11.546, 23.752), rel=1e-4)


def test_a_result_without_full_batches_is_refused() -> None:
    with pytest.raises(DocumentError, match="no rate"):
        of_result("rate.json", json.loads((RESULTS / "vllm-bench-rate.json").read_text()))


def test_the_profilers_figures_are_the_mean_of_its_points() -> None:
    assert of_points([point(590, 11, 20), point(610, 13, 40)]) == Figures(600, 12, 30)


def test_interval_is_at_least_what_single_runs_differ_by() -> None:
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


def test_doubted_profiler_point_agrees_with_no_client() -> None:
    seen = {"one": {"output_tokens_per_second": 600.0, "itl_ms": 12.0, "ttft_ms": 30.0}}
    doubted = point() | {"marks": ["LittlesLaw"]}
    record = {"loads": [{"engine": "light", "batch_size": 8, "points": [point(), doubted], "clients": seen}]}
    assert table(record).endswith("| not known: the profiler's own points are marked LittlesLaw |")
