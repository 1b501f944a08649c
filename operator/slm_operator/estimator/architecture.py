"""What a model weighs and what a token of context costs, from its `config.json`.

Exists so that something can be said before anything is measured. Counts parameters as the architectures define them
(dense, grouped-query, multi-head latent attention, mixture of experts, sliding windows) and bytes as vLLM keeps them.
Assumes the field names of Hugging Face Transformers. Must never guess a size that the file does not tell: it raises.

Sources: the modelling code of Transformers for OPT, Llama, Mistral, Mixtral, Qwen, Gemma, DeepSeek-V2; vLLM for what
is quantised (linear layers, not embeddings) and for float32 checkpoints (loaded in 16 bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DTYPE_BYTES = {"float16": 2.0, "bfloat16": 2.0, "float32": 2.0, "float8_e4m3fn": 1.0}
"""Bytes of a weight as vLLM loads it: float32 checkpoints become 16 bits."""
KV_DTYPE_BYTES = {"auto": 2.0, "float16": 2.0, "bfloat16": 2.0, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0}
METHOD_BITS = {"awq": 4, "gptq": 4, "awq_marlin": 4, "gptq_marlin": 4, "fp8": 8, "bitsandbytes": 8, "mxfp4": 4}
"""Bits of a weight by quantisation method, where the file does not tell."""


class ConfigError(ValueError):
    """A config.json that does not tell what is needed. The message names the field and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Sizes of one model."""

    parameters: int
    """All weights, counted."""
    active_parameters: int
    """Those that one token goes through: fewer than all in a mixture of experts."""
    weights_bytes: int
    """All weights, in memory."""
    active_bytes: int
    """Weights that one token reads."""
    expert_bytes: int
    """Weights of all experts that tokens are routed to. 0 without experts."""
    expert_share: float
    """Part of them that one token reads."""
    layers: int
    hidden_size: int
    vocabulary: int
    kv_bytes_per_token: int
    """KV cache bytes of one token, all layers."""
    window_tokens: int | None
    """Sliding window, absent where every layer sees everything."""
    windowed_fraction: float
    """Part of the layers that see the window only."""

    def kv_bytes_per_sequence(self, tokens: float) -> float:
        """KV cache bytes of a sequence of so many tokens."""
        if self.window_tokens is None:
            return self.kv_bytes_per_token * tokens
        seen = self.windowed_fraction * min(tokens, self.window_tokens) + (1 - self.windowed_fraction) * tokens
        return self.kv_bytes_per_token * seen


def read_architecture(config: Mapping[str, Any], *, kv_dtype: str = "auto") -> Architecture:
    """Count a model. `config` is the parsed config.json, `kv_dtype` is vLLM's --kv-cache-dtype. Raises ConfigError."""
    text = {**config, **(config.get("text_config") or {})}
    layers, hidden, vocabulary = (_count(text, name) for name in ("num_hidden_layers", "hidden_size", "vocab_size"))
    attention, per_token = _latent_attention(text) if "kv_lora_rank" in text else _attention(text)
    dense, always, expert = _feed_forward(text)
    experts, used = _experts(text)
    sparse_layers = _sparse_layers(text, layers)
    norms = (4 if _is_opt(text) else 2) * hidden
    fixed = layers * attention + (layers - sparse_layers) * dense + sparse_layers * always
    linear, linear_active = (fixed + sparse_layers * count * expert for count in (experts, used))
    tied = text.get("tie_word_embeddings", _is_opt(text))
    embeddings = (1 if tied else 2) * vocabulary * text.get("word_embed_proj_dim", hidden) + _positions(text, hidden)
    last_norm = norms // 2 if text.get("do_layer_norm_before", True) else 0  # OPT-350M has none
    rest = embeddings + layers * norms + last_norm
    # Reading one row of the input embedding costs nothing, the output projection is read whole.
    rest_active = vocabulary * hidden + layers * norms
    linear_bytes, other_bytes = _weight_bytes(text), _dtype_bytes(text)
    window, fraction = _window(text, layers)
    return Architecture(
        parameters=linear + rest,
        active_parameters=linear_active + rest_active,
        weights_bytes=round(linear * linear_bytes + rest * other_bytes),
        active_bytes=round(linear_active * linear_bytes + rest_active * other_bytes),
        expert_bytes=round(sparse_layers * experts * expert * linear_bytes),
        expert_share=used / experts if experts else 0.0,
        layers=layers,
        hidden_size=hidden,
        vocabulary=vocabulary,
        kv_bytes_per_token=round(layers * per_token * _kv_dtype_bytes(kv_dtype)),
        window_tokens=window,
        windowed_fraction=fraction,
    )


def _attention(text: Mapping[str, Any]) -> tuple[int, int]:
    """Parameters of one layer's attention, and KV elements of one token in it."""
    hidden, heads = _count(text, "hidden_size"), _count(text, "num_attention_heads")
    size = text.get("head_dim") or hidden // heads
    kv = (text.get("num_key_value_heads") or heads) * size
    queries = heads * size
    weights = hidden * (queries + 2 * kv) + queries * hidden
    if _is_opt(text):
        return weights + queries + 2 * kv + hidden, 2 * kv
    if text.get("attention_bias") or text.get("model_type") in ("qwen2", "qwen2_moe"):
        weights += queries + 2 * kv
    return weights, 2 * kv


