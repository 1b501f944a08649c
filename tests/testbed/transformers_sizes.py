"""Run by the engine's own Python, for `tests.testbed.architectures`: what Transformers makes of config.json.

    python transformers_sizes.py names              # every family that generates text
    python transformers_sizes.py defaults FAMILY... # what their classes say where a file does not
    python transformers_sizes.py sizes FAMILY...    # one JSON object a line

For each family the configuration as `save_pretrained` writes it, once with the class's defaults and twice with other
sizes and every flag the other way round, and the model's parameters, counted on the meta device. Of small ones also
the elements of its cache: what a token adds, and what a sequence keeps whatever its length. Needs no network.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from dataclasses import MISSING, fields
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.models.auto import modeling_auto

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

IRRELEVANT = re.compile(
    r"_token(_id|_index|s)?$|_id$|_eps(ilon)?$|dropout|_pdrop$|rope(?!_head)|rotary|initializer|_init|_loss|_coef|label"
    r"|transformers_version|use_cache|^_|_act(ivation)?$|hidden_act|problem|return_|output_|chunk|dt_m|_limit|^summary_"
    r"|pretraining_tp|capping|theta|z_loss|routed_sc|norm_topk|topk_|^n_group$|sep_token|^scale_(?!factor)|_scal(e|ing)"
    r"|use_mamba_kernels|use_mambapy|use_associative|in_fp32|^is_|cross_attention|clip_qkv|logits_to|upcast"
)
"""Fields that no size depends on."""
SMALLER = {
    "vocab_size": 1003, "hidden_size": 256, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 48,
    "intermediate_size": 320, "num_hidden_layers": 5, "moe_intermediate_size": 96, "num_experts": 6,
    "num_local_experts": 6, "n_routed_experts": 6, "moe_num_experts": 6, "num_experts_per_tok": 2, "moe_k": 2,
    "shared_expert_intermediate_size": 80, "first_k_dense_replace": 2, "q_lora_rank": 64, "kv_lora_rank": 32,
    "qk_nope_head_dim": 24, "qk_rope_head_dim": 16, "v_head_dim": 40, "n_embd": 256, "n_head": 8, "n_layer": 5,
    "n_inner": 320, "ffn_dim": 320, "ffn_hidden_size": 320, "word_embed_proj_dim": 128, "max_position_embeddings": 64,
    "n_positions": 64, "n_shared_experts": 2, "d_model": 256, "n_heads": 8, "n_layers": 5, "max_seq_len": 64,
    "shared_intermediate_size": 112, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "n_group": 1, "topk_group": 1,
    "moe_num_shared_experts": 1, "mamba_num_heads": 8, "mamba_head_dim": 64, "mamba_n_heads": 8, "mamba_d_head": 64,
    "mamba_n_groups": 2, "n_groups": 2, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "mamba_d_ssm": 512,
    "linear_key_head_dim": 24, "linear_value_head_dim": 40, "mamba_dt_rank": 16, "time_step_rank": 16, "state_size": 12,
    "ssm_state_size": 24, "mamba_d_state": 20, "rotary_dim": 16, "sliding_window": 32, "partial_rotary_factor": 0.5,
    "num_heads": 8, "moe_shared_expert_intermediate_size": 72, "expert_layer_period": 2, "attn_layer_period": 3,
    "attn_layer_offset": 1, "num_ln_in_parallel_attn": None, "num_kv_heads": 2,
}  # fmt: skip
MIXED = {"sliding_window_pattern": 3, "full_attention_interval": 2, "decoder_sparse_step": 2}
OF_FAMILY: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "lfm2": {
        "layer_types": ["conv", "conv", "full_attention", "conv", "full_attention"],
        "block_ffn_dim_multiplier": 1.5,
    },
    "granitemoehybrid": {"layer_types": ["mamba", "mamba", "attention", "mamba", "attention"]},
    "gpt_neo": {"num_layers": 5, "attention_types": [[["global", "local"], 2], [["global"], 1]]},
    "mamba2": {"head_dim": 64},
}
FLAGS = (
    "tie_word_embeddings", "attention_bias", "mlp_bias", "use_bias", "qkv_bias", "bias", "use_qk_norm", "use_qkv_bias",
    "qk_layernorm", "use_qk_norm", "parallel_attn", "multi_query", "new_decoder_architecture", "alibi", "mamba_conv_bias",
    "mamba_proj_bias", "use_conv_bias", "conv_bias", "enable_bias", "_remove_final_layer_norm", "use_parallel_residual",
    "use_post_norm", "attn_output_gate", "add_bias_linear", "layer_norm_elementwise_affine",
)  # fmt: skip


def main(asked: str, names: list[str]) -> None:
    """Print what was asked for."""
    if asked == "names":
        print(json.dumps(sorted({*_texts(), *modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES})))
    elif asked == "defaults":
        print(json.dumps({"version": transformers.__version__, "classes": _classes(names)}))
    else:
        for name in names:
            for overrides in ({}, _smaller(name, flip=False), _smaller(name, flip=True)):
                if found := _case(name, overrides):
                    print(json.dumps(found), flush=True)


def _classes(names: list[str]) -> dict[str, Any]:
    """Defaults, other names of fields, and the classes of parts, by `model_type`."""
    made: dict[str, Any] = {}
    for name in names:
        kind = CONFIG_MAPPING[name]
        made[name] = {"defaults": _defaults(kind)}
        if other := {ours: its for ours, its in kind.attribute_map.items() if not IRRELEVANT.search(ours)}:
            made[name]["names"] = other
        for part in ("text_config", "vision_config"):
            if part in kind.sub_configs:
                inside = getattr(kind(), part)
                made[name][part] = inside.model_type
                made.setdefault(inside.model_type, {"defaults": _defaults(type(inside))})
    return made


def _defaults(kind: Any) -> dict[str, Any]:
    of_all = {one.name for one in fields(PreTrainedConfig)} - {"tie_word_embeddings"}
    made = {}
    for one in fields(kind):
        value = one.default_factory() if one.default is MISSING and one.default_factory is not MISSING else one.default
        if one.name in of_all or one.name.endswith("_config") or IRRELEVANT.search(one.name):
            continue
        if value is None or isinstance(value, (int, list, tuple)) or value == "auto":
            made[one.name] = list(value) if isinstance(value, tuple) else value
        elif isinstance(value, float) and value == int(value):
            made[one.name] = int(value)
    return made


def _texts() -> set[str]:
    return set(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def _text_class(name: str) -> Any:
    kind = CONFIG_MAPPING[name]
    return type(kind().get_text_config())


def _smaller(name: str, *, flip: bool) -> dict[str, Any]:
    kind = CONFIG_MAPPING[name]
    text = _text_class(name)
    default = text()
    known = {**{n: getattr(default, n, None) for n in (*SMALLER, *FLAGS, *MIXED) if hasattr(default, n)}}
    made = {n: value for n, value in SMALLER.items() if n in known and known[n] not in (0, [], {})}
    made = {n: value for n, value in made.items() if n in _own(text)}
    if flip:
        made |= {n: not known[n] for n in FLAGS if isinstance(known.get(n), bool) and n in _own(text)}
        made |= {n: value for n, value in MIXED.items() if n in _own(text) or n == "sliding_window_pattern"}
    made |= OF_FAMILY.get(name, {})
    return (
        made
        if text is kind
        else {"text_config": made}
        | ({"tie_word_embeddings": made["tie_word_embeddings"]} if flip and "tie_word_embeddings" in made else {})
    )


def _own(kind: Any) -> set[str]:
    return {name for one in kind.__mro__ for name in getattr(one, "__annotations__", {})}


def _case(name: str, overrides: dict[str, Any]) -> dict[str, Any] | None:
    kind = CONFIG_MAPPING[name]
    try:
        config = kind(**overrides)
        text_only = name in _texts() and not hasattr(config, "vision_config")
        mapping = (
            modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
            if text_only
            else modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        )
        built = mapping[kind]
        with torch.device("meta"):
            model = built._from_config(config)
        model.tie_weights()
    except Exception as error:  # noqa: BLE001 - whatever a class says against sizes of ours
        print(
            f"{name} {'smaller' if overrides else 'defaults'}: {type(error).__name__}: {str(error)[:160]}",
            file=sys.stderr,
        )
        return None
    written = {"architectures": [built.__name__], **_relevant(config.to_diff_dict())}
    found = {"config": written, "parameters": sum(p.numel() for p in model.parameters())}
    if overrides and text_only:  # a tower of its usual size is a gigabyte, and keeps no KV
        found |= _cache(built, config)
    return found


def _relevant(config: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _relevant(value) if isinstance(value, dict) and value else value
        for name, value in config.items()
        if not IRRELEVANT.search(name)
        and value is not None
        and (not isinstance(value, float) or name == "block_ffn_dim_multiplier")
    }


def _cache(built: Any, config: Any) -> dict[str, int]:
    """Elements that a token adds to the cache, and that a sequence keeps from its start."""
    try:
        torch.manual_seed(0)
        model = built._from_config(config).eval()
        sizes = []
        with torch.no_grad():
            for tokens in (9, 14):
                cache = model(input_ids=torch.full((1, tokens), 3), use_cache=True).past_key_values
                sizes.append(sum(map(_elements, cache.layers)))
    except Exception as error:  # noqa: BLE001 - families whose cache needs kernels or images
        print(f"{config.model_type} cache: {type(error).__name__}: {str(error)[:160]}", file=sys.stderr)
        return {}
    each = (sizes[1] - sizes[0]) // 5
    return {"cacheElementsPerToken": each, "cacheElementsPerSequence": sizes[0] - 9 * each}


def _elements(layer: Any) -> int:
    seen: dict[int, int] = {}

    def walk(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            if value.dim() > 2:
                seen[id(value)] = value.numel()
        elif isinstance(value, dict):
            for one in value.values():
                walk(one)
        elif isinstance(value, (list, tuple)):
            for one in value:
                walk(one)

    walk(vars(layer))
    return sum(seen.values())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
