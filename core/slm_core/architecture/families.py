"""The families whose sizes are known: one row each, by `model_type`.

Exists so that a size is either right or refused. What a row does not say is as in Llama; what a file does not say is as
in the family's class (`class_defaults`). tests/data/architectures.json has what Transformers counts for each row. A
family without a row is not known: nothing may guess it.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from slm_core.architecture.family import (
    BOTH,
    CONVOLUTION,
    EXPERTS,
    FEED,
    FULL,
    LINEAR,
    Experts,
    Family,
    always,
    of_each_head,
    of_the_width,
    ungrouped,
)
from slm_core.architecture.kinds import above_the_first, all_but_each, all_of, at, each, each_last, must_be_listed
from slm_core.architecture.parts import (
    attention,
    attention_and_mamba2,
    experts_as_mixer,
    feed_as_mixer,
    latent_attention,
    linear_attention,
    mamba,
    mamba2,
    short_convolution,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slm_core.architecture.fields import Fields


def _qk_norm_where(field: str, family: Family) -> Family:
    """Norms of queries and keys where a field says so."""
    norm = family.qk_norm
    return replace(family, qk_norm=lambda f, *of: norm(f, *of) if f.flag(field) else 0)


def _four_times(name: str) -> Callable[[Fields], int]:
    def inner(f: Fields) -> int:
        return f.optional(name) or 4 * f.count("hidden_size")

    return inner


def _adjusted(f: Fields) -> int:
    """LFM2: two thirds, times a factor, up to the next multiple."""
    inner = f.optional("block_ff_dim") or f.count("intermediate_size")
    if not f.flag("block_auto_adjust_ff_dim"):
        return inner
    factor, multiple = f.raw("block_ffn_dim_multiplier"), f.count("block_multiple_of")
    if isinstance(factor, bool) or not isinstance(factor, int | float | None) or not 0 < (factor or 1) < 100:
        raise f.wrong("block_ffn_dim_multiplier", "not a factor above 0: give the model's own config.json")
    return -(-int((factor or 1) * (2 * inner // 3)) // multiple) * multiple


def _first_dense(f: Fields, layer: int, _: int) -> bool:
    return layer >= (f.optional("first_k_dense_replace", least=0) or 0)


def _stepped(f: Fields, layer: int, _: int) -> bool:
    """Qwen: every n-th layer that is not listed as dense."""
    step = f.optional("decoder_sparse_step", least=0)
    return layer not in f.numbers("mlp_only_layers") and (layer + 1) % (step or 1) == 0


def _ranged(f: Fields, layer: int, layers: int) -> bool:
    """ERNIE: from one layer to another, every n-th."""
    last = f.raw("moe_layer_end_index")
    end = layers - 1 if last in (None, -1) else f.count("moe_layer_end_index", least=0)
    start = f.optional("moe_layer_start_index", least=0) or 0
    return start <= layer <= end and (layer + 1) % (f.optional("moe_layer_interval") or 1) == 0


def _periodic(f: Fields, layer: int, _: int) -> bool:
    """Jamba: every n-th from an offset on."""
    return layer % f.count("expert_layer_period") == (f.optional("expert_layer_offset", least=0) or 0)


def _shared_of(name: str) -> Callable[[Fields], int]:
    """So many shared experts of an expert's width."""
    return lambda f: (
        (f.optional(name, least=0) or 0) * (f.optional("moe_intermediate_size") or f.count("intermediate_size"))
    )


def _falcon_heads(f: Fields, heads: int) -> int:
    if f.flag("new_decoder_architecture"):
        return f.optional("num_kv_heads") or heads
    return 1 if f.flag("multi_query") else heads


def _falcon_norms(f: Fields) -> int:
    if not f.flag("parallel_attn"):
        return 2
    number = f.optional("num_ln_in_parallel_attn")
    return number or (2 if f.flag("new_decoder_architecture") else 1)


