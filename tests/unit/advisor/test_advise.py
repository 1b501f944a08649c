"""The joint choice: no regret, the user's own numbers, thin load, SLOs that nothing meets, free memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from slm_operator.advisor.advice import ModeChoice, Objective, Settings, Source, Verdict
from slm_operator.advisor.advise import advise
from slm_runtime.document import Latency, Mark, SharingMode, Workload
from slm_runtime.slo import Percentile, Slo
from unit.advisor.build import GIB, LEDGER, SINGLES, document, pack, point

if TYPE_CHECKING:
    from slm_runtime.document import Point

ANY = Slo()


def test_one_engine_without_packs() -> None:
    advice = advise(document(), ANY, Settings())
    assert (advice.batch_size, advice.replicas_per_gpu, advice.sharing_mode) == (128, 1, SharingMode.NONE)
    assert advice.kv_bytes == pytest.approx(9 * GIB / 0.92, abs=1)
    assert advice.freed_bytes == 64 * GIB - 5 * GIB - advice.kv_bytes
    assert advice.max_num_batched_tokens == 2048
    assert (advice.gain, advice.closest, advice.pays_from_in_flight) == (0, None, None)
    assert advice.message == (
        "Serve one engine per GPU, each with at most 128 sequences at once and 9.8 GiB of KV cache. "
        "One GPU makes 15,238 tokens/s (7,619 of output) at a mean ITL of 16.8 ms, as measured. "
        "No pack was measured, so none is advised. "
        "Decided for full batches, 128 requests in flight per GPU. "
        "49.2 GiB of the GPU stay free, room for 3 more such engines."
    )


def test_a_pack_that_pays() -> None:
    advice = advise(document(*SINGLES, pack(128), pack(64, gain=0.1)), ANY, Settings())
    assert (advice.batch_size, advice.replicas_per_gpu, advice.sharing_mode) == (128, 2, SharingMode.MPS)
    assert advice.gain == pytest.approx(0.2)
    assert advice.kv_bytes == 10 * GIB
    assert advice.source.replicas_per_gpu is Source.MEASURED
    assert "That is +20.0% against the best single engine (B=128: 15,238 tokens/s at 16.8 ms)." in advice.sentences


def test_the_token_budget_is_that_of_the_point_and_never_under_the_batch() -> None:
    assert (
        advise(document(*SINGLES, point(256, max_num_batched_tokens=512)), ANY, Settings()).max_num_batched_tokens
        == 512
    )
    assert advise(document(*SINGLES, point(4096)), ANY, Settings(min_efficiency=0.001)).max_num_batched_tokens == 4096


def test_of_equal_throughput_the_smaller_batch() -> None:
    twin = point(256, output=SINGLES[3].output_tokens_per_second)
    twin = replace(twin, itl_ms=Latency(mean_ms=33.6), mean_running=256)
    assert advise(document(*SINGLES, twin), ANY, Settings()).batch_size == 128


def test_a_pack_where_no_single_engine_meets_the_slo_has_nothing_to_beat() -> None:
    singles = [replace(p, ttft_ms=Latency(mean_ms=900)) for p in SINGLES]
    quick = pack(128, gain=-0.5, ttft_ms=Latency(mean_ms=100))
    advice = advise(document(*singles, quick), Slo(ttft_ms=300), Settings())
    assert (advice.replicas_per_gpu, advice.best_single, advice.gain) == (2, None, None)
    chosen = next(c for c in advice.candidates if c.verdict is Verdict.CHOSEN)
    assert chosen.checks[-2] == ("Gain", True, "no single engine satisfies, so none can be better", 0, 0)


def test_the_nearest_pack_is_named_where_one_engine_wins() -> None:
    advice = advise(document(*SINGLES, pack(128, gain=0.03), pack(64, preemptions=7)), ANY, Settings())
    assert (
        "No pack is advised. The nearest, B=128 x 2 (MPS): +3.0% against the best single engine, under the least gain of 5.0%."
        in advice.sentences
    )


def test_an_incomplete_measurement_says_so() -> None:
    cut = document(complete=False, incomplete_because="budget of 5 GPU-minutes")
    assert advise(cut, ANY, Settings()).sentences[-1] == (
        "The measurement ended early (budget of 5 GPU-minutes): better points may exist."
    )


class TestUserChoice:
    """spec.sharing.replicasPerGpu wins, at a cost that is told."""

    def test_measured_and_better(self) -> None:
        advice = advise(document(*SINGLES, pack(128), pack(64, 4, gain=0.5)), ANY, Settings(replicas_per_gpu=2))
        assert (advice.batch_size, advice.replicas_per_gpu) == (128, 2)
        assert advice.source.replicas_per_gpu is Source.USER_CHOICE
        assert advice.source.sharing_mode is Source.MEASURED
        assert advice.source.predicted is Source.MEASURED
        assert "The number of engines per GPU, 2, is the user's choice." in advice.sentences

    def test_measured_and_worse_tells_the_cost(self) -> None:
        advice = advise(document(*SINGLES, pack(128, gain=-0.18)), ANY, Settings(replicas_per_gpu=2))
        assert (advice.batch_size, advice.replicas_per_gpu, advice.feasible) == (128, 2, True)
        assert advice.gain == pytest.approx(-0.18)
        assert (
            "That costs 18.0% of the throughput of the best single engine (B=128: 15,238 tokens/s at 16.8 ms)."
            in advice.sentences
        )
        verdicts = {(c.point.batch_size, c.point.replicas): (c.verdict, c.because) for c in advice.candidates}
        assert verdicts[128, 1] == (Verdict.REJECTED, "the user asked for 2 per GPU")
        single = next(c for c in advice.candidates if c.point.replicas == 1)
        assert (single.last.value, single.last.limit) == (1, 2)
        chosen = next(c for c in advice.candidates if c.verdict is Verdict.CHOSEN)
        assert chosen.checks[-2].because == (
            "-18.0% against the best single engine; the user's own number of engines needs no gain"
        )

    def test_never_measured_borrows_from_one_engine(self) -> None:
        advice = advise(document(), ANY, Settings(replicas_per_gpu=2))
        assert (advice.batch_size, advice.replicas_per_gpu, advice.sharing_mode) == (128, 2, SharingMode.MPS)
        assert advice.kv_bytes == pytest.approx(9 * GIB / 0.92, abs=1)
        assert (advice.predicted, advice.gain, advice.feasible) == (None, None, True)
        assert advice.best_single
        assert advice.best_single.batch_size == 128
        parts = advice.source
        assert {parts.kv_bytes, parts.replicas_per_gpu, parts.sharing_mode, parts.predicted} == {Source.USER_CHOICE}
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

    def test_never_measured_in_the_mode_that_the_user_chose(self) -> None:
        settings = Settings(replicas_per_gpu=2, mode=ModeChoice.TIME_SLICING)
        advice = advise(document(*SINGLES, pack(128)), ANY, settings)
        assert (advice.sharing_mode, advice.predicted) == (SharingMode.TIME_SLICING, None)
        assert advice.source.sharing_mode is Source.USER_CHOICE

    def test_a_batch_whose_memory_does_not_fit_the_slice_gives_way(self) -> None:
        """Slices of 16 GiB leave 11 GiB: B = 128 needs 19.6."""
        singles = (*SINGLES[:3], point(128, kv_pool_bytes=20 * GIB))
        advice = advise(document(*singles), ANY, Settings(replicas_per_gpu=4))
        assert (advice.batch_size, advice.replicas_per_gpu, advice.feasible) == (64, 4, True)
        assert advice.kv_bytes
        assert advice.kv_bytes <= 11 * GIB
        assert advice.sentences[-1] == (
            "B=128 would be faster and needs 19.6 GiB of KV cache, where such a slice leaves 11.0 GiB: "
            "give fewer engines per GPU to have it."
        )

    def test_a_slice_that_the_kv_cache_just_fills_is_large_enough(self) -> None:
        ledger = replace(LEDGER, device_bytes=30 * GIB, kv_pool_bytes=10 * GIB)
        gpu = replace(document().gpu, memory_bytes=30 * GIB)
        exact = [replace(p, confirmed=True) for p in SINGLES]
        advice = advise(document(*exact, ledger=ledger, gpu=gpu), ANY, Settings(replicas_per_gpu=2))
        assert (advice.feasible, advice.batch_size, advice.kv_bytes) == (True, 128, 10 * GIB)

    def test_more_engines_than_memory_holds(self) -> None:
        advice = advise(document(), ANY, Settings(replicas_per_gpu=8))
        assert not advice.feasible
        assert (advice.replicas_per_gpu, advice.batch_size) == (4, 1)
        assert advice.closest
        assert advice.closest.check == "Memory"
        assert advice.closest.missed_by == pytest.approx(14.783 / 8 - 1, rel=1e-3)
        assert advice.sentences[:2] == (
            "The request cannot be met: 8 engines per GPU leave each 8.0 GiB, and one needs 14.8 GiB even at B=1.",
            "Ask for at most 4 per GPU, or use a GPU with more memory, a quantised model or a smaller maxModelLen.",
        )

    def test_as_many_engines_as_just_fit(self) -> None:
        """Three slices of 15 GiB hold 5 GiB of engine and 10 GiB of KV cache to the byte."""
        ledger = replace(LEDGER, device_bytes=45 * GIB, kv_pool_bytes=10 * GIB)
        gpu = replace(document().gpu, memory_bytes=45 * GIB)
        exact = [replace(p, confirmed=True) for p in SINGLES]
        advice = advise(document(*exact, ledger=ledger, gpu=gpu), ANY, Settings(replicas_per_gpu=4))
        assert (advice.feasible, advice.replicas_per_gpu, advice.kv_bytes) == (False, 3, 10 * GIB)

    def test_a_gpu_for_one_engine_only(self) -> None:
        ledger = replace(LEDGER, device_bytes=16 * GIB, kv_pool_bytes=10 * GIB)
        gpu = replace(document().gpu, memory_bytes=16 * GIB)
        advice = advise(document(ledger=ledger, gpu=gpu), ANY, Settings(replicas_per_gpu=2))
        assert (advice.replicas_per_gpu, advice.sharing_mode, advice.feasible) == (1, SharingMode.NONE, False)
        assert advice.predicted

    def test_measured_packs_of_that_size_all_miss_the_slo(self) -> None:
        late = pack(128), pack(64, gain=0.1)
        advice = advise(document(*SINGLES, *late), Slo(itl_ms=15), Settings(replicas_per_gpu=2))
        assert (advice.batch_size, advice.replicas_per_gpu, advice.feasible) == (64, 2, False)
        assert advice.closest
        assert advice.closest.check == "SLO"

    def test_measured_packs_that_preempt_are_as_good_as_unmeasured(self) -> None:
        advice = advise(document(*SINGLES, pack(128, preemptions=5)), ANY, Settings(replicas_per_gpu=2))
        assert (advice.batch_size, advice.predicted, advice.feasible) == (128, None, True)

    def test_neither_a_pack_measured_nor_the_slo_met(self) -> None:
        advice = advise(document(), Slo(itl_ms=3), Settings(replicas_per_gpu=2))
        assert (advice.batch_size, advice.replicas_per_gpu, advice.feasible) == (1, 2, False)
        assert (advice.predicted, advice.best_single) == (None, None)
        assert advice.closest
        assert advice.closest.because == "at B=1 mean ITL 4.1 ms exceeds 3.0 ms"

    def test_without_a_ledger_the_slice_is_not_judged(self) -> None:
        advice = advise(document(ledger=None), ANY, Settings(replicas_per_gpu=8))
        assert (advice.replicas_per_gpu, advice.feasible, advice.batch_size) == (8, True, 128)

    def test_exactly_one_engine(self) -> None:
        advice = advise(document(*SINGLES, pack(128)), ANY, Settings(replicas_per_gpu=1))
        assert (advice.replicas_per_gpu, advice.batch_size) == (1, 128)
        assert advice.source.replicas_per_gpu is Source.USER_CHOICE


class TestLoad:
    """Candidates are compared at the requests in flight that will come."""

    def test_of_the_document(self) -> None:
        workload = replace(document().workload, concurrency=32)
        assert advise(document(workload=workload), ANY, Settings()).load.in_flight == 32
        assert advise(document(workload=workload), ANY, Settings(concurrency=64)).load.in_flight == 64

    def test_measured_single_engine_at_that_load_with_the_smallest_batch_that_holds_it(self) -> None:
        advice = advise(document(*SINGLES, pack(128)), ANY, Settings(concurrency=64))
        assert (advice.batch_size, advice.replicas_per_gpu) == (64, 1)
        assert advice.source.predicted is Source.MEASURED
        because = {(c.point.batch_size, c.point.replicas): c.checks for c in advice.candidates}
        assert because[128, 2][-1].because == (
            "fills only with 256 requests in flight and was not measured with 64: profile it at that load"
        )
        assert because[128, 1][-3].because == "with 64 requests in flight it does what was measured at that load"

    def test_between_points_one_engine_is_predicted(self) -> None:
        advice = advise(document(), ANY, Settings(concurrency=50))
        assert advice.predicted
        assert advice.predicted.source is Source.PREDICTED
        assert advice.predicted.output_tokens_per_second == pytest.approx(1000 * 50 / 9)
        assert advice.predicted.itl_ms == pytest.approx(9)
        assert "predicted between measured points" in advice.message

    def test_with_one_point_only_the_straight_line_below_it(self) -> None:
        only = document(point(1), point(64, marks=(Mark.WIDE,)), replace(point(1), max_num_batched_tokens=99))
        assert advise(only, ANY, Settings(concurrency=1)).batch_size == 1
        big = point(1, replicas=1)
        scarce = document(big, replace(point(40), max_num_batched_tokens=512))
        advice = advise(scarce, ANY, Settings(concurrency=20))
        assert advice.predicted
        assert advice.predicted.throughput_tokens_per_second == pytest.approx(
            point(40).throughput_tokens_per_second * 20 / 40
        )
        assert advice.predicted.itl_ms == point(40).itl_ms.mean_ms

    def test_a_pack_that_pays_at_full_batches_but_loses_at_the_load(self) -> None:
        thin = pack(128, gain=-0.3, in_flight=50)
        advice = advise(document(*SINGLES, pack(128), thin), ANY, Settings(concurrency=50))
        assert advice.replicas_per_gpu == 1
        because = {(c.point.in_flight, c.point.replicas): c.because for c in advice.candidates}
        assert because[50, 2].startswith("-")
        assert because[None, 2] == (
            "with 50 requests in flight its batches do not fill; it was measured at that load too, and that point decides"
        )
        assert advice.pays_from_in_flight
        assert advice.pays_from_in_flight > 50

    def test_a_pack_measured_at_the_load_where_it_wins(self) -> None:
        there = pack(128, gain=0.15, in_flight=100)
        advice = advise(document(*SINGLES, there), ANY, Settings(concurrency=101))
        assert advice.replicas_per_gpu == 2
        assert advice.gain is not None
        chosen = next(c for c in advice.candidates if c.verdict is Verdict.CHOSEN)
        assert ("Load", "measured with 100 requests in flight") in [(c.name, c.because) for c in chosen.checks]

    def test_a_load_within_the_tolerance_fills_the_batches(self) -> None:
        assert advise(document(*SINGLES, pack(128)), ANY, Settings(concurrency=244)).replicas_per_gpu == 2
        assert advise(document(*SINGLES, pack(128)), ANY, Settings(concurrency=243)).replicas_per_gpu == 1

    def test_a_prediction_brings_its_noise(self) -> None:
        """Singles off the line by 30 %: a gain of 15 % over a prediction from them is noise."""
        off = (1, 0.8, 0.7, 1.3, 0.8)
        crooked = [
            point(p.batch_size, output=p.output_tokens_per_second * f, itl=p.itl_ms.mean_ms / f)
            for p, f in zip((*SINGLES, point(16)), off, strict=True)
        ]

        def with_pack(singles: list[Point]) -> int:
            alone = advise(document(*singles), ANY, Settings(concurrency=100)).predicted
            assert alone
            assert (alone.source, alone.replicas_per_gpu) == (Source.PREDICTED, 1)
            there = pack(128, output=alone.output_tokens_per_second * 1.15, in_flight=100)
            return advise(document(*singles, there), ANY, Settings(concurrency=100)).replicas_per_gpu

        assert with_pack(list(SINGLES)) == 2
        assert with_pack(crooked) == 1

    def test_a_request_rate_becomes_requests_in_flight(self) -> None:
        """ITL = 4 + 0.1 B and 100 output tokens: 20 requests/s are N = 2 (4 + 0.1 N), so N = 10."""
        advice = advise(document(), ANY, Settings(requests_per_second=20))
        assert advice.load.in_flight == 10

    def test_more_requests_than_one_engine_serves_fill_every_batch(self) -> None:
        """At most 10,000 output tokens per second: 100 requests/s."""
        assert advise(document(), ANY, Settings(requests_per_second=100.1)).load.in_flight is None

    def test_a_rate_without_two_batch_sizes_is_taken_as_full_batches(self) -> None:
        assert advise(document(point(1)), ANY, Settings(requests_per_second=5)).load.in_flight is None

    def test_a_trickle_is_one_request(self) -> None:
        assert advise(document(), ANY, Settings(requests_per_second=0.01)).load.in_flight == 1


class TestPaysFrom:
    """The load from which a pack pays, from the lines fitted to both."""

    def test_where_the_lines_cross(self) -> None:
        """Pack of two: time per token 6 + 0.04 N against 4 + 0.1 N; 5 % better from N = 39.6 on."""
        packs = [pack(n // 2, output=1000 * n / (6 + 0.04 * n)) for n in (64, 128, 256)]
        advice = advise(document(*SINGLES, *packs), ANY, Settings())
        assert advice.replicas_per_gpu == 2
        assert advice.pays_from_in_flight == 40
        assert any("A pack pays from about 40 requests in flight per GPU." in s for s in advice.sentences)

    def test_with_one_load_measured_it_is_that_load(self) -> None:
        assert advise(document(*SINGLES, pack(128)), ANY, Settings()).pays_from_in_flight == 256

    def test_unknown_without_a_line_for_one_engine(self) -> None:
        only = document(point(1), replace(point(128), max_num_batched_tokens=512), pack(128))
        advice = advise(only, ANY, Settings())
        assert (advice.replicas_per_gpu, advice.pays_from_in_flight) == (2, None)

    def test_unknown_where_the_lines_do_not_cross(self) -> None:
        """The pack's points scatter: the line through them stays below the gate, one point does not."""
        packs = (pack(64, output=9900), pack(128, output=8300), pack(256, output=8300))
        advice = advise(document(*SINGLES, *packs), ANY, Settings(min_gain=0.2))
        assert advice.replicas_per_gpu == 2

    def test_untrusted_packs_bend_no_line(self) -> None:
        packs = [pack(n // 2, output=1000 * n / (6 + 0.04 * n)) for n in (64, 128, 256)]
        spoiled = pack(32, output=100.0, preemptions=4)
        assert advise(document(*SINGLES, *packs, spoiled), ANY, Settings()).pays_from_in_flight == 40

    def test_not_told_where_a_pack_lost_at_full_batches(self) -> None:
        assert advise(document(*SINGLES, pack(128, gain=0.01)), ANY, Settings()).pays_from_in_flight is None


class TestInfeasible:
    def test_slo_below_the_itl_of_one_sequence(self) -> None:
        advice = advise(document(*SINGLES, pack(64)), Slo(itl_ms=2), Settings())
        assert (advice.feasible, advice.batch_size, advice.replicas_per_gpu) == (False, 1, 1)
        assert advice.closest
        assert (advice.closest.value, advice.closest.limit) == (pytest.approx(4.1), 2)
        assert advice.closest.missed_by == pytest.approx(1.05)
        assert (advice.best_single, advice.gain) == (None, None)
        assert advice.predicted
        assert advice.predicted.itl_ms == pytest.approx(4.1)
        assert advice.sentences[:3] == (
            "The request cannot be met: at B=1 mean ITL 4.1 ms exceeds 2.0 ms.",
            "Raise the limit to at least 4.1 ms, or use a faster GPU, or a smaller or quantised model.",
            "Closest is one engine per GPU, each with at most one sequence at once and 9.8 GiB of KV cache.",
        )

    def test_percentile_that_nothing_supports(self) -> None:
        advice = advise(document(), Slo(itl_ms=50, percentile=Percentile.P99), Settings())
        assert advice.closest
        assert (advice.closest.value, advice.closest.missed_by) == (None, None)
        assert advice.sentences[1] == "Measure for longer, or ask for the mean instead of a percentile."

    def test_a_gpu_that_is_too_small(self) -> None:
        advice = advise(document(), ANY, Settings(gpu_memory_bytes=8 * GIB))
        assert advice.closest
        assert (advice.closest.check, advice.freed_bytes) == ("Memory", 0)
        assert advice.sentences[1].startswith("Use a GPU with more memory")

    def test_only_a_failed_confirmation_is_left(self) -> None:
        advice = advise(document(point(1), point(1, confirmed=True, preemptions=2)), ANY, Settings())
        assert advice.closest
        assert advice.closest.mend == "measure again, with a larger KV pool or a smaller batch"
        assert advice.closest.missed_by is None

    @pytest.mark.parametrize(("itl", "enough"), [(4.1, "4.1"), (4.10001, "4.2"), (4.14, "4.2"), (4.19, "4.2")])
    def test_the_limit_that_it_asks_for_is_enough(self, itl: float, enough: str) -> None:
        one = document(point(1, itl=itl))
        closest = advise(one, Slo(itl_ms=2), Settings()).closest
        assert closest
        assert closest.mend.startswith(f"raise the limit to at least {enough} ms,")
        assert advise(one, Slo(itl_ms=float(enough)), Settings()).feasible

    def test_a_point_of_another_load_is_not_the_closest(self) -> None:
        elsewhere = point(64, in_flight=2, itl=2.5)
        advice = advise(document(*SINGLES, elsewhere), Slo(itl_ms=2), Settings())
        assert advice.batch_size == 1


class TestFreeMemory:
    """No fewer tokens per second than the best single engine, in the least memory."""

    FREE = Settings(objective=Objective.FREE_MEMORY)

    def test_a_small_pack_that_is_as_fast(self) -> None:
        small, large = pack(64, gain=0.01, kv_pool_bytes=2 * GIB), pack(128, gain=0.3)
        big = point(128, kv_pool_bytes=50 * GIB)
        advice = advise(document(*SINGLES[:3], big, small, large), ANY, self.FREE)
        assert (advice.batch_size, advice.replicas_per_gpu) == (64, 2)
        assert advice.freed_bytes == 64 * GIB - 2 * 7 * GIB
        assert advice.sentences[-1].startswith("The objective was to free memory")
        chosen = next(c for c in advice.candidates if c.verdict is Verdict.CHOSEN)
        assert (
            chosen.because == "the least memory of all that make no less than the best single engine: 15,390 tokens/s"
        )
        assert chosen.checks[-2].because == "+1.0% against the best single engine; equal throughput is asked"
        assert chosen.checks[-2].limit == 0

    def test_a_small_pack_that_is_exactly_as_fast(self) -> None:
        advice = advise(document(*SINGLES, pack(64, gain=0, kv_pool_bytes=2 * GIB)), ANY, self.FREE)
        assert (advice.batch_size, advice.replicas_per_gpu, advice.gain) == (64, 2, 0)

    def test_a_slower_pack_frees_nothing(self) -> None:
        slow = pack(64, gain=-0.01, kv_pool_bytes=GIB)
        advice = advise(document(*SINGLES, slow), ANY, self.FREE)
        assert (advice.batch_size, advice.replicas_per_gpu) == (128, 1)

    def test_without_a_ledger_sequences_stand_for_bytes(self) -> None:
        advice = advise(document(*SINGLES, pack(48, gain=0.01), pack(100, gain=0.3), ledger=None), ANY, self.FREE)
        assert (advice.batch_size, advice.replicas_per_gpu) == (48, 2)

    def test_of_equal_memory_the_faster(self) -> None:
        one, two = pack(50, gain=0.1), pack(60, gain=0.2)
        big = point(128, kv_pool_bytes=50 * GIB)
        assert advise(document(*SINGLES[:3], big, one, two), ANY, self.FREE).batch_size == 60

    def test_a_pack_that_has_nothing_to_beat(self) -> None:
        singles = [replace(p, ttft_ms=Latency(mean_ms=900)) for p in SINGLES]
        quick = pack(128, gain=-0.5, ttft_ms=Latency(mean_ms=100))
        assert advise(document(*singles, quick), Slo(ttft_ms=300), self.FREE).replicas_per_gpu == 2

    def test_the_users_own_pack_may_be_slower(self) -> None:
        settings = replace(self.FREE, replicas_per_gpu=2)
        assert advise(document(*SINGLES, pack(128, gain=-0.2)), ANY, settings).batch_size == 128


class TestMemory:
    def test_a_pack_that_does_not_tell_its_pool_gets_all_that_its_slice_leaves(self) -> None:
        advice = advise(document(*SINGLES, pack(128, kv_pool_bytes=None)), ANY, Settings())
        assert advice.kv_bytes == 32 * GIB - 5 * GIB
        assert advice.freed_bytes == 0

    def test_a_pack_whose_slice_leaves_nothing_is_rejected(self) -> None:
        advice = advise(document(*SINGLES, pack(4, 16, kv_pool_bytes=None)), ANY, Settings())
        rejected = next(c for c in advice.candidates if c.point.replicas == 16)
        assert rejected.checks[-1].name == "Memory"

    def test_a_single_engine_that_does_not_tell_its_pool_had_that_of_the_ledger(self) -> None:
        singles = [replace(p, kv_pool_bytes=None) for p in SINGLES]
        advice = advise(document(*singles), ANY, Settings())
        assert advice.kv_bytes == pytest.approx(0.9 * 54 * GIB / 0.92, abs=1)

    def test_the_pool_holds_one_sequence_of_the_longest_length(self) -> None:
        model = replace(document().model, max_model_len=65536)
        assert advise(document(model=model), ANY, Settings()).kv_bytes == 65536 * 192 * 1024

    def test_a_larger_gpu_leaves_more_free(self) -> None:
        freed = advise(document(), ANY, Settings()).freed_bytes or 0
        assert advise(document(), ANY, Settings(gpu_memory_bytes=80 * GIB)).freed_bytes == freed + 16 * GIB

    def test_nothing_free_is_not_mentioned_and_little_room_holds_no_engine(self) -> None:
        some = advise(document(), ANY, Settings(gpu_memory_bytes=17 * GIB))
        assert any(s.endswith("GiB of the GPU stay free.") for s in some.sentences)
        full = advise(document(*SINGLES, pack(128, kv_pool_bytes=None)), ANY, Settings())
        assert not any("stay free" in s for s in full.sentences)


@pytest.mark.parametrize(
    ("in_flight", "because"),
    [
        (19, "measured with full batches"),
        (18, "with 18 requests in flight its figures are predicted from the points around"),
    ],
)
def test_a_load_of_95_per_cent_of_the_batches_fills_them(in_flight: int, because: str) -> None:
    advice = advise(document(point(1), point(20)), ANY, Settings(concurrency=in_flight))
    assert because in [c.because for c in advice.candidates[-1].checks]


def test_the_frontier_holds_what_nobody_beats() -> None:
    worse = pack(64, gain=-0.3)
    spoiled, partial = point(256, preemptions=1), pack(128, in_flight=10)
    advice = advise(document(*SINGLES, pack(128), worse, spoiled, partial), ANY, Settings())
    assert [(p.batch_size, p.replicas) for p in advice.pareto_frontier] == [
        (1, 1),
        (32, 1),
        (64, 1),
        (128, 1),
        (128, 2),
    ]


def test_figures_of_a_candidate_are_its_points_where_nothing_else_is_said() -> None:
    advice = advise(document(), ANY, Settings())
    assert advice.candidates[0].figures.itl_ms == pytest.approx(4.1)
    predicted = advise(document(), ANY, Settings(concurrency=50)).candidates
    assert predicted[-1].figures.source is Source.PREDICTED


def test_the_load_of_the_workload_is_ignored_where_a_rate_is_given() -> None:
    workload = Workload(source="fixed", input_tokens_mean=100, output_tokens_mean=100, concurrency=7)
    assert advise(document(workload=workload), ANY, Settings(requests_per_second=20)).load.in_flight == 10


@pytest.mark.parametrize("in_flight", [244, 256, 300])
def test_a_load_that_fills_the_batches_is_full(in_flight: int) -> None:
    assert advise(document(*SINGLES, pack(128, in_flight=in_flight)), ANY, Settings()).replicas_per_gpu == 2


def test_two_of_four_engines_that_fit_are_still_unmeasured() -> None:
    ledger = replace(LEDGER, device_bytes=32 * GIB, kv_pool_bytes=10 * GIB)
    gpu = replace(document().gpu, memory_bytes=32 * GIB)
    advice = advise(document(ledger=ledger, gpu=gpu), ANY, Settings(replicas_per_gpu=4))
    assert (advice.replicas_per_gpu, advice.predicted, advice.feasible) == (2, None, False)
