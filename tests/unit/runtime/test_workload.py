import random
from itertools import islice
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_core.failure import ProfileError
from slm_runtime.workload import Lengths, parse_lengths, usable


def test_fixed_lengths_are_one_pair() -> None:
    assert parse_lengths("161", "338") == Lengths(((161, 338),), "fixed 161 in, 338 out")


def test_a_lognormal_has_the_mean_and_the_percentile_asked_for() -> None:
    described = parse_lengths("lognormal:220,1400", "lognormal:292,900").described(None)
    assert described.input_tokens_mean == pytest.approx(220, rel=0.03)
    assert described.input_tokens_p99 == pytest.approx(1400, rel=0.05)
    assert described.output_tokens_mean == pytest.approx(292, rel=0.03)


@pytest.mark.parametrize(
    "text", ["", "0", "-3", "many", "lognormal:100", "lognormal:100,50", "normal:1,2", "uniform:a,b"]
)
def test_lengths_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ProfileError, match="--input-tokens"):
        parse_lengths(text, "10")


def test_draws_stay_near_the_mean_in_any_short_run() -> None:
    lengths = parse_lengths("lognormal:220,1400", "lognormal:292,900")
    draws = lengths.draws(random.Random(1))
    runs = [list(islice(draws, 64)) for _ in range(30)]
    totals = [fmean(a + b for a, b in run) for run in runs]
    assert max(totals) / min(totals) < 1.35  # independent draws spread over a factor of two


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(2, 500)), min_size=1, max_size=40), st.integers())
def test_a_round_of_draws_is_the_whole_set(pairs: list[tuple[int, int]], seed: int) -> None:
    drawn = list(islice(Lengths(tuple(pairs), "any").draws(random.Random(seed)), len(pairs)))
    assert sorted(drawn) == sorted(pairs)


@given(st.integers(1, 100), st.integers(2, 100), st.integers())
def test_a_sequence_in_progress_has_its_whole_length(prompt: int, output: int, seed: int) -> None:
    begun, left = Lengths(((prompt, output),), "any").in_progress(random.Random(seed))
    assert begun + left == prompt + output
    assert begun >= prompt
    assert 1 <= left <= output


def test_a_few_requests_too_long_are_left_out_and_said() -> None:
    pairs = [(10, 10)] * 9 + [(5000, 10)]
    assert usable(pairs, "chats", 2048).source == "chats (1 of 10 left out)"


def test_requests_of_one_token_are_left_out() -> None:
    assert usable([(10, 10)] * 9 + [(10, 1)], "chats", 2048).pairs == ((10, 10),) * 9


def test_one_request_too_long_never_ends_a_profile() -> None:
    assert usable([(10, 10), (5000, 10)], "chats", 2048).pairs == ((10, 10),)


def test_many_requests_too_long_are_another_workload() -> None:
    with pytest.raises(ProfileError, match="5 of 10 requests of chats do not fit into 2048 tokens"):
        usable([(10, 10), (5000, 10)] * 5, "chats", 2048)
