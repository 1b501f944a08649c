"""Result files of other benchmarks, as the tools wrote them, become documents of what a client saw and nothing else."""

from __future__ import annotations

import copy
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from slm_core.codec import DocumentError, parse_document, to_json
from slm_core.measurements import Mark
from slm_core.results.registry import from_results, tool_of
from slm_core.results.run import Fields

DATA = Path(__file__).parents[2] / "data/results"


@cache
def raw(name: str) -> Any:
    """NB: one for all, to be copied before it is changed."""
    return json.loads((DATA / f"{name}.json").read_text())


def changed(name: str, *path: str | int, to: Any) -> Any:
    """A file with another value at a path."""
    return replaced(raw(name), path, to)


def replaced(value: Any, path: tuple[str | int, ...], to: Any) -> Any:
    if not path:
        return to
    made = copy.copy(value)
    made[path[0]] = replaced(value[path[0]] if path[1:] else None, path[1:], to)
    return made


FIGURES: dict[str, tuple[int, float, float, float, float]] = {
    # B, tokens and output tokens per second as the tool itself has them, ITL and TTFT in ms.
    "vllm-bench-c1": (1, 429.231, 98.032, 10.071, 15.909),
    "vllm-bench-c16": (16, 5959.327, 1361.686, 10.891, 46.051),
    "vllm-bench-c32": (32, 9977.0, 2280.5, 11.6, 0),
    "guidellm": (8, 2317.484, 659.196, 11.546, 24.841),
    "aiperf": (8, 2202.4, 626.5, 11.591, 48.312),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_figures_are_those_of_the_tool(name: str) -> None:
    document, left_out = from_results([(name, raw(name))])
    (point,) = document.points
    batch, all_tokens, output, itl, ttft = FIGURES[name]
    assert left_out == ()
    assert (point.batch_size, point.replicas, point.marks) == (batch, 1, ())
    assert point.throughput_tokens_per_second == pytest.approx(all_tokens, rel=1e-3)
    assert point.output_tokens_per_second == pytest.approx(output, rel=1e-3)
    assert point.itl_ms.mean_ms == pytest.approx(itl, rel=1e-2)
    assert point.ttft_ms is not None
    assert not ttft or point.ttft_ms.mean_ms == pytest.approx(ttft, rel=1e-3)
    assert point.mean_running == pytest.approx(batch, rel=0.1)


def test_figure_that_a_client_does_not_see_is_unknown() -> None:
    document, _ = from_results([("a.json", raw("aiperf"))])
    (point,) = document.points
    assert (document.gpu.product, document.gpu.memory_bytes, document.engine.version) == ("unknown", 0, "unknown")
    assert document.ledger is None
    assert (point.kv_pool_bytes, point.kv_peak_fraction, point.confirmed) == (None, 0, False)
    assert document.provenance == "a.json (AIPerf)"
    assert parse_document(json.loads(json.dumps(to_json(document)))) == document


def test_percentiles_need_their_samples() -> None:
    few = from_results([("v", raw("vllm-bench-c16"))])[0].points[0].itl_ms
    many = from_results([("v", changed("vllm-bench-c16", "completed", to=500))])[0].points[0].itl_ms
    assert (few.samples, few.p50_ms, few.p99_ms) == (160, pytest.approx(10.864, abs=1e-3), None)
    assert many.p99_ms == pytest.approx(11.627, abs=1e-3)
    assert many.p90_ms is None, "the file has none"


def test_percentiles_are_those_of_the_other_tools_too() -> None:
    aiperf, guidellm = raw("aiperf"), raw("guidellm")["benchmarks"][0]["metrics"]
    seen = {
        "aiperf": (aiperf["inter_token_latency"]["p50"], aiperf["time_to_first_token"]["p50"]),
        "guidellm": tuple(
            guidellm[name]["successful"]["percentiles"]["p50"]
            for name in ("inter_token_latency_ms", "time_to_first_token_ms")
        ),
    }
    for name, medians in seen.items():
        (point,) = from_results([(name, raw(name))])[0].points
        assert point.ttft_ms is not None
        assert (point.itl_ms.p50_ms, point.ttft_ms.p50_ms) == pytest.approx(medians)


ERRORS = {
    "vllm bench": changed("vllm-bench-c16", "failed", to=3),
    "GuideLLM": changed("guidellm", "benchmarks", 0, "metrics", "request_totals", "errored", to=3),
    "AIPerf": raw("aiperf") | {"error_request_count": {"unit": "requests", "avg": 3.0}},
}


@pytest.mark.parametrize("case", ERRORS)
def test_failed_requests_are_a_doubt(case: str) -> None:
    (point,) = from_results([("f", ERRORS[case])])[0].points
    assert (point.errors, point.marks, point.is_trusted) == (3, (Mark.ERRORS,), False)


def test_several_files_are_points_of_one_document() -> None:
    files = [(name, raw(f"vllm-bench-{name}")) for name in ("c32", "c1", "rate", "c16")]
    document, left_out = from_results(files)
    assert [point.batch_size for point in document.points] == [1, 16, 32]
    assert [one.at for one in left_out] == ["rate"]
    assert document.provenance == "c32, c1, rate, c16 (vllm bench serve)"


def test_mean_lengths_of_a_document_are_those_of_its_requests() -> None:
    one, more = raw("vllm-bench-c1"), raw("vllm-bench-c16")
    longer = changed("vllm-bench-c16", "total_input_tokens", to=round(more["total_input_tokens"] * 1.05))
    document, _ = from_results([("a", one), ("b", longer)])
    tokens = one["total_input_tokens"] + longer["total_input_tokens"]
    assert document.workload.input_tokens_mean == pytest.approx(tokens / (one["completed"] + more["completed"]))


def test_report_of_several_strategies_gives_those_with_a_batch() -> None:
    report = copy.deepcopy(raw("guidellm"))
    (concurrent,) = report["benchmarks"]
    for kind in ("synchronous", "throughput", "constant", "poisson"):
        one = copy.deepcopy(concurrent)
        one["config"]["strategy"] = {"type_": kind}
        one["metrics"]["request_concurrency"]["successful"]["mean"] = 1.0
        report["benchmarks"].append(one)
    document, left_out = from_results([("g", report)])
    assert [point.batch_size for point in document.points] == [1, 8]
    assert [one.at for one in left_out] == [
        f"g, benchmarks[{at}] ({kind})" for at, kind in ((2, "throughput"), (3, "constant"), (4, "poisson"))
    ]


def test_an_earlier_aiperf_names_its_load_otherwise() -> None:
    older = changed("aiperf", "input_config", to={"loadgen": {"concurrency": 8}, "endpoint": {"model_names": ["opt"]}})
    document, _ = from_results([("a", older)])
    assert (document.model.uri, document.points[0].batch_size) == ("opt", 8)


LEFT_OUT: dict[str, tuple[Any, str]] = {
    "a rate": (raw("vllm-bench-rate"), "sent at a rate"),
    "a rate and a concurrency": (changed("vllm-bench-c16", "request_rate", to=4.0), "sent at a rate"),
    "all at once": (changed("vllm-bench-c16", "max_concurrency", to=None), "--max-concurrency"),
    "a rate of AIPerf": (changed("aiperf", "input_config", "phases", 0, "type", to="poisson"), "sent at a rate"),
    "a rate of an earlier AIPerf": (
        changed("aiperf", "input_config", to={"loadgen": {"concurrency": 8, "request_rate": 5}, "endpoint": {}}),
        "sent at a rate",
    ),
    "no streaming": ({k: v for k, v in raw("aiperf").items() if k != "inter_token_latency"}, "--streaming"),
    "batches that were not full": (
        changed("vllm-bench-c16", "max_concurrency", to=64),
        "of 64 requests were in flight",
    ),
    "batches of AIPerf that were not full": (
        changed("aiperf", "input_config", "phases", 0, "concurrency", to=16),
        "of 16 requests were in flight",
    ),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_run_whose_batch_nobody_knows_is_refused(case: str) -> None:
    content, words = LEFT_OUT[case]
    with pytest.raises(DocumentError, match=words):
        from_results([("f", content)])


WRONG: dict[str, tuple[list[Any], str]] = {
    "two models": ([raw("vllm-bench-c1"), changed("vllm-bench-c16", "model_id", to="n")], "several models (m, n)"),
    "two workloads": ([raw("vllm-bench-c1"), raw("aiperf")], "answers of 48 to 64 tokens on average"),
    "no request": ([changed("vllm-bench-c1", "completed", to=0)], "completed: expected a whole number of at least 1"),
    "no duration": (
        [changed("vllm-bench-c1", "duration", to=None)],
        "duration: expected a finite number of at least 0",
    ),
    "a word": ([changed("vllm-bench-c1", "mean_tpot_ms", to="fast")], "mean_tpot_ms: expected a finite number"),
    "a list": ([changed("aiperf", "request_latency", to=[1])], "request_latency.avg: expected a finite number"),
    "no benchmark": ([changed("guidellm", "benchmarks", to=[])], "no run in it"),
    "no strategy": ([changed("guidellm", "benchmarks", to=[7])], "config.strategy.type_: expected a name"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_contradicts_itself_is_one_sentence(case: str) -> None:
    contents, words = WRONG[case]
    with pytest.raises(DocumentError) as why:
        from_results([(str(at), content) for at, content in enumerate(contents)])
    assert words in str(why.value)
    assert "\n" not in str(why.value)


@pytest.mark.parametrize(
    "content",
    [None, [], {}, 7, "x", {"benchmarks": 7}, {"benchmarks": []}, {"schema": "slm-operator.io/measurements/v1"}],
)
def test_file_that_is_no_result_is_no_tools(content: Any) -> None:
    assert tool_of(content) is None


def paths(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(found for name, part in inside for found in paths(part, (*at, name)))]


@cache
def read_of(name: str) -> list[tuple[str | int, ...]]:
    """The places of a file that are looked at when it is read."""
    asked: set[str | int] = set()
    whole = Fields.get
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fields, "get", lambda self, *path: (asked.update(path), whole(self, *path))[1])
        from_results([("f", raw(name))])
    return [path for path in paths(raw(name))[1:] if all(isinstance(part, int) or part in asked for part in path)]


VALUES = (None, True, False, 0, -1, 7, 1e-300, 5e-324, 1 << 53, 10**400, math.nan, math.inf, "x", "", [], [1], {}, [{}])


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize("name", ["vllm-bench-c16", "guidellm", "aiperf"])
def test_any_value_in_a_result_file_is_read_or_refused(name: str, value: Any) -> None:
    """Not a traceback, nor a document that its own reader refuses."""
    for path in read_of(name):
        try:
            document, _ = from_results([("f", changed(name, *path, to=value))])
        except DocumentError as why:
            assert "\n" not in str(why)  # noqa: PT017 - both endings are right
        else:
            assert parse_document(to_json(document)) == document, path


def test_a_run_that_took_no_time_is_refused_as_one() -> None:
    """And not as one whose batches were not full."""
    with pytest.raises(DocumentError, match=r"duration: expected a finite number above 0, found 0\.0"):
        from_results([("f", changed("vllm-bench-c16", "duration", to=0))])
