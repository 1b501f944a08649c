"""The joint choice: no regret, SLOs that nothing meets, free memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from slm_core.candidates import Check, CheckName, Source, Verdict
from slm_core.measurements import Latency, SharingMode
from slm_core.slo import Slo, Statistic
from slm_core.units import GIB
from slm_operator.advisor.advice import Objective, Settings
from slm_operator.advisor.advise import advise

from tests.builders import SINGLES, document, pack, point

ANY = Slo()


def test_one_engine_without_packs() -> None:
    advice = advise(document(), ANY, Settings())
    assert (
        advice.configuration.batch_size,
        advice.configuration.engines_per_gpu,
        advice.configuration.sharing_mode,
    ) == (128, 1, SharingMode.EXCLUSIVE)
    assert advice.configuration.kv_cache_bytes == pytest.approx(9 * GIB / 0.92, abs=1)
    assert advice.freed_bytes == 64 * GIB - 5 * GIB - advice.configuration.kv_cache_bytes
    assert advice.configuration.max_num_batched_tokens == 2048
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
    assert (
        advice.configuration.batch_size,
        advice.configuration.engines_per_gpu,
        advice.configuration.sharing_mode,
    ) == (128, 2, SharingMode.MPS)
    assert advice.gain == pytest.approx(0.2)
    assert advice.configuration.kv_cache_bytes == 10 * GIB
    assert advice.source.engines_per_gpu is Source.MEASURED
    assert "That is +20.0% against the best single engine (B=128: 15,238 tokens/s at 16.8 ms)." in advice.sentences


def test_token_budget_is_the_points_and_at_least_the_batch() -> None:
    assert (
        advise(
            document(*SINGLES, point(256, max_num_batched_tokens=512)), ANY, Settings()
        ).configuration.max_num_batched_tokens
        == 512
    )
    assert (
        advise(
            document(*SINGLES, point(4096)), ANY, Settings(min_efficiency=0.001)
        ).configuration.max_num_batched_tokens
        == 4096
    )


def test_smaller_batch_is_chosen_at_equal_throughput() -> None:
    twin = point(256, output=SINGLES[3].output_tokens_per_second)
    twin = replace(twin, itl_ms=Latency(mean_ms=33.6), mean_running=256)
    assert advise(document(*SINGLES, twin), ANY, Settings()).configuration.batch_size == 128


def test_pack_needs_no_gain_where_no_single_engine_meets_slo() -> None:
    singles = [replace(p, ttft_ms=Latency(mean_ms=900)) for p in SINGLES]
    quick = pack(128, gain=-0.5, ttft_ms=Latency(mean_ms=100))
    advice = advise(document(*singles, quick), Slo(ttft_ms=300), Settings())
    assert (advice.configuration.engines_per_gpu, advice.best_single, advice.gain) == (2, None, None)
    chosen = next(c for c in advice.candidates if c.verdict is Verdict.CHOSEN)
    assert chosen.checks[-2] == Check(CheckName.GAIN, True, "no single engine satisfies, so none can be better")


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


class TestInfeasible:
    def test_slo_below_the_itl_of_one_sequence(self) -> None:
        advice = advise(document(*SINGLES, pack(64)), Slo(itl_ms=2), Settings())
        assert (advice.feasible, advice.configuration.batch_size, advice.configuration.engines_per_gpu) == (False, 1, 1)
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
        advice = advise(document(), Slo(itl_ms=50, itl_statistic=Statistic.P99), Settings())
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
        assert advice.closest.remedy == "measure again, with a larger KV pool or a smaller batch"
        assert advice.closest.missed_by is None

    @pytest.mark.parametrize(("itl", "enough"), [(4.1, "4.1"), (4.10001, "4.2"), (4.14, "4.2"), (4.19, "4.2")])
    def test_the_limit_that_it_asks_for_is_enough(self, itl: float, enough: str) -> None:
        one = document(point(1, itl=itl))
        closest = advise(one, Slo(itl_ms=2), Settings()).closest
        assert closest
        assert closest.remedy.startswith(f"raise the limit to at least {enough} ms,")
        assert advise(one, Slo(itl_ms=float(enough)), Settings()).feasible

    def test_a_point_of_another_load_is_not_the_closest(self) -> None:
        elsewhere = point(64, in_flight=2, itl=2.5)
        advice = advise(document(*SINGLES, elsewhere), Slo(itl_ms=2), Settings())
        assert advice.configuration.batch_size == 1


class TestFreeMemory:
    """No fewer tokens per second than the best single engine, in the least memory."""

    FREE = Settings(objective=Objective.FREE_MEMORY)

    def test_a_small_pack_that_is_as_fast(self) -> None:
        small, large = pack(64, gain=0.01, kv_pool_bytes=2 * GIB), pack(128, gain=0.3)
        big = point(128, kv_pool_bytes=50 * GIB)
        advice = advise(document(*SINGLES[:3], big, small, large), ANY, self.FREE)
        assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu) == (64, 2)
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
        assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu, advice.gain) == (64, 2, 0)

    def test_a_slower_pack_frees_nothing(self) -> None:
        slow = pack(64, gain=-0.01, kv_pool_bytes=GIB)
        advice = advise(document(*SINGLES, slow), ANY, self.FREE)
        assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu) == (128, 1)

    def test_free_memory_without_ledger_counts_sequences(self) -> None:
        advice = advise(document(*SINGLES, pack(48, gain=0.01), pack(100, gain=0.3), ledger=None), ANY, self.FREE)
        assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu) == (48, 2)

    def test_free_memory_takes_the_faster_of_equal_memory(self) -> None:
        one, two = pack(50, gain=0.1), pack(60, gain=0.2)
        big = point(128, kv_pool_bytes=50 * GIB)
        assert advise(document(*SINGLES[:3], big, one, two), ANY, self.FREE).configuration.batch_size == 60

    def test_a_pack_that_has_nothing_to_beat(self) -> None:
        singles = [replace(p, ttft_ms=Latency(mean_ms=900)) for p in SINGLES]
        quick = pack(128, gain=-0.5, ttft_ms=Latency(mean_ms=100))
        assert advise(document(*singles, quick), Slo(ttft_ms=300), self.FREE).configuration.engines_per_gpu == 2

    def test_the_users_own_pack_may_be_slower(self) -> None:
        settings = replace(self.FREE, engines_per_gpu=2)
        assert advise(document(*SINGLES, pack(128, gain=-0.2)), ANY, settings).configuration.batch_size == 128


class TestMemory:
    def test_pack_without_kv_pool_gets_what_its_slice_leaves(self) -> None:
        advice = advise(document(*SINGLES, pack(128, kv_pool_bytes=None)), ANY, Settings())
        assert advice.configuration.kv_cache_bytes == 32 * GIB - 5 * GIB
        assert advice.freed_bytes == 0

    def test_a_pack_whose_slice_leaves_nothing_is_rejected(self) -> None:
        advice = advise(document(*SINGLES, pack(4, 16, kv_pool_bytes=None)), ANY, Settings())
        rejected = next(c for c in advice.candidates if c.point.replicas == 16)
        assert rejected.checks[-1].name == "Memory"

    def test_single_engine_without_kv_pool_has_the_ledgers(self) -> None:
        singles = [replace(p, kv_pool_bytes=None) for p in SINGLES]
        advice = advise(document(*singles), ANY, Settings())
        assert advice.configuration.kv_cache_bytes == pytest.approx(0.9 * 54 * GIB / 0.92, abs=1)

    def test_the_pool_holds_one_sequence_of_the_longest_length(self) -> None:
        model = replace(document().model, max_model_len=65536)
        assert advise(document(model=model), ANY, Settings()).configuration.kv_cache_bytes == (65536 + 128) * 192 * 1024

    def test_a_larger_gpu_leaves_more_free(self) -> None:
        freed = advise(document(), ANY, Settings()).freed_bytes or 0
        assert advise(document(), ANY, Settings(gpu_memory_bytes=80 * GIB)).freed_bytes == freed + 16 * GIB

    def test_freed_memory_too_small_for_an_engine_promises_none(self) -> None:
        some = advise(document(), ANY, Settings(gpu_memory_bytes=17 * GIB))
        assert any(s.endswith("GiB of the GPU stay free.") for s in some.sentences)
        full = advise(document(*SINGLES, pack(128, kv_pool_bytes=None)), ANY, Settings())
        assert not any("stay free" in s for s in full.sentences)


def test_pareto_frontier_holds_points_that_nothing_beats() -> None:
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


def test_candidate_without_prediction_has_its_points_figures() -> None:
    advice = advise(document(), ANY, Settings())
    assert advice.candidates[0].figures.itl_ms == pytest.approx(4.1)
    predicted = advise(document(), ANY, Settings(concurrency=50)).candidates
    assert predicted[-1].figures.source is Source.PREDICTED
