"""Sizes from config.json against what is published of the models."""

from __future__ import annotations

from typing import Any

import pytest
from slm_core.architecture import ConfigError, longest_sequence, read_architecture
from slm_core.units import GIB

from tests.builders import CONSTANTS, configs

WITHIN = 0.01
QWEN2 = {"model_type": "qwen2", "sliding_window": 4096, "max_window_layers": 0}
METHODS = {"awq": 4, "gptq": 4, "awq_marlin": 4, "gptq_marlin": 4, "fp8": 8, "mxfp8": 8.25}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (configs.OPT_1_3B, "opt-1.3b"),
        (configs.OPT_2_7B, "opt-2.7b"),
        (configs.LLAMA_2_7B, "llama-2-7b"),
        (configs.LLAMA_2_13B, "llama-2-13b"),
    ],
)
def test_weights_and_kv_bytes_of_the_published_runs(config: dict[str, Any], name: str) -> None:
    found = read_architecture(config)
    weights_gib, kv_kib, _ = CONSTANTS[name]
    assert found.weights_bytes == pytest.approx(weights_gib * GIB, rel=WITHIN)
    assert found.kv_bytes_per_token == kv_kib * 1024


@pytest.mark.parametrize(
    ("config", "billions", "active", "kv_bytes"),
    [
        (configs.OPT_350M, 0.331, 0.328, 2 * 24 * 1024 * 2),
        (configs.LLAMA_3_8B, 8.030, 7.505, 131072),  # grouped-query attention
        (configs.QWEN_2_5_0_5B, 0.494, 0.494, 12288),  # grouped-query attention, tied, biased
        (configs.MIXTRAL_8X7B, 46.70, 12.75, 131072),  # mixture of experts
        (configs.QWEN_1_5_MOE, 14.32, 2.38, 196608),  # experts and one shared
        (configs.DEEPSEEK_V2_LITE, 15.71, 2.45, 31104),  # latent attention: (512 + 64) x 27 x 2
        (configs.DEEPSEEK_V2, 235.7, 20.9, 69120),  # and compressed queries
        (configs.GEMMA_3_1B, 0.9999, 0.9999, 26 * 2 * 256 * 2),
    ],
)
def test_sizes_of_other_architectures(config: dict[str, Any], billions: float, active: float, kv_bytes: int) -> None:
    found = read_architecture(config)
    assert found.parameters / 1e9 == pytest.approx(billions, rel=WITHIN)
    assert found.active_bytes / 2e9 == pytest.approx(active, rel=0.02)
    assert found.kv_bytes_per_token == kv_bytes
    assert found.weights_bytes == found.parameters * 2


def test_token_reads_all_but_input_embedding_and_last_norm() -> None:
    found = read_architecture(configs.LLAMA_2_7B)
    active = found.parameters - found.vocabulary * found.hidden_size - found.hidden_size
    assert found.active_bytes == 2 * active


def test_config_of_one_layer_is_read() -> None:
    assert read_architecture(configs.LLAMA_2_7B | {"num_hidden_layers": 1}).layers == 1


def test_every_second_layer_may_have_experts() -> None:
    every = read_architecture(configs.QWEN_1_5_MOE | {"num_hidden_layers": 3})
    second = read_architecture(configs.QWEN_1_5_MOE | {"num_hidden_layers": 3, "decoder_sparse_step": 2})
    assert second.expert_bytes * 3 == every.expert_bytes


def test_the_text_part_of_a_multimodal_model_counts() -> None:
    tower = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "image_size": 336,
        "patch_size": 14,
    }
    nested = {"model_type": "llava", "text_config": configs.LLAMA_3_8B, "vision_config": tower}
    text, whole = read_architecture(configs.LLAMA_3_8B), read_architecture(nested)
    assert (whole.kv_bytes_per_token, whole.active_bytes) == (text.kv_bytes_per_token, text.active_bytes)
    assert whole.parameters - text.parameters == 324_487_168  # CLIP's 303.5 million, and the projector
    assert read_architecture(configs.LLAMA_3_8B | {"text_config": None}) == read_architecture(configs.LLAMA_3_8B)


