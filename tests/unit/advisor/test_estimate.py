"""What is said before anything is measured, and that it is never taken for more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from slm_core.architecture import read_architecture
from slm_core.candidates import Source
from slm_core.measurements import SharingMode, Workload
from slm_core.slo import Slo
from slm_core.units import GIB
from slm_operator.advisor.advice import Settings
from slm_operator.advisor.validate import AdviceError
from slm_operator.estimator.estimate import Calibration, Subject, advise_unmeasured, estimate, estimate_ledger
from slm_operator.estimator.gpus import Accelerator

from tests.builders import H100_64GB, configs

SHARE_GPT = Workload(source="ShareGPT", input_tokens_mean=111, output_tokens_mean=292)
GPU = Accelerator(
    product=H100_64GB.product,
    memory_bytes=H100_64GB.memory_bytes,
    bytes_per_second=2.02e12,
    source="2,020 GB/s by data sheet",
)
SMALL = Subject(model=read_architecture(configs.OPT_1_3B), gpu=GPU, workload=SHARE_GPT)


class TestModel:
    def test_the_ledger_adds_up_to_what_an_engine_takes(self) -> None:
        ledger = estimate_ledger(SMALL.model, GPU)
        assert ledger.fixed_bytes + ledger.kv_pool_bytes == int(GPU.memory_bytes * 0.92)
        assert ledger.weights_bytes == SMALL.model.weights_bytes
        assert ledger.kv_pool_bytes == pytest.approx(54.48e9, rel=0.1)

    def test_activations_are_those_of_one_step_and_its_logits(self) -> None:
        model = SMALL.model
        found = estimate_ledger(model, GPU).activation_peak_bytes
        assert found == 2048 * 8 * model.hidden_size * 2 + 256 * model.vocabulary * 4 * 2

    def test_throughput_is_batch_over_step(self) -> None:
        first = estimate(SMALL).points[0]
        assert first.output_tokens_per_second == pytest.approx(1000 / first.itl_ms.mean_ms)
        assert first.throughput_tokens_per_second == pytest.approx(first.output_tokens_per_second * 403 / 292)

    def test_a_step_is_host_plus_weights_plus_cache(self) -> None:
        roofline = Calibration(
            weight_bandwidth_fraction=1, kv_bandwidth_fraction=1, host_ms_per_layer=0, host_ms_per_sequence=0
        )
        ideal = replace(SMALL, calibration=roofline)
        read = SMALL.model.active_bytes + 10 * (111 + 146) * 196608
        assert ideal.itl_ms(10) == pytest.approx(read / 2.02e9)
        slow = replace(ideal, calibration=replace(roofline, host_ms_per_layer=0.5, host_ms_per_sequence=0.25))
        assert slow.itl_ms(10) == pytest.approx(ideal.itl_ms(10) + 24 * 0.5 + 10 * 0.25)
        half = replace(ideal, calibration=replace(roofline, kv_bandwidth_fraction=0.5))
        assert half.itl_ms(10) - ideal.itl_ms(10) == pytest.approx(10 * 257 * 196608 / 2.02e9)

    @pytest.mark.parametrize(
        ("batch", "measured_ms"), [(1, 3.623), (32, 7.51), (96, 13.894), (256, 29.273), (512, 52.111)]
    )
    def test_within_a_quarter_of_the_published_sweep(self, batch: int, measured_ms: float) -> None:
        """No promise to anybody: an estimate never justifies a pack."""
        assert SMALL.itl_ms(batch) == pytest.approx(measured_ms, rel=0.25)

    def test_step_reads_the_experts_that_its_batch_uses(self) -> None:
        sparse = replace(SMALL, model=read_architecture(configs.MIXTRAL_8X7B))
        one, many = sparse.memory_ms(1), sparse.memory_ms(64)
        cache = 257 * 131072 / (2.02e9 * 0.46)
        assert one - cache == pytest.approx(sparse.model.active_bytes / (2.02e9 * 0.82))
        all_read = sparse.model.active_bytes + 0.75 * sparse.model.expert_bytes
        assert many - 64 * cache == pytest.approx(all_read / (2.02e9 * 0.82), rel=1e-6)

    def test_estimated_points_end_where_memory_ends(self) -> None:
        found = estimate(SMALL)
        assert found.largest_batch_size == 686
        assert [p.batch_size for p in found.points] == [1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512]
        assert found.points[-1].kv_peak_fraction == pytest.approx(512 / 686 * 0.92, rel=0.01)

    def test_a_batch_that_just_fits_is_a_point(self) -> None:
        pool = estimate_ledger(SMALL.model, GPU).kv_pool_bytes
        tokens = pool * 0.92 / 64.001 / 196608
        tight = replace(SMALL, workload=replace(SHARE_GPT, input_tokens_mean=tokens - 1, output_tokens_mean=1))
        found = estimate(tight)
        assert (found.largest_batch_size, found.points[-1].batch_size) == (64, 64)


class TestPackHint:
    def test_pack_of_a_small_model_is_worth_measuring(self) -> None:
        found = estimate(SMALL)
        assert found.pack_worth_measuring
        assert found.because == (
            "A pack is worth measuring: memory is idle for an estimated 46% of a step, which a second engine may fill."
        )

    def test_two_engines_that_do_not_fit(self) -> None:
        large = replace(SMALL, model=read_architecture(configs.LLAMA_2_13B), gpu=replace(GPU, memory_bytes=40 * GIB))
        found = estimate(large)
        assert not found.pack_worth_measuring
        assert found.because == "A pack is not worth measuring: two engines do not fit this GPU."

    def test_two_engines_that_fit_only_beyond_what_an_engine_may_use(self) -> None:
        fixed = estimate_ledger(SMALL.model, GPU).fixed_bytes
        tight = replace(SMALL, gpu=replace(GPU, memory_bytes=int(2.05 * fixed)))
        assert estimate(tight).because == "A pack is not worth measuring: two engines do not fit this GPU."

    @pytest.mark.parametrize(("gb_per_second", "idle", "worth"), [(380, "14%", False), (440, "16%", True)])
    def test_pack_is_worth_measuring_at_15_per_cent_idle_memory(
        self, gb_per_second: int, idle: str, *, worth: bool
    ) -> None:
        found = estimate(replace(SMALL, gpu=replace(GPU, bytes_per_second=gb_per_second * 1e9)))
        assert idle in found.because
        assert found.pack_worth_measuring is worth

    def test_pack_is_not_worth_measuring_if_memory_never_idles(self) -> None:
        busy = replace(SMALL, gpu=replace(GPU, bytes_per_second=2e11))
        found = estimate(busy)
        assert not found.pack_worth_measuring
        assert found.because == (
            "A pack is hardly worth measuring: memory works for all but an estimated 8% of a step."
        )


class TestAdvice:
    def test_estimate_is_labelled_everywhere(self) -> None:
        advice = advise_unmeasured("hf://facebook/opt-1.3b", SMALL, Slo(itl_factor=2), Settings())
        assert (
            advice.configuration.batch_size,
            advice.configuration.engines_per_gpu,
            advice.configuration.sharing_mode,
        ) == (96, 1, SharingMode.EXCLUSIVE)
        parts = advice.source
        assert {parts.batch_size, parts.kv_bytes, parts.engines_per_gpu, parts.sharing_mode, parts.predicted} == {
            Source.ESTIMATED
        }
        assert advice.predicted
        assert advice.best_single
        assert advice.predicted.source is advice.best_single.source is Source.ESTIMATED
        assert advice.sentences[1].endswith("estimated.")
        assert advice.sentences[-2:] == (
            "This is an estimate from the model's configuration (2,020 GB/s by data sheet), not a measurement.",
            estimate(SMALL).because,
        )

    def test_estimate_never_advises_a_pack(self) -> None:
        advice = advise_unmeasured("hf://facebook/opt-1.3b", SMALL, Slo(), Settings(min_gain=0))
        assert advice.configuration.engines_per_gpu == 1

    def test_estimate_packs_where_the_user_says_so(self) -> None:
        advice = advise_unmeasured("hf://facebook/opt-1.3b", SMALL, Slo(itl_factor=2), Settings(engines_per_gpu=2))
        assert (advice.configuration.engines_per_gpu, advice.predicted) == (2, None)
        assert advice.source.engines_per_gpu is Source.USER_CHOICE

    def test_a_model_that_does_not_fit(self) -> None:
        tiny = replace(SMALL, gpu=replace(GPU, memory_bytes=2 * GIB))
        with pytest.raises(AdviceError) as raised:
            advise_unmeasured("hf://facebook/opt-1.3b", tiny, Slo(), Settings())
        assert str(raised.value) == (
            "model: an engine is estimated to need 3.3 GiB before its first sequence, "
            "and NVIDIA-H100-64GB has 2.0 GiB: use a larger GPU, or a quantised model"
        )
