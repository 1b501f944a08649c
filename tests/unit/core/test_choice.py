"""The choice among candidates that passed: of those that cannot be distinguished from the fastest, the one of the lowest latency."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_core.candidates import Candidate, Check, CheckName
from slm_core.choice import choose_among, is_alike
from slm_core.measurements import Latency, Mark, Point, SharingMode
from slm_core.point_checks import MARK_REMEDY, MARK_SAYS

from tests.builders import point

if TYPE_CHECKING:
    from random import Random


def candidate(batch: int, throughput: float, ci: float | None = 0.02, **changes: Any) -> Candidate:
    """Passed every check. ITL by Little's law, unless said otherwise."""
    replicas = changes.pop("replicas", 1)
    itl_ms = changes.pop("itl_ms", 2000 * batch * replicas / throughput)
    mode = SharingMode.MPS if replicas > 1 else SharingMode.EXCLUSIVE
    fields = {"throughput_tokens_per_second": throughput, "throughput_ci_fraction": ci, "replicas": replicas}
    return Candidate(point=point(batch, itl_ms, sharing_mode=mode, **fields | changes))


def chosen(*candidates: Candidate) -> tuple[int, int]:
    choice = choose_among(candidates)
    assert choice is not None
    return choice.chosen.point.batch_size, choice.chosen.point.replicas


@pytest.mark.parametrize(
    ("candidates", "batch"),
    [
        ([candidate(32, 900), candidate(64, 1000)], 64),
        ([candidate(32, 980), candidate(64, 1000)], 32),
        ([candidate(32, 900, 0.13), candidate(64, 1000, 0.02)], 32),
        ([candidate(32, 960, None), candidate(64, 1000, None)], 64),
        ([candidate(32, 970, None), candidate(64, 1000, None)], 32),
        ([candidate(16, 955), candidate(32, 978), candidate(64, 1000)], 32),
        ([candidate(32, 980), candidate(64, 980), candidate(128, 1000)], 32),
        ([candidate(64, 1000), candidate(32, 980, confirmed=True)], 32),
        ([candidate(64, 1000, confirmed=True), candidate(32, 980)], 64),
        ([candidate(64, 1000, confirmed=True), candidate(32, 1100)], 32),
    ],
    ids=[
        "distinguished",
        "intervals that overlap",
        "one interval is wide",
        "single runs that differ by more than such runs do",
        "single runs that differ by less",
        "each against the fastest, never against its neighbour",
        "the lowest latency of three",
        "confirmed, and of the lowest latency",
        "a confirmed one, where only chance lies between",
        "a confirmed one that is slower",
    ],
)
def test_choice_within_noise_takes_the_lowest_latency(candidates: list[Candidate], batch: int) -> None:
    assert chosen(*candidates)[0] == batch


@pytest.mark.parametrize(
    ("packs", "shape"),
    [
        ([candidate(64, 1000, replicas=2), candidate(32, 1010, replicas=3)], (32, 3)),
        ([candidate(48, 1000, replicas=2), candidate(32, 1010, replicas=3)], (48, 2)),
        ([candidate(48, 900, replicas=2), candidate(32, 1010, replicas=3)], (32, 3)),
    ],
    ids=["of lower latency", "latencies that are alike: fewer engines", "faster"],
)
def test_choice_among_packs(packs: list[Candidate], shape: tuple[int, int]) -> None:
    assert chosen(*packs) == shape


def test_alternatives_are_named_with_their_numbers() -> None:
    slow, fast, faster = candidate(32, 1000, 0.03), candidate(64, 1020, 0.04), candidate(96, 1030, 0.04)
    choice = choose_among([slow, fast, faster])
    assert choice is not None
    assert choice.chosen == slow
    assert [a.candidate for a in choice.alternatives] == [faster, fast]
    first = choice.alternatives[0]
    assert (first.gain_fraction, first.noise_fraction) == (pytest.approx(0.03), pytest.approx(0.05))
    assert first.most_fraction == pytest.approx(0.08)
    assert first.itl_ratio == pytest.approx(96 / 1030 / (32 / 1000))


def test_nothing_is_chosen_where_nothing_passed() -> None:
    failed = candidate(32, 1000).then(Check(CheckName.SLO, False, "too late"))
    assert choose_among([failed]) is None
    assert chosen(failed, candidate(64, 500)) == (64, 1)


POINTS = st.lists(
    st.builds(
        candidate,
        st.sampled_from([1, 8, 32, 64, 96]),
        st.floats(50, 100),
        st.sampled_from([None, 0.005, 0.02, 0.1, 0.2]),
        replicas=st.integers(1, 3),
        confirmed=st.booleans(),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda c: (c.point.batch_size, c.point.replicas),
)


@given(POINTS, st.randoms(use_true_random=False))
def test_whatever_the_order_the_choice_is_the_same_and_alike(candidates: list[Candidate], random: Random) -> None:
    choice = choose_among(candidates)
    shuffled = random.sample(candidates, len(candidates))
    again = choose_among(shuffled)
    assert choice is not None
    assert again is not None
    assert again.chosen == choice.chosen
    assert choice.fastest.throughput == max(c.throughput for c in candidates)
    assert is_alike(choice.chosen, choice.fastest)
    assert all(is_alike(a.candidate, choice.fastest) for a in choice.alternatives)


def test_repetition_of_a_batch_size_does_not_replace_choice() -> None:
    one = candidate(32, 1000)
    late = replace(one, point=replace(one.point, itl_ms=Latency(mean_ms=65.0), max_num_batched_tokens=512))
    assert isinstance(late.point, Point)
    assert chosen(one, late) == (32, 1)


def test_every_mark_has_its_words_and_its_remedy() -> None:
    assert set(MARK_SAYS) == set(MARK_REMEDY) == set(Mark)