def _mpt_heads(f: Fields, heads: int) -> int:
    if (f.inside("attn_config") or {}).get("kv_n_heads") is not None:
        raise f.wrong("attn_config.kv_n_heads", "heads in groups are not known here in this family: measure the model")
    return heads


def _learned_positions(f: Fields) -> int:
    return f.count("max_position_embeddings") * f.count("hidden_size")


def _opt_rest(f: Fields) -> int:
    """Positions, with an offset of 2, and what projects embeddings of another width."""
    hidden, width = f.count("hidden_size"), f.optional("word_embed_proj_dim") or f.count("hidden_size")
    return (f.count("max_position_embeddings") + 2) * hidden + (2 * width * hidden if width != hidden else 0)


def _no_latent(f: Fields) -> int:
    if f.raw("moe_latent_size"):
        raise f.wrong("moe_latent_size", "experts of a latent width are not known here: measure the model")
    return (f.optional("n_shared_experts", least=0) or 0) and f.first("moe_shared_expert_intermediate_size")


LLAMA = Family()
_PLAIN = replace(LLAMA, qkv_bias=False, out_bias=False, mlp_bias=False)
_MISTRAL = replace(_PLAIN, window=always)
_QWEN2 = replace(_PLAIN, qkv_bias=True, window=above_the_first)
_QWEN3 = replace(LLAMA, mlp_bias=False, qk_norm=of_each_head, window=above_the_first)
_QWEN_EXPERTS = Experts(holds=_stepped, shared=lambda f: f.first("shared_expert_intermediate_size"), shared_gate=True)
_QWEN_NEXT = replace(
    _QWEN3, kinds=each_last("full_attention_interval", 4), mixers={FULL: attention, LINEAR: linear_attention},
    output_gate=True,
)  # fmt: skip
_GEMMA = replace(LLAMA, mlp_bias=False)
_GEMMA2 = replace(_GEMMA, norms=lambda _: 4, window=all_but_each(2))
_COHERE = replace(LLAMA, mlp_bias=False, norms=lambda _: 1, qk_norm=of_the_width)
_OLMO2 = replace(LLAMA, mlp_bias=False, qk_norm=of_the_width)
_ALL_EXPERTS = Experts()
_WITH_BIASES = replace(LLAMA, qkv_bias=True, out_bias=True, mlp_bias=True, norm_vectors=2, gated=False)
_GPT = replace(_WITH_BIASES, kv_heads=ungrouped, inner=_four_times("n_inner"))
_GPTJ = replace(_GPT, qkv_bias=False, out_bias=False, norms=lambda _: 1, head_bias=True)
_GRANITE_MOE = replace(
    LLAMA, mlp_bias=False, experts=Experts(shared=lambda f: f.first("shared_intermediate_size")),
)  # fmt: skip
_DEEPSEEK = replace(
    LLAMA, mixers={FULL: latent_attention},
    experts=Experts(holds=_first_dense, shared=_shared_of("n_shared_experts"), shared_bias="mlp_bias"),
)  # fmt: skip
_GLM = replace(LLAMA, out_bias=False, mlp_bias=False)
_ERNIE = replace(LLAMA, qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias")
_MAMBA = replace(
    LLAMA,
    state_in_bias="use_bias",
    state_out_bias="use_bias",
    kinds=all_of(LINEAR),
    mixers={LINEAR: mamba},
    has_feed=False,
    norms=lambda _: 1,
)
_HYBRID = {FULL: attention, LINEAR: mamba2}
_LFM2 = replace(
    _PLAIN, qk_norm=of_each_head, mixers={FULL: attention, CONVOLUTION: short_convolution}, tied_field="tie_embedding",
)  # fmt: skip
_HUNYUAN = replace(LLAMA, mlp_bias=False, qk_norm=of_each_head)

FAMILIES: Mapping[str, Family] = MappingProxyType({
    "llama": LLAMA,
    "internlm2": replace(LLAMA, qkv_bias="bias", out_bias="bias", mlp_bias=False),
    "baichuan": _PLAIN,
    "mistral": _MISTRAL,
    "ministral": _MISTRAL,
    "ministral3": _PLAIN,
    "mixtral": replace(_MISTRAL, experts=_ALL_EXPERTS),
    "qwen": replace(_PLAIN, kv_heads=ungrouped, qkv_bias=True, inner=lambda f: f.count("intermediate_size") // 2),
    "qwen2": _QWEN2,
    "qwen2_vl_text": _QWEN2,
    "qwen2_5_vl_text": _QWEN2,
    "qwen2_moe": replace(_QWEN2, qkv_bias="qkv_bias", experts=_QWEN_EXPERTS),
    "qwen3": _QWEN3,
    "qwen3_vl_text": _QWEN3,
    "qwen3_moe": replace(_QWEN3, experts=Experts(holds=_stepped)),
    "qwen3_next": replace(_QWEN_NEXT, experts=_QWEN_EXPERTS),
    "qwen3_5_text": _QWEN_NEXT,
    "qwen3_5_moe_text": replace(_QWEN_NEXT, experts=_QWEN_EXPERTS),
    "phi": _qk_norm_where(
        "qk_layernorm",
        replace(_WITH_BIASES, norms=lambda _: 1, head_bias=True, qk_norm=lambda _f, _h, _k, size: 4 * size),
    ),
    "phi3": _MISTRAL,
    "phimoe": replace(
        LLAMA, mlp_bias=False, norm_vectors=2, experts=_ALL_EXPERTS, head_bias="lm_head_bias", window=always,
    ),
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3_text": replace(_GEMMA2, qk_norm=of_each_head, window=all_but_each(6)),
    "cohere": _qk_norm_where("use_qk_norm", _COHERE),
    "cohere2": replace(_COHERE, qk_norm=lambda *_: 0, window=all_but_each(4)),
    "olmo": replace(LLAMA, mlp_bias=False, norm_vectors=0),
    "olmo2": _OLMO2,
    "olmo3": replace(_OLMO2, window=all_but_each(4)),
    "olmoe": replace(_OLMO2, experts=_ALL_EXPERTS),
    "flex_olmo": replace(_OLMO2, experts=_ALL_EXPERTS),
    "stablelm": _qk_norm_where("qk_layernorm", replace(
        _PLAIN, qkv_bias="use_qkv_bias", norm_vectors=2, qk_norm=of_the_width,
        norms=lambda f: 1 if f.flag("use_parallel_residual") else 2,
    )),
    "starcoder2": replace(
        _WITH_BIASES, qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", window=always,
    ),
    "gpt_neox": replace(_WITH_BIASES, kv_heads=ungrouped, qkv_bias="attention_bias", out_bias="attention_bias"),
    "gpt2": replace(_GPT, rest=_learned_positions),
    "gpt_bigcode": replace(
        _GPT, kv_heads=lambda f, heads: 1 if f.flag("multi_query") else heads, rest=_learned_positions,
    ),
    "gpt_neo": replace(
        _GPT, qkv_bias=False, inner=_four_times("intermediate_size"), rest=_learned_positions,
    ),
    "gptj": _GPTJ,
    "codegen": _GPTJ,
    "opt": replace(
        _WITH_BIASES, kv_heads=ungrouped, qkv_bias="enable_bias", out_bias="enable_bias", mlp_bias="enable_bias",
        inner=lambda f: f.count("ffn_dim"), last_norm="do_layer_norm_before", embedding_width="word_embed_proj_dim",
        rest=_opt_rest, has_norm_weights="layer_norm_elementwise_affine",
    ),
    "bloom": replace(
        _GPT, inner=lambda f: 4 * f.count("hidden_size"), rest=lambda f: 2 * f.count("hidden_size"),
    ),
    "falcon": replace(
        _WITH_BIASES, kv_heads=_falcon_heads, qkv_bias="bias", out_bias="bias", mlp_bias="bias", norms=_falcon_norms,
        inner=_four_times("ffn_hidden_size"),
    ),
    "mpt": replace(_PLAIN, gated=False, kv_heads=_mpt_heads, inner=lambda f: 4 * f.count("hidden_size")),
    "nemotron": replace(LLAMA, gated=False, norm_vectors=2),
    "granite": LLAMA,
    "granitemoe": replace(_GRANITE_MOE, experts=_ALL_EXPERTS),
    "granitemoeshared": _GRANITE_MOE,
    "granitemoehybrid": replace(_GRANITE_MOE, kinds=all_of(LINEAR), mixers=_HYBRID),
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "glm": _GLM,
    "glm4": replace(_GLM, norms=lambda _: 4),
    "glm4_moe": _qk_norm_where("use_qk_norm", replace(
        _GLM, qk_norm=of_each_head,
        experts=Experts(holds=_first_dense, shared=_shared_of("n_shared_experts")),
    )),
    "ernie4_5": _ERNIE,
    "ernie4_5_moe": replace(_ERNIE, experts=Experts(
        holds=_ranged, shared=_shared_of("moe_num_shared_experts"), router_extra=1,
        shared_bias="use_bias",
    ), head_bias="use_bias"),
    "exaone4": replace(_PLAIN, qk_norm=of_each_head, window=all_but_each(4)),
    "smollm3": LLAMA,
    "seed_oss": replace(LLAMA, out_bias="attention_out_bias"),
    "arcee": replace(LLAMA, gated=False),
    "apertus": replace(LLAMA, gated=False, qk_norm=of_each_head, rest_of_layer=2, mlp_bias=False),
    "hunyuan_v1_dense": _HUNYUAN,
    "persimmon": _qk_norm_where(
        "qk_layernorm", replace(_WITH_BIASES, kv_heads=ungrouped, qk_norm=lambda _f, _h, _k, size: 4 * size),
    ),
    "dots1": replace(_QWEN3, experts=Experts(
        holds=_first_dense, shared=_shared_of("n_shared_experts"),
    )),
    "minimax_m2": replace(_PLAIN, qk_norm=of_the_width, experts=Experts(inner_name="intermediate_size")),
    "gpt_oss": replace(
        LLAMA, sinks=True, window=all_but_each(2), experts=Experts(inner_name="intermediate_size", router_extra=1, bias=True),
    ),
    "jamba": replace(
        _PLAIN, kinds=each("attn_layer_period", "attn_layer_offset", LINEAR), mixers={FULL: attention, LINEAR: mamba},
        state_norms=True, experts=Experts(inner_name="intermediate_size", holds=_periodic),
    ),
    "bamba": replace(LLAMA, kinds=at("attn_layer_indices", LINEAR, all_by_default=False), mixers=_HYBRID),
    "falcon_h1": replace(
        LLAMA, kinds=all_of(BOTH), mixers={BOTH: attention_and_mamba2}, mamba_norm=lambda f: f.flag("mamba_rms_norm"),
        state_out_bias="projectors_bias",
    ),
    "nemotron_h": replace(
        _PLAIN, mlp_bias="mlp_bias", state_in_bias="use_bias", state_out_bias="use_bias", tied_field=None,
        kinds=must_be_listed, has_feed=False, norms=lambda _: 1, gated=False, mixers={
            FULL: attention, LINEAR: mamba2, FEED: feed_as_mixer, EXPERTS: experts_as_mixer,
        }, experts=Experts(shared=_no_latent, shared_bias="mlp_bias"),
    ),
    "lfm2": replace(_LFM2, kinds=at("full_attn_idxs", CONVOLUTION, all_by_default=True), inner=_adjusted),
    "mamba": _MAMBA,
    "falcon_mamba": _MAMBA,
    "mamba2": replace(_MAMBA, mixers={LINEAR: mamba2}),
})  # fmt: skip
"""NB: the key is the `model_type` of the part that generates text."""
