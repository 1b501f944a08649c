"""When a window opens and closes, and what it says; on counters made up by the law that an engine follows."""

import dataclasses
import random

import pytest
from slm_core.counters import Counters
from slm_core.measurements import Mark
from slm_runtime.window import Pace, Scrape, ci_fraction, facts, is_open, latency, marks, may_close

ZERO = Counters(**dict.fromkeys((f.name for f in dataclasses.fields(Counters)), 0.0))
PACE = Pace(poll_seconds=0.5, min_seconds=5, max_seconds=20, ci_fraction=0.02)


def steady(batch: int, itl: float, seconds: float, jitter: float = 0.0) -> list[Scrape]:
    """An engine that runs `batch` sequences of 100 tokens at `itl` seconds each, with noise between polls."""
    scrapes, tokens, rng = [], 0.0, random.Random(1)
    polls = round(seconds / PACE.poll_seconds)
    for i in range(polls + 1):
        counters = dataclasses.replace(
            ZERO,
            running=batch,
            kv_usage=0.4 + 0.1 * (i == 3),
            output_tokens=tokens,
            prompt_tokens=tokens / 100 * 50,
            finished=tokens / 100,
            itl_count=tokens * 0.99,
            itl_sum=tokens * 0.99 * itl,
            ttft_count=tokens / 100,
            ttft_sum=tokens / 100 * itl,
        )
        scrapes.append(Scrape(at=i * PACE.poll_seconds, counters=counters))
        tokens += batch / itl * PACE.poll_seconds * (1 + rng.uniform(-jitter, jitter))
    return scrapes


def test_window_opens_once_every_place_emitted_a_token() -> None:
    before = dataclasses.replace(ZERO, ttft_count=7)
    assert not is_open(dataclasses.replace(ZERO, ttft_count=38), before, width=32)
    assert is_open(dataclasses.replace(ZERO, ttft_count=39), before, width=32)


CLOSING = [
    ("a steady engine closes at the minimum", 5.0, 0.0, None, True, True),
    ("not before the minimum", 4.5, 0.0, None, True, False),
    ("a noisy engine goes on", 5.0, 0.3, None, True, False),
    ("until the cap", 20.0, 0.3, None, True, True),
    ("samples that an SLO needs are waited for", 5.0, 0.0, None, False, False),
    ("beyond the cap", 20.0, 0.0, None, False, False),
    ("but not for ever", 60.0, 0.0, None, False, True),
    ("a cap in requests ends it before the minimum", 1.0, 0.0, 16, True, True),
    ("and not before so many have finished", 1.0, 0.0, 64, True, False),
    ("which are not waited for for ever", 40.0, 0.0, 10**6, True, True),
]


@pytest.mark.parametrize("case", CLOSING, ids=[c[0] for c in CLOSING])
def test_window_may_close(case: tuple[str, float, float, int | None, bool, bool]) -> None:
    _, seconds, jitter, max_requests, enough, closes = case
    window = steady(32, 0.010, seconds, jitter)
    assert may_close(window, PACE, max_requests, enough_samples=enough) is closes


def test_facts_are_differences_of_counters() -> None:
    found = facts(steady(32, 0.010, 10))
    assert found.delta.output_tokens_per_second == pytest.approx(3200)
    assert found.delta.mean_ms("itl") == pytest.approx(10)
    assert found.kv_peak_fraction == pytest.approx(0.5)
    assert found.running_error == pytest.approx(32 / (4 * 21)), "no sampling error is none"
    assert found.requests == 320
    assert found.input_tokens_mean == pytest.approx(50)
    assert found.output_tokens_mean == pytest.approx(100)
    assert (found.decoding, found.prefilling) == (pytest.approx(31.68), pytest.approx(0.32))


