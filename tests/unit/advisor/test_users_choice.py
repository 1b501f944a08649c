"""spec.sharing's enginesPerGpu and mode win over the advice, at a cost that is reported."""

from __future__ import annotations

from dataclasses import replace

import pytest
from slm_core.candidates import Source, Verdict
from slm_core.measurements import Point, SharingMode
from slm_core.slo import Slo
from slm_core.units import GIB, MIB
from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise

from tests.builders import LEDGER, SINGLES, document, pack, point

ANY = Slo()


def test_users_measured_pack_is_served() -> None:
    advice = advise(document(*SINGLES, pack(128), pack(64, 4, gain=0.5)), ANY, Settings(engines_per_gpu=2))
    assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu) == (128, 2)
    assert advice.source.engines_per_gpu is Source.USER_CHOICE
    assert advice.source.sharing_mode is Source.MEASURED
    assert advice.source.predicted is Source.MEASURED
    assert "The number of engines per GPU, 2, is the user's choice." in advice.sentences


def test_users_worse_measured_pack_is_served_with_its_cost() -> None:
    advice = advise(document(*SINGLES, pack(128, gain=-0.18)), ANY, Settings(engines_per_gpu=2))
    assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu, advice.feasible) == (128, 2, True)
    assert advice.gain == pytest.approx(-0.18)
    assert (
        "That costs 18.0% of the throughput of the best single engine (B=128: 15,238 tokens/s at 16.8 ms)."
        in advice.sentences
    )
    verdicts = {(c.point.batch_size, c.point.replicas): (c.verdict, c.because) for c in advice.candidates}
    assert verdicts[128, 1] == (Verdict.REJECTED, "the user requested 2 per GPU")
    single = next(c for c in advice.candidates if c.point.replicas == 1)
    assert (single.last.value, single.last.limit) == (1, 2)
    chosen = next(c for c in advice.candidates if c.verdict is Verdict.CHOSEN)
    assert chosen.checks[-2].because == (
        "-18.0% against the best single engine; the user's own number of engines needs no gain"
    )


def test_users_unmeasured_pack_borrows_from_single_engine() -> None:
    advice = advise(document(), ANY, Settings(engines_per_gpu=2))
    assert (
        advice.configuration.batch_size,
        advice.configuration.engines_per_gpu,
        advice.configuration.sharing_mode,
    ) == (128, 2, SharingMode.MPS)
    assert advice.configuration.kv_cache_bytes == pytest.approx(9 * GIB / 0.92, abs=1)
    assert (advice.predicted, advice.gain, advice.feasible) == (None, None, True)
    assert advice.best_single
    assert advice.best_single.configuration.batch_size == 128
    parts = advice.source
    assert {parts.kv_bytes, parts.engines_per_gpu, parts.sharing_mode, parts.predicted} == {Source.USER_CHOICE}
    assert advice.sentences[:3] == (
        "Serve 2 engines per GPU (MPS), each with at most 128 sequences at once and 9.8 GiB of KV cache.",
        (
            "What it costs or gains is not known: no such pack was measured here. "
            "To compare: the best single engine (B=128: 15,238 tokens/s at 16.8 ms)."
        ),
        "Decided for full batches, 256 requests in flight per GPU.",
    )
    lender = next(c for c in advice.candidates if c.verdict is Verdict.CHOSEN)
    assert lender.because == "lends batch size and KV bytes to the 2 engines per GPU that the user chose"
    assert (lender.last.value, lender.last.limit) == (1, 2)


def test_users_unmeasured_pack_not_for_mps_is_time_sliced() -> None:
    advice = advise(document(), ANY, Settings(engines_per_gpu=2, against_mps="another user"))
    assert advice.configuration.sharing_mode is SharingMode.TIME_SLICING
    assert "MPS is ruled out by another user." in advice.sentences


def test_users_mode_that_was_never_measured_is_served() -> None:
    settings = Settings(engines_per_gpu=2, mode=SharingMode.TIME_SLICING)
    advice = advise(document(*SINGLES, pack(128)), ANY, settings)
    assert (advice.configuration.sharing_mode, advice.predicted) == (SharingMode.TIME_SLICING, None)
    assert advice.source.sharing_mode is Source.USER_CHOICE


def test_a_batch_whose_memory_does_not_fit_the_slice_gives_way() -> None:
    """Slices of 16 GiB, less the reserve, leave 10.8 GiB: B = 128 needs 19.6."""
    singles = (*SINGLES[:3], point(128, kv_pool_bytes=20 * GIB))
    advice = advise(document(*singles), ANY, Settings(engines_per_gpu=4))
    assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu, advice.feasible) == (64, 4, True)
    assert advice.configuration.kv_cache_bytes
    assert advice.configuration.kv_cache_bytes <= 10.84 * GIB
    assert advice.sentences[-1] == (
        "B=128 would be faster and needs 19.6 GiB of KV cache, where such a slice leaves 10.8 GiB: "
        "give fewer engines per GPU to have it."
    )


def test_a_slice_that_the_kv_cache_just_fills_is_large_enough() -> None:
    device = 30 * GIB + 512 * MIB
    ledger = replace(LEDGER, device_bytes=device, kv_pool_bytes=10 * GIB)
    gpu = replace(document().gpu, memory_bytes=device)
    exact = [replace(p, confirmed=True) for p in SINGLES]
    advice = advise(document(*exact, ledger=ledger, gpu=gpu), ANY, Settings(engines_per_gpu=2))
    assert (advice.feasible, advice.configuration.batch_size, advice.configuration.kv_cache_bytes) == (
        True,
        128,
        10 * GIB,
    )