def _latent_attention(text: Mapping[str, Any]) -> tuple[int, int]:
    """Multi-head latent attention (DeepSeek-V2): the cache holds one compressed vector and one rotary key."""
    hidden, heads = _count(text, "hidden_size"), _count(text, "num_attention_heads")
    latent, rope, nope, value = (
        _count(text, name) for name in ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
    )
    query = heads * (nope + rope)
    rank = text.get("q_lora_rank")
    queries = hidden * rank + rank + rank * query if rank else hidden * query
    keys = hidden * (latent + rope) + latent + latent * heads * (nope + value)
    return queries + keys + heads * value * hidden, latent + rope


def _feed_forward(text: Mapping[str, Any]) -> tuple[int, int, int]:
    """Parameters of a dense layer, of what every token uses of a sparse layer, and of one expert."""
    hidden = _count(text, "hidden_size")
    if _is_opt(text):
        inner = _count(text, "ffn_dim")
        return 2 * hidden * inner + inner + hidden, 0, 0
    dense = 3 * hidden * _count(text, "intermediate_size")
    experts, _ = _experts(text)
    if not experts:
        return dense, 0, 0
    one = 3 * hidden * (text.get("moe_intermediate_size") or _count(text, "intermediate_size"))
    shared = 3 * hidden * (text.get("shared_expert_intermediate_size") or 0) + one * (text.get("n_shared_experts") or 0)
    return dense, shared + hidden * experts, one


def _experts(text: Mapping[str, Any]) -> tuple[int, int]:
    """Routed experts of a sparse layer, and how many of them a token uses. 0 and 0 without experts."""
    names = ("num_local_experts", "n_routed_experts", "num_experts")
    experts = next((int(text[name]) for name in names if text.get(name)), 0)
    return experts, _count(text, "num_experts_per_tok") if experts else 0


def _sparse_layers(text: Mapping[str, Any], layers: int) -> int:
    """Layers with experts: all but the first few (DeepSeek), the listed ones, or every n-th (Qwen)."""
    if not _experts(text)[0]:
        return 0
    first, step = text.get("first_k_dense_replace") or 0, text.get("decoder_sparse_step") or 1
    dense = set(text.get("mlp_only_layers") or ())
    return sum(i >= first and i not in dense and (i + 1) % step == 0 for i in range(layers))


def _window(text: Mapping[str, Any], layers: int) -> tuple[int | None, float]:
    """Sliding window in tokens, and the part of the layers that it holds for."""
    window = text.get("sliding_window")
    if not window or text.get("use_sliding_window") is False:
        return None, 0.0
    kinds, pattern = text.get("layer_types"), text.get("sliding_window_pattern")
    if kinds:
        return int(window), sum(kind == "sliding_attention" for kind in kinds) / len(kinds)
    if pattern:
        return int(window), 1 - (layers // pattern) / layers
    return int(window), 0.5 if text.get("model_type") == "gemma2" else 1.0


def _positions(text: Mapping[str, Any], hidden: int) -> int:
    """OPT learns its positions, with an offset of 2; the others rotate."""
    if not _is_opt(text):
        return 0
    projected = text.get("word_embed_proj_dim", hidden)
    return (_count(text, "max_position_embeddings") + 2) * hidden + (
        2 * projected * hidden if projected != hidden else 0
    )


def _weight_bytes(text: Mapping[str, Any]) -> float:
    """Bytes of one weight of a linear layer, with its share of scales and zero points."""
    quantised = text.get("quantization_config")
    if not quantised:
        return _dtype_bytes(text)
    bits = _bits(quantised)
    group = quantised.get("group_size") or 0
    overhead = (16 + bits) / group if group > 0 else 0.0
    return (bits + overhead) / 8


def _bits(quantised: Mapping[str, Any]) -> int:
    groups = quantised.get("config_groups") or {}
    listed = [group["weights"]["num_bits"] for group in groups.values() if group.get("weights")]
    if quantised.get("load_in_4bit"):
        return 4
    found = listed[0] if listed else quantised.get("bits") or METHOD_BITS.get(str(quantised.get("quant_method")))
    if not found:
        raise ConfigError("quantization_config.bits: missing: give the bits of a weight, or measure the model")
    return int(found)


def _dtype_bytes(text: Mapping[str, Any]) -> float:
    name = str(text.get("dtype") or text.get("torch_dtype") or "float16").removeprefix("torch.")
    if name not in DTYPE_BYTES:
        raise ConfigError(f"torch_dtype: {name!r} is none of {', '.join(DTYPE_BYTES)}: measure the model instead")
    return DTYPE_BYTES[name]


def _kv_dtype_bytes(name: str) -> float:
    if name not in KV_DTYPE_BYTES:
        raise ConfigError(f"kv-cache-dtype: {name!r} is none of {', '.join(KV_DTYPE_BYTES)}")
    return KV_DTYPE_BYTES[name]


def _is_opt(text: Mapping[str, Any]) -> bool:
    return text.get("model_type") == "opt"


def _count(text: Mapping[str, Any], name: str) -> int:
    value = text.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name}: {value!r} is not a whole number of at least 1: give the model's own config.json")
    return value