def test_request_waiting_in_the_front_end_is_not_running() -> None:
    """TTFT is vLLM's front end's: half a second of lag there is no sequence in the engine."""
    late = [
        replaced(scrape, ttft_sum=scrape.counters.ttft_count * 0.51, prefill_sum=scrape.counters.finished * 0.010)
        for scrape in steady(32, 0.010, 10)
    ]
    assert facts(late).prefilling == pytest.approx(0.32)
    began_together = [replaced(scrape, prefill_sum=scrape.counters.finished * 0.4) for scrape in steady(32, 0.010, 10)]
    assert facts(began_together).prefilling == pytest.approx(0.32)
    unsaid = [replaced(scrape, ttft_sum=scrape.counters.ttft_count * 0.51) for scrape in steady(32, 0.010, 10)]
    assert facts(unsaid).prefilling == pytest.approx(16.32)
    none_finished = [replaced(scrape, prefill_sum=scrape.at, finished=0.0) for scrape in steady(32, 0.010, 10)]
    assert facts(none_finished).prefilling == pytest.approx(0.32)


def replaced(scrape: Scrape, **counters: float) -> Scrape:
    return dataclasses.replace(scrape, counters=dataclasses.replace(scrape.counters, **counters))


def test_the_interval_needs_ten_slices() -> None:
    assert ci_fraction(steady(32, 0.01, 4.5)) is None
    assert ci_fraction(steady(32, 0.01, 5)) == pytest.approx(0, abs=1e-9)
    assert 0.02 < (ci_fraction(steady(32, 0.01, 20, jitter=0.3)) or 0) < 0.2


MARKED = [
    ("a clean window", {}, {}, ()),
    ("preemptions", {"preemptions": 1}, {}, (Mark.PREEMPTED,)),
    ("sequences that wait for KV blocks", {"mean_waiting": 4.0, "kv_peak_fraction": 0.95}, {}, (Mark.PREEMPTED,)),
    ("sequences that wait for the next step", {"mean_waiting": 4.0}, {}, ()),
    ("waiting that was asked for", {"mean_waiting": 4.0, "kv_peak_fraction": 0.95}, {"may_wait": True}, ()),
    ("failed requests", {}, {"errors": 1}, (Mark.ERRORS,)),
    ("latency and throughput that contradict the batch", {"decoding": 29.0}, {}, (Mark.LITTLES_LAW,)),
    ("more than run by the gauge", {"decoding": 35.0}, {}, (Mark.LITTLES_LAW,)),
    ("many in their first step, which no gauge counts", {"decoding": 31.0, "prefilling": 9.0}, {}, ()),
    ("many before their first token, and counted", {"decoding": 23.0, "prefilling": 9.0}, {}, ()),
    ("latency and throughput beside requests that wait", {"decoding": 29.0}, {"may_wait": True}, ()),
    ("a difference that sampling explains", {"decoding": 29.0, "running_error": 1.0}, {}, ()),
    ("lowered clocks", {}, {"throttled": True}, (Mark.THROTTLED,)),
    ("prompts that the engine knew", {"prefix_hit_fraction": 0.04}, {}, (Mark.PREFIX_CACHE,)),
    ("a few tokens that it knew by chance", {"prefix_hit_fraction": 0.02}, {}, ()),
    ("a load generator at its limit", {"client_core_fraction": 0.8}, {}, (Mark.CLIENT,)),
    ("an interval that says nothing", {"ci_fraction": 0.3}, {}, (Mark.WIDE,)),
]


@pytest.mark.parametrize(("name", "seen", "given", "expected"), MARKED, ids=[c[0] for c in MARKED])
def test_doubts_of_a_window_become_marks(
    name: str, seen: dict[str, float], given: dict[str, int], expected: tuple[Mark, ...]
) -> None:
    found = dataclasses.replace(facts(steady(32, 0.010, 10)), **seen)
    assert marks(found, **{"errors": 0, "width": 32, "may_wait": False, "throttled": False, **given}) == expected


def test_percentile_without_enough_samples_is_absent() -> None:
    few, some, many = (latency(5.0, [float(i) for i in range(n)]) for n in (6, 64, 459))
    assert (few.p50_ms, few.p90_ms, few.p99_ms) == (None, None, None)
    assert (some.p50_ms, some.p90_ms, some.p99_ms) == (31.0, 57.0, None)
    assert many.p99_ms == 454.0
    assert many.samples == 459