def test_fields_that_are_absent_mean_what_transformers_means() -> None:
    plain = {k: v for k, v in configs.LLAMA_2_7B.items() if k not in ("num_key_value_heads", "torch_dtype")}
    assert read_architecture(plain) == read_architecture(configs.LLAMA_2_7B)
    biased = read_architecture(configs.LLAMA_2_7B | {"attention_bias": True})
    assert biased.parameters - read_architecture(configs.LLAMA_2_7B).parameters == 32 * 4 * 4096


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (configs.OPT_1_3B, 1_315_758_080),
        (configs.OPT_2_7B, 2_651_596_800),
        (configs.OPT_350M, 331_196_416),
        (configs.LLAMA_2_7B, 6_738_415_616),
        (configs.LLAMA_2_13B, 13_015_864_320),
        (configs.LLAMA_3_8B, 8_030_261_248),
        (configs.QWEN_2_5_0_5B, 494_032_768),
        (configs.MIXTRAL_8X7B, 46_702_792_704),
        (configs.DEEPSEEK_V2_LITE, 15_706_484_224),
        (configs.DEEPSEEK_V2, 235_741_434_880),
    ],
)
def test_parameters_are_counted_to_the_last_one(config: dict[str, Any], parameters: int) -> None:
    """As the model cards' safetensors count them."""
    assert read_architecture(config).parameters == parameters


def test_experts_apart_from_the_rest() -> None:
    found = read_architecture(configs.MIXTRAL_8X7B)
    assert (found.expert_bytes, found.expert_share) == (32 * 8 * 3 * 4096 * 14336 * 2, 0.25)
    assert (read_architecture(configs.LLAMA_3_8B).expert_bytes, read_architecture(configs.LLAMA_3_8B).expert_share) == (
        0,
        0,
    )


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 8192, "n_positions": 1}, 8192),
        ({"max_position_embeddings": None, "n_positions": 2048}, 2048),
        ({"max_seq_len": 64}, 64),
        ({"max_position_embeddings": 1, "text_config": {"max_position_embeddings": 4096}}, 4096),
        ({"max_position_embeddings": "long", "n_positions": 2048}, None),
        ({}, None),
    ],
)
def test_the_longest_sequence_is_that_of_the_text_part(config: dict[str, Any], tokens: int | None) -> None:
    assert longest_sequence(config) == tokens