def test_more_engines_than_memory_holds() -> None:
    advice = advise(document(), ANY, Settings(engines_per_gpu=8))
    assert not advice.feasible
    assert (advice.configuration.engines_per_gpu, advice.configuration.batch_size) == (4, 1)
    assert advice.closest
    assert advice.closest.check == "Memory"
    assert advice.closest.missed_by == pytest.approx(14.783 / 7.92 - 1, rel=1e-3)
    assert advice.sentences[:2] == (
        "The request cannot be met: 8 engines per GPU leave each 7.9 GiB, and one needs 14.8 GiB even at B=1.",
        "Request at most 4 per GPU, or use a GPU with more memory, a quantised model or a smaller maxModelLen.",
    )


def test_users_pack_of_as_many_engines_as_just_fit_is_served() -> None:
    """Three slices of 15 GiB hold 5 GiB of engine and 10 GiB of KV cache to the byte."""
    device = 45 * GIB + 512 * MIB
    ledger = replace(LEDGER, device_bytes=device, kv_pool_bytes=10 * GIB)
    gpu = replace(document().gpu, memory_bytes=device)
    exact = [replace(p, confirmed=True) for p in SINGLES]
    advice = advise(document(*exact, ledger=ledger, gpu=gpu), ANY, Settings(engines_per_gpu=4))
    assert (advice.feasible, advice.configuration.engines_per_gpu, advice.configuration.kv_cache_bytes) == (
        False,
        3,
        10 * GIB,
    )


def test_a_gpu_for_one_engine_only() -> None:
    ledger = replace(LEDGER, device_bytes=16 * GIB, kv_pool_bytes=10 * GIB)
    gpu = replace(document().gpu, memory_bytes=16 * GIB)
    advice = advise(document(ledger=ledger, gpu=gpu), ANY, Settings(engines_per_gpu=2))
    assert (advice.configuration.engines_per_gpu, advice.configuration.sharing_mode, advice.feasible) == (
        1,
        SharingMode.EXCLUSIVE,
        False,
    )
    assert advice.predicted


def test_measured_packs_of_that_size_all_miss_the_slo() -> None:
    late = pack(128), pack(64, gain=0.1)
    advice = advise(document(*SINGLES, *late), Slo(itl_ms=15), Settings(engines_per_gpu=2))
    assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu, advice.feasible) == (64, 2, False)
    assert advice.closest
    assert advice.closest.check == "SLO"


def test_measured_packs_that_preempt_are_as_good_as_unmeasured() -> None:
    advice = advise(document(*SINGLES, pack(128, preemptions=5)), ANY, Settings(engines_per_gpu=2))
    assert (advice.configuration.batch_size, advice.predicted, advice.feasible) == (128, None, True)


def test_neither_a_pack_measured_nor_the_slo_met() -> None:
    advice = advise(document(), Slo(itl_ms=3), Settings(engines_per_gpu=2))
    assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu, advice.feasible) == (1, 2, False)
    assert (advice.predicted, advice.best_single) == (None, None)
    assert advice.closest
    assert advice.closest.because == "at B=1 mean ITL 4.1 ms exceeds 3.0 ms"


def test_without_a_ledger_the_slice_is_not_judged() -> None:
    advice = advise(document(ledger=None), ANY, Settings(engines_per_gpu=8))
    assert (advice.configuration.engines_per_gpu, advice.feasible, advice.configuration.batch_size) == (8, True, 128)


def test_exactly_one_engine() -> None:
    advice = advise(document(*SINGLES, pack(128)), ANY, Settings(engines_per_gpu=1))
    assert (advice.configuration.engines_per_gpu, advice.configuration.batch_size) == (1, 128)
    assert advice.source.engines_per_gpu is Source.USER_CHOICE


def test_two_of_four_engines_that_fit_are_still_unmeasured() -> None:
    ledger = replace(LEDGER, device_bytes=32 * GIB, kv_pool_bytes=10 * GIB)
    gpu = replace(document().gpu, memory_bytes=32 * GIB)
    advice = advise(document(ledger=ledger, gpu=gpu), ANY, Settings(engines_per_gpu=4))
    assert (advice.configuration.engines_per_gpu, advice.predicted, advice.feasible) == (2, None, False)


SLICED = SharingMode.TIME_SLICING
RULED_OUT = "MPS is ruled out by another user."


@pytest.mark.parametrize(
    ("packs", "served", "said"),
    [
        pytest.param((pack(128),), 1, False, id="the nearest pack says it"),
        pytest.param((pack(128), pack(128, gain=0.2, sharing_mode=SLICED)), 2, True, id="another mode is served"),
        pytest.param((pack(128), pack(128, gain=-0.2, sharing_mode=SLICED)), 1, True, id="another pack came nearer"),
        pytest.param((pack(128, gain=0.2, sharing_mode=SLICED),), 2, False, id="none was measured by it"),
        pytest.param((), 1, False, id="no pack was measured"),
    ],
)
def test_measured_by_mps_and_not_to_be_had_is_said_once(packs: tuple[Point, ...], served: int, *, said: bool) -> None:
    advice = advise(document(*SINGLES, *packs), ANY, Settings(against_mps="another user"))
    assert advice.configuration.engines_per_gpu == served
    assert advice.configuration.sharing_mode is not SharingMode.MPS
    assert (RULED_OUT in advice.sentences) is said
