"""What an engine's histogram says of a percentile, and pages on which there is none to be read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from light_engine.arguments import Settings
from light_engine.exposition import exposition
from light_engine.scheduler import Scheduler
from slm_core.engines.registry import default
from slm_core.histograms import MOST_BUCKETS, Histogram, read_histogram, together
from slm_core.pack_pod import READY_METRIC
from slm_operator.kube.engine_metrics import _pod_page
from slm_runtime.serve.exposition import merged

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "vllm:inter_token_latency_seconds"
GAPS = {0.004: 900, 0.02: 95, 0.2: 5}
"""How many of each length, in seconds."""


def page(gaps: Mapping[float, int] = GAPS) -> str:
    scheduler = Scheduler(Settings(), max_num_seqs=4, max_num_batched_tokens=64, num_blocks=64)
    for seconds, times in gaps.items():
        scheduler.histograms["inter_token_latency"].observe(seconds, times=times)
    return exposition(scheduler, "chat", {})


def read(text: str) -> Histogram:
    found = read_histogram(text, NAME)
    assert found is not None
    return found


@pytest.mark.parametrize(("quantile", "bounds"), [(0.5, (0.0025, 0.005)), (0.99, (0.01, 0.025)), (1.0, (0.1, 0.25))])
def test_a_quantile_lies_between_the_bounds_around_it(quantile: float, bounds: tuple[float, float]) -> None:
    assert read(page()).around(quantile) == bounds


def test_engines_of_a_pack_are_one_histogram() -> None:
    pack = "".join(merged({0: page(), 1: page({0.2: 1000})}))
    assert read(pack).total == 2000
    assert read(pack).around(0.9) == (0.1, 0.25)


def test_what_came_since_is_known_unless_it_began_anew() -> None:
    before, after = read(page()), read(page({**GAPS, 0.2: 105}))
    assert after.since(before) == Histogram(before.bounds, (0.0,) * 7 + (100.0,) * 9)
    assert before.since(after) is None
    assert Histogram((1.0, math.inf), (1.0, 2.0)).since(before) is None


def test_histograms_of_other_bounds_are_not_added() -> None:
    other = Histogram((1.0, math.inf), (1.0, 2.0))
    assert together([other, other]) == Histogram((1.0, math.inf), (2.0, 4.0))
    assert together([other, read(page())]) is None
    assert together([]) is None


def bucket(le: str, count: str) -> str:
    return f'{NAME}_bucket{{engine="0",le="{le}"}} {count}\n'


ODD = {
    "nothing": "",
    "no bound": f'{NAME}_bucket{{engine="0"}} 1\n',
    "a bound that is none": bucket("many", "1") + bucket("+Inf", "1"),
    "no last bound": bucket("0.1", "1"),
    "counts that fall": bucket("0.1", "5") + bucket("+Inf", "4"),
    "a count that is none": bucket("+Inf", "NaN"),
    "a count without end": bucket("+Inf", "Inf"),
    "buckets without end": "".join(bucket(f"{n}", "1") for n in range(MOST_BUCKETS + 2)) + bucket("+Inf", "1"),
    "another one of a longer name": page().replace(f"{NAME}_bucket", f"{NAME}_sum_bucket"),
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_no_histogram_is_read_from(text: str) -> None:
    assert read_histogram(text, NAME) is None


def test_a_pods_page_has_the_histograms_that_it_shows() -> None:
    both = ("itl", "ttft")
    assert _pod_page(page(), default(), both).histograms.keys() == {"itl", "ttft"}
    assert _pod_page(page(), default(), ("itl",)).histograms.keys() == {"itl"}
    assert _pod_page(page().replace(f"{NAME}_bucket", "x"), default(), both).histograms.keys() == {"ttft"}


def test_a_packs_page_has_the_counters_of_each_engine() -> None:
    """An engine that shows less than all, because it starts, is on the page and is none of them."""
    starting = "vllm:num_requests_running 1.0\n"
    serving = f'{READY_METRIC}{{engine="0"}} 1\n'
    read_page = _pod_page(serving + "".join(merged({0: page(), 1: page({0.2: 1000}), 2: starting})), default(), ())
    assert read_page.engines.keys() == {"0", "1"}
    assert read_page.engines["1"] == default().read_counters(page({0.2: 1000}))
    assert _pod_page(page(), default(), ()).engines == {}
