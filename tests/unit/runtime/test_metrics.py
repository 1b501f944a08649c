import dataclasses
from pathlib import Path

import pytest
from slm_core.counters import CounterDelta, over_engines
from slm_core.engines.registry import default
from slm_core.failure import Failure, ProfileError

PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a {strange} name"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:num_preemptions_total{engine="0",model_name="m"} 2.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 100.0
vllm:generation_tokens_total{engine="0",model_name="m"} 1.5e+03
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 4.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 6.0
vllm:inter_token_latency_seconds_bucket{engine="0",le="0.01",model_name="m"} 7.0
vllm:inter_token_latency_seconds_sum{engine="0",model_name="m"} 15.0
vllm:inter_token_latency_seconds_count{engine="0",model_name="m"} 1490.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 1.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 10.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="m"} 0.5
vllm:cache_config_info{block_size="16",kv_cache_memory_bytes="None",note="a \\"quoted\\" word",num_gpu_blocks="128"} 1.0
"""


def test_counters_are_summed_over_labels_by_whole_name() -> None:
    counters = default().read_counters(PAGE)
    assert (counters.running, counters.waiting, counters.finished) == (3, 1, 10)
    assert (counters.output_tokens, counters.itl_sum, counters.itl_count) == (1500, 15, 1490)


def test_over_engines_counters_add_up_and_kv_use_is_the_largest() -> None:
    one = default().read_counters(PAGE)
    two = default().read_counters(PAGE.replace("} 0.25", "} 0.75"))
    both = over_engines([one, two])
    assert (both.output_tokens, both.kv_usage) == (3000, 0.75)


def test_missing_names_are_named() -> None:
    page = PAGE.replace("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
    with pytest.raises(ProfileError, match=r"lacks vllm:kv_cache_usage_perc$") as raised:
        default().read_counters(page)
    assert raised.value.failure is Failure.METRICS


def test_the_pool_is_read_of_the_cache_configuration() -> None:
    report = default().read_memory("", PAGE)
    assert (report.kv_pool_tokens, report.kv_pool_bytes, report.kv_dtype) == (128 * 16, None, "auto")


def test_a_page_without_the_pool_is_no_page() -> None:
    with pytest.raises(ProfileError, match=r"lacks vllm:cache_config_info$"):
        default().read_memory("", "")


def later(page: str, tokens: float, finished: float) -> str:
    return page.replace("} 1.5e+03", f"}} {tokens}").replace(
        '"stop",model_name="m"} 4.0', f'"stop",model_name="m"}} {finished}'
    )


def test_a_delta_is_of_the_engines_that_ran_all_the_while() -> None:
    before, after = default().read_counters(PAGE), default().read_counters(later(PAGE, 1700, 6))
    restarted = default().read_counters(later(PAGE, 1700, 1))
    delta = CounterDelta.of_engines(
        {"a": before, "b": before, "c": before}, {"a": after, "b": restarted, "d": after}, 2
    )
    assert delta is not None
    assert (delta.engines, delta.output_tokens_per_second, delta.gained.finished) == (1, 100, 2)


def test_without_an_engine_or_time_there_is_no_delta() -> None:
    one = default().read_counters(PAGE)
    assert CounterDelta.of_engines({"a": one}, {"b": one}, 2) is None
    assert CounterDelta.of_engines({"a": one}, {"a": one}, 0) is None


def test_mean_is_of_counts_between_two_readings() -> None:
    before = default().read_counters(PAGE)
    after = dataclasses.replace(before, itl_sum=before.itl_sum + 2, itl_count=before.itl_count + 100)
    delta = CounterDelta.between(before, after, 10)
    assert (delta.mean_ms("itl"), delta.mean_ms("ttft")) == (20, None)


FIELD = Path(__file__).parents[2] / "data/field/metrics"


@pytest.mark.parametrize(("name", "kv_usage"), [("kv-usage-by-process", 0.65), ("two-series-of-kv-usage", 0.6)])
def test_kv_use_of_several_series_is_the_largest(name: str, kv_usage: float) -> None:
    assert default().read_counters((FIELD / f"{name}.txt").read_text()).kv_usage == kv_usage


def with_series(name: str, value: str) -> str:
    return f'{PAGE}{name}{{engine="1",model_name="m"}} {value}\n'


@pytest.mark.parametrize("nothing", ["NaN", "nan"])
def test_a_kv_use_that_is_no_number_is_no_value(nothing: str) -> None:
    assert default().read_counters(with_series("vllm:kv_cache_usage_perc", nothing)).kv_usage == 0.25


@pytest.mark.parametrize("odd", ["NaN", "+Inf", "-Inf", "-1"])
@pytest.mark.parametrize("name", ["vllm:num_requests_running", "vllm:generation_tokens_total"])
def test_a_sum_with_a_part_that_is_no_number_is_refused(name: str, odd: str) -> None:
    with pytest.raises(ProfileError, match=f"shows {name} as no number"):
        default().read_counters(with_series(name, odd))


@pytest.mark.parametrize("page", [with_series("vllm:kv_cache_usage_perc", "+Inf"), PAGE.replace("} 0.25", "} NaN")])
def test_a_kv_use_without_an_end_or_a_number_is_refused(page: str) -> None:
    with pytest.raises(ProfileError, match="shows vllm:kv_cache_usage_perc as no number"):
        default().read_counters(page)