class TestWindow:
    @pytest.mark.parametrize(
        ("config", "window", "fraction"),
        [
            (configs.LLAMA_2_7B, None, 0.0),
            (configs.QWEN_2_5_0_5B, None, 0.0),
            (configs.MISTRAL_7B, 4096, 1.0),
            (configs.LLAMA_3_8B | QWEN2 | {"use_sliding_window": True}, 4096, 1.0),
            (configs.LLAMA_3_8B | QWEN2 | {"use_sliding_window": False}, None, 0.0),
            (configs.GEMMA_3_1B, 512, 22 / 26),
            (configs.LLAMA_3_8B | {"model_type": "gemma2", "sliding_window": 4096}, 4096, 0.5),
            (
                configs.LLAMA_3_8B
                | {"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 16},
                128,
                0.5,
            ),
        ],
    )
    def test_layers_that_see_the_window_only(self, config: dict[str, Any], window: int | None, fraction: float) -> None:
        found = read_architecture(config)
        assert (found.window_tokens, found.windowed_fraction) == (window, pytest.approx(fraction))

    def test_a_long_sequence_costs_the_window_only(self) -> None:
        windowed, full = read_architecture(configs.MISTRAL_7B), read_architecture(configs.LLAMA_2_7B)
        assert windowed.kv_bytes_per_sequence(10_000) == 4096 * 131072
        assert windowed.kv_bytes_per_sequence(1000) == 1000 * 131072
        assert full.kv_bytes_per_sequence(10_000) == 10_000 * 524288
        mixed = read_architecture(configs.MISTRAL_7B | {"model_type": "gemma2", "head_dim": 128})
        assert mixed.kv_bytes_per_sequence(8192) == pytest.approx(6144 * 131072)


class TestSparseLayers:
    def test_every_second_layer(self) -> None:
        every = read_architecture(configs.QWEN_1_5_MOE).parameters
        second = read_architecture(configs.QWEN_1_5_MOE | {"decoder_sparse_step": 2}).parameters
        listed = read_architecture(configs.QWEN_1_5_MOE | {"mlp_only_layers": list(range(0, 24, 2))}).parameters
        assert second == listed < every


class TestQuantised:
    """Linear layers shrink, embeddings and norms do not."""

    PLAIN = read_architecture(configs.LLAMA_2_7B)
    OTHERS = 2 * 32000 * 4096 + 65 * 4096
    LINEAR = PLAIN.parameters - OTHERS

    @pytest.mark.parametrize(
        ("quantised", "bits"),
        [
            ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
            ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8),
            *(({"quant_method": method}, bits) for method, bits in METHODS.items()),
            ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.5),
            ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True}, 4.127),
            ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
            (
                {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8}}}},
                8,
            ),
            ({"quant_method": "fp8", "config_groups": {"group_0": {"weights": None}}}, 8),
            ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4.5),
        ],
    )
    def test_weights(self, quantised: dict[str, Any], bits: float) -> None:
        found = read_architecture(configs.LLAMA_2_7B | {"quantization_config": quantised})
        assert found.weights_bytes == pytest.approx(self.LINEAR * bits / 8 + self.OTHERS * 2, abs=1)
        assert found.parameters == self.PLAIN.parameters
        assert found.active_bytes < self.PLAIN.active_bytes

    def test_published_size_of_llama_2_7b_awq(self) -> None:
        """TheBloke/Llama-2-7B-AWQ is 3.89 GB."""
        quantised = {"quant_method": "awq", "bits": 4, "group_size": 128}
        found = read_architecture(configs.LLAMA_2_7B | {"quantization_config": quantised})
        assert found.weights_bytes == pytest.approx(3.89e9, rel=WITHIN)

    @pytest.mark.parametrize(
        ("dtype", "weight_bytes"), [("float16", 2), ("bfloat16", 2), ("float32", 2), ("float8_e4m3fn", 1)]
    )
    def test_weights_by_type(self, dtype: str, weight_bytes: int) -> None:
        found = read_architecture(configs.LLAMA_2_7B | {"torch_dtype": dtype})
        assert (found.weights_bytes, found.active_bytes) == (
            weight_bytes * found.parameters,
            self.PLAIN.active_bytes * weight_bytes / 2,
        )
        assert found.kv_bytes_per_token == self.PLAIN.kv_bytes_per_token

    @pytest.mark.parametrize(
        ("dtype", "kib"),
        [("auto", 512), ("float16", 512), ("bfloat16", 512), ("fp8", 256), ("fp8_e4m3", 256), ("fp8_e5m2", 256)],
    )
    def test_kv_cache_by_type(self, dtype: str, kib: int) -> None:
        assert read_architecture(configs.LLAMA_2_7B, kv_dtype=dtype).kv_bytes_per_token == kib * 1024

    def test_float32_checkpoints_are_served_in_sixteen_bits(self) -> None:
        assert read_architecture(configs.LLAMA_2_7B | {"torch_dtype": "torch.float32"}) == self.PLAIN


@pytest.mark.parametrize(
    ("config", "kv_dtype", "message"),
    [
        (configs.LLAMA_2_7B | {"hidden_size": None}, "auto", "hidden_size: None is not a whole number of at least 1"),
        (configs.LLAMA_2_7B | {"num_hidden_layers": 0}, "auto", "num_hidden_layers: 0 is not a whole number"),
        (configs.LLAMA_2_7B | {"vocab_size": True}, "auto", "vocab_size: True is not a whole number"),
        ({}, "auto", "model_type: missing: give the model's own config.json"),
        ({"model_type": "llava"}, "auto", "vision_config: missing: give the model's own config.json"),
        (configs.LLAMA_2_7B | {"is_encoder_decoder": True}, "auto", "model_type: 'llama' does not generate text"),
        (
            {"model_type": "llama"},
            "auto",
            "num_hidden_layers: None is not a whole number of at least 1: give the model's",
        ),
        (configs.LLAMA_2_7B | {"torch_dtype": "int3"}, "auto", "torch_dtype: 'int3' is none of auto, float16"),
        (configs.LLAMA_2_7B, "int3", "kv-cache-dtype: 'int3' is none of auto"),
        (
            configs.LLAMA_2_7B | {"quantization_config": {"quant_method": "new"}},
            "auto",
            "quantization_config.bits: missing: give the bits of a weight, or measure the model",
        ),
    ],
)
def test_config_without_needed_fields_is_refused(config: dict[str, Any], kv_dtype: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_architecture(config, kv_dtype=kv_dtype)
    assert str(raised.value).startswith(message)
