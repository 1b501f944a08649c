"""What a quantisation leaves in 16 bits, by the names and patterns of modules that people write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from slm_core.architecture import ConfigError, read_architecture

from tests.builders import configs

PLAIN = read_architecture(configs.LLAMA_3_8B)
LAYERS, HIDDEN, INNER, KV = 32, 4096, 14336, 1024
ATTENTION, FEED = HIDDEN * (2 * HIDDEN + 2 * KV), 3 * HIDDEN * INNER
OTHERS = PLAIN.parameters - LAYERS * (ATTENTION + FEED)


def four_bits(*ignored: str, targets: tuple[str, ...] = ("Linear",)) -> dict[str, Any]:
    group = {"targets": list(targets), "weights": {"num_bits": 4, "type": "int"}}
    made = {"quant_method": "compressed-tensors", "ignore": list(ignored), "config_groups": {"group_0": group}}
    return configs.LLAMA_3_8B | {"quantization_config": made}


@pytest.mark.parametrize(
    ("ignored", "weights"),
    [
        ((), 0),
        (("lm_head", "re:.*lm_head", "re:visual.*", "vision_tower", "re:.*mlp.gate$", "model.layers.3.input_layernorm"), 0),
        (("re:.*self_attn.*",), LAYERS * ATTENTION),
        (("self_attn",), LAYERS * ATTENTION),
        (("model.layers.*.self_attn",), LAYERS * ATTENTION),
        (("transformer.h.0.attn", "attn"), LAYERS * ATTENTION),
        ((r"re:.*\.mlp\.down_proj$",), LAYERS * HIDDEN * INNER),
        ((r"re:.*mlp\.(gate|up)_proj",), LAYERS * 2 * HIDDEN * INNER),
        (("re:.*(q|k|v)_proj",), LAYERS * (ATTENTION - HIDDEN * HIDDEN)),
        (("model.layers.0",), ATTENTION + FEED),
        (("model.layers.3.mlp.down_proj",), HIDDEN * INNER),
        (("model.layers.3.feed_forward",), FEED),
        (("model.layers.0.self_attn.qkv_proj",), ATTENTION - HIDDEN * HIDDEN),
        ((r"re:model\.layers\.\d+\.self_attn\.o_proj",), LAYERS * HIDDEN * HIDDEN),
    ],
)  # fmt: skip
def test_ignored_module_keeps_16_bits(ignored: tuple[str, ...], weights: int) -> None:
    linear = LAYERS * (ATTENTION + FEED) - weights
    found = read_architecture(four_bits(*ignored))
    assert found.weights_bytes == linear / 2 + 2 * (weights + OTHERS)


def test_only_what_is_targeted_is_quantised() -> None:
    found = read_architecture(four_bits(targets=("re:.*mlp.*",)))
    assert found.weights_bytes == LAYERS * FEED / 2 + 2 * (LAYERS * ATTENTION + OTHERS)


def test_each_group_has_its_own_bits() -> None:
    config = four_bits(targets=("re:.*mlp.*",))
    config["quantization_config"]["config_groups"]["group_1"] = {
        "targets": ["re:.*self_attn.*"],
        "weights": {"num_bits": 8},
    }
    assert read_architecture(config).weights_bytes == LAYERS * (FEED / 2 + ATTENTION) + 2 * OTHERS


@pytest.mark.parametrize(
    "ignored",
    [
        "strange.thing",
        "re:(a+)+$",
        "re:.*[0-9]+",
        "re:(" + "a|" * 240 + ")(" + "|b" * 120,
        "re:.*experts.3.x",
        "re:.*self_attn.*|.*mlp.*",
        "h" * 501,
    ],
)
def test_a_name_that_cannot_be_followed_is_refused(ignored: str) -> None:
    with pytest.raises(ConfigError, match="measure the model"):
        read_architecture(four_bits(ignored))


@pytest.mark.parametrize("target", ["re:.*mlp.experts.*.(gate|up|down)_proj$", "re:.*strange.*", "LinearBase"])
def test_a_target_that_cannot_be_followed_is_refused(target: str) -> None:
    """Not taken for a model of which nothing is quantised."""
    with pytest.raises(ConfigError, match=r"the module .* is not known here: measure the model"):
        read_architecture(four_bits(targets=(target,)))


def test_module_that_bitsandbytes_skips_keeps_16_bits() -> None:
    skipped = ["lm_head", "model.layers.0.mlp", "multi_modal_projector"]
    quantised = {"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_skip_modules": skipped}
    found = read_architecture(configs.LLAMA_3_8B | {"quantization_config": quantised})
    assert found.weights_bytes == LAYERS * (ATTENTION + FEED) + FEED + 2 * OTHERS


@pytest.mark.parametrize(
    ("weights", "bits"),
    [
        ({"num_bits": 4, "type": "int", "group_size": 128}, 4 + 16 / 128),
        ({"num_bits": 4, "type": "int", "group_size": 128, "symmetric": False}, 4 + 20 / 128),
        ({"num_bits": 4, "type": "float", "group_size": 16}, 4.5),
        ({"num_bits": 8, "type": "float", "group_size": 128}, 8 + 16 / 128),
    ],
)
def test_scales_and_zeros_of_a_group_have_bits_too(weights: dict[str, Any], bits: float) -> None:
    config = four_bits()
    config["quantization_config"]["config_groups"]["group_0"]["weights"] = weights
    assert read_architecture(config).weights_bytes == LAYERS * (ATTENTION + FEED) * bits / 8 + 2 * OTHERS


def test_more_names_than_any_model_has_modules_are_refused() -> None:
    with pytest.raises(ConfigError, match="ignore: too long a list of modules: measure the model"):
        read_architecture(four_bits(*["lm_head"] * 50_001))


def test_a_long_list_of_modules_costs_no_more_than_its_names() -> None:
    names = [f"model.layers.{i}.mlp.gate" for i in range(40_000)]
    assert read_architecture(four_bits(*names)).weights_bytes == read_architecture(four_bits()).weights_bytes


def test_the_older_key_of_compressed_tensors_counts_too() -> None:
    config = four_bits("lm_head")
    older = {name: value for name, value in config.items() if name != "quantization_config"}
    assert read_architecture(older | {"compression_config": config["quantization_config"]}) == read_architecture(config)


def test_mxfp4_reaches_experts_only_and_counts_their_scales() -> None:
    file = Path(__file__).parents[2] / "data/field/configs/gpt-oss-20b.config.json"
    config = json.loads(file.read_text())
    found, experts = read_architecture(config), 24 * 32 * 3 * 2880 * 2880
    assert found.weights_bytes == experts * 4.25 / 8 + 2 * (found.parameters - experts)


@pytest.mark.parametrize(
    ("scheme", "part"),
    [
        ({"kv_cache_scheme": {"num_bits": 8, "type": "float"}}, 0.5),
        ({"kv_cache_quant_algo": "FP8"}, 0.5),
        ({"kv_cache_scheme": None}, 1),
    ],
)
def test_checkpoint_with_cache_scales_has_narrower_kv_cache(scheme: dict[str, Any], part: float) -> None:
    config = configs.LLAMA_3_8B | {"quantization_config": {"quant_method": "fp8", **scheme}}
    assert read_architecture(config).kv_bytes_per_token == PLAIN.kv_bytes_per_token * part
    assert read_architecture(config, kv_dtype="bfloat16").kv_bytes_per_token == PLAIN.kv_bytes_per_token


@pytest.mark.parametrize(("dtype", "part"), [("auto", 1), ("bfloat16", 1), ("half", 1), ("float32", 2)])
def test_the_users_type_is_that_of_weights_and_cache(dtype: str, part: int) -> None:
    found = read_architecture(configs.LLAMA_3_8B, dtype=dtype)
    assert (found.weights_bytes, found.kv_bytes_per_token) == (
        part * PLAIN.weights_bytes,
        part * PLAIN.kv_bytes_per_token,
    )


@pytest.mark.parametrize(("online", "bits"), [("fp8", 8), ("fp8_per_block", 8), ("bitsandbytes", 4.5), ("mxfp8", 8.25)])
def test_weights_quantised_while_loading_are_counted(online: str, bits: float) -> None:
    found = read_architecture(configs.LLAMA_3_8B, quantization=online)
    assert found.weights_bytes == LAYERS * (ATTENTION + FEED) * bits / 8 + 2 * OTHERS


def test_unknown_engine_quantisation_is_refused() -> None:
    with pytest.raises(ConfigError, match="what 'torchao' makes of weights in 16 bits is not known here"):
        read_architecture(configs.LLAMA_3_8B, quantization="torchao")
