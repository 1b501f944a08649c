"""The rows of the sharing modes: what measuring, deciding and planning ask them."""

import pytest
from slm_core.measurements import SharingMode
from slm_core.sharing import AUTO, CHOICES, MODES, PACKED, allows_packs, asked_mode, by_word, sharing_of, word_of
from slm_core.sharing.base import Sharing
from slm_core.sharing.exclusive import EXCLUSIVE
from slm_core.sharing.mps import MPS
from slm_core.sharing.time_slicing import TIME_SLICING


def test_every_mode_of_a_document_has_one_row() -> None:
    assert sorted(one.mode for one in MODES) == sorted(SharingMode)


def test_words_and_spellings_name_one_mode_each() -> None:
    words = [word for one in MODES for word in (one.word, *one.spellings)]
    assert len(words) == len(set(words))
    assert [by_word(word) for word in words] == [one for one in MODES for _ in (one.word, *one.spellings)]
    assert by_word("cake") is None


def test_a_single_engine_is_the_only_mode_without_packs() -> None:
    assert [one.mode for one in MODES if not one.allows_packs] == [SharingMode.EXCLUSIVE]
    assert [one.mode for one in PACKED] == [SharingMode.MPS, SharingMode.TIME_SLICING]


@pytest.mark.parametrize(
    ("choice", "mode", "word", "packs"),
    [
        ("Auto", None, "auto", True),
        ("MPS", SharingMode.MPS, "mps", True),
        ("TimeSlicing", SharingMode.TIME_SLICING, "time-slicing", True),
        ("Exclusive", SharingMode.EXCLUSIVE, "exclusive", False),
    ],
)
def test_a_choice_is_a_mode_or_auto(choice: str, mode: SharingMode | None, word: str, packs: bool) -> None:  # noqa: FBT001
    assert choice in CHOICES
    assert (asked_mode(choice), word_of(choice), allows_packs(asked_mode(choice))) == (mode, word, packs)


def test_auto_is_the_default_of_all_choices() -> None:
    assert CHOICES == (AUTO, "MPS", "TimeSlicing", "Exclusive")


@pytest.mark.parametrize(
    ("total_bytes", "engines", "memory", "threads"),
    [(80 * 2**30, 4, "0=20480M", "25"), (143771 * 2**20, 3, "0=47923M", "33"), (16 * 2**30, 48, "0=341M", "2")],
)
def test_mps_limits_are_those_of_the_device_plugin(total_bytes: int, engines: int, memory: str, threads: str) -> None:
    assert MPS.limits(total_bytes, engines) == {
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": memory,
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": threads,
    }


@pytest.mark.parametrize("row", [EXCLUSIVE, TIME_SLICING], ids=lambda one: one.word)
def test_without_mps_nothing_limits_an_engine(row: Sharing) -> None:
    assert row.limits(80 << 30, 2) == {}
    assert row.most_engines((9, 0)) is None


@pytest.mark.parametrize(("capability", "most"), [((7, 0), 16), ((7, 4), 16), ((7, 5), 48), ((9, 0), 48), (None, 48)])
def test_mps_serves_fewer_engines_before_turing(capability: tuple[int, int] | None, most: int) -> None:
    assert MPS.most_engines(capability) == most


def test_memory_shares_are_equal_and_at_most_the_whole() -> None:
    for one in MODES:
        assert one.memory_share(100, 3) == 33
        assert one.memory_share(100, 1) == 100
    assert sharing_of(SharingMode.MPS) is MPS
