"""Weights of the parts that models are built of, each by the dimensions of its config.json.

Exists so that a family is a row of a table and not a module. A part is what a checkpoint calls a module, so that a
quantisation that names modules can be followed. Assumes the modelling code of Transformers; tests/data/architectures.json
has what that counts. Must never know a family by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core.architecture.fields import REMEDY

if TYPE_CHECKING:
    from slm_core.architecture.family import Family
    from slm_core.architecture.fields import Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Weights of one module."""

    module: str
    """Its name below the layer, as Llama's would be: `self_attn.q_proj`."""
    weights: int
    linear: bool = True
    """A matrix that a quantisation may reach: norms, biases and convolutions are none."""
    read_fraction: float = 1.0
    """Part of it that one token goes through."""
    expert: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixer:
    """How tokens of a layer see each other."""

    parts: tuple[Part, ...]
    kv_elements: int = 0
    """Elements that each token adds to the cache."""
    state_elements: int = 0
    """Elements that a sequence keeps whatever its length."""


def attention(f: Fields, family: Family) -> Mixer:
    """Keys and values of each head, or of groups of heads."""
    hidden, heads = f.count("hidden_size"), f.count("num_attention_heads")
    size = f.optional("head_dim") or _divided(f, hidden, heads)
    kv_heads = family.kv_heads(f, heads)
    queries, kv = heads * size, kv_heads * size
    asked = queries * 2 if family.output_gate else queries
    parts = [
        Part(module="self_attn.q_proj", weights=hidden * asked),
        Part(module="self_attn.k_proj", weights=hidden * kv),
        Part(module="self_attn.v_proj", weights=hidden * kv),
        Part(module="self_attn.o_proj", weights=queries * hidden),
    ]
    rest = family.qk_norm(f, heads, kv_heads, size)
    rest += asked + 2 * kv if family.has(f, family.qkv_bias) else 0
    rest += hidden if family.has(f, family.out_bias) else 0
    rest += heads if family.sinks else 0
    return Mixer(parts=(*parts, _other("self_attn.bias", rest)), kv_elements=2 * kv)


def latent_attention(f: Fields, family: Family) -> Mixer:
    """Multi-head latent attention (DeepSeek): the cache holds one compressed vector and one rotary key."""
    hidden, heads = f.count("hidden_size"), f.count("num_attention_heads")
    latent, rope = f.count("kv_lora_rank"), f.count("qk_rope_head_dim")
    nope, value = f.count("qk_nope_head_dim"), f.count("v_head_dim")
    rank, query = f.optional("q_lora_rank"), heads * (nope + rope)
    parts = [
        Part(module="self_attn.q_proj", weights=(hidden + query) * rank if rank else hidden * query),
        Part(module="self_attn.kv_proj", weights=hidden * (latent + rope) + latent * heads * (nope + value)),
        Part(module="self_attn.o_proj", weights=heads * value * hidden),
    ]
    biases = (rank or 0) + latent + rope + hidden if family.has(f, family.qkv_bias) else 0
    rest = _other("self_attn.norm", (rank or 0) + latent + biases)
    return Mixer(parts=(*parts, rest), kv_elements=latent + rope)


def mamba(f: Fields, family: Family) -> Mixer:
    """The first Mamba: a state of each channel."""
    hidden = f.count("hidden_size")
    inner = hidden * f.first("mamba_expand", "expand")
    states, kernel = f.first("mamba_d_state", "state_size"), f.first("mamba_d_conv", "conv_kernel")
    rank = _automatic(f, ("mamba_dt_rank", "time_step_rank"), -(-hidden // 16))
    in_biased, out_biased, conv_biased = _mamba_biases(f, family)
    parts = (
        Part(module="mamba.in_proj", weights=2 * inner * hidden),
        Part(module="mamba.x_proj", weights=inner * (rank + 2 * states)),
        Part(module="mamba.dt_proj", weights=inner * rank),
        Part(module="mamba.out_proj", weights=inner * hidden),
        _other("mamba.conv1d", inner * (kernel + conv_biased)),
        _other("mamba.rest", inner * (states + 2) + in_biased * 2 * inner + out_biased * hidden),
        _other("mamba.norm", rank + 2 * states if family.state_norms else 0),
    )
    return Mixer(parts=parts, state_elements=inner * (kernel - 1 + states))


def mamba2(f: Fields, family: Family) -> Mixer:
    """The second Mamba: heads and groups."""
    hidden = f.count("hidden_size")
    heads = f.first("mamba_n_heads", "mamba_num_heads", "num_heads")
    size = _automatic(f, ("mamba_d_head", "mamba_head_dim", "head_dim"), 0)
    inner = f.optional("mamba_d_ssm") or (heads * size or hidden * f.first("mamba_expand", "expand"))
    groups, states = f.first("mamba_n_groups", "n_groups"), f.first("mamba_d_state", "ssm_state_size", "state_size")
    kernel, wide = f.first("mamba_d_conv", "conv_kernel"), inner + 2 * groups * states
    in_biased, out_biased, conv_biased = _mamba_biases(f, family)
    made = inner + wide + heads
    parts = (
        Part(module="mamba.in_proj", weights=hidden * made),
        Part(module="mamba.out_proj", weights=inner * hidden),
        _other("mamba.conv1d", wide * (kernel + conv_biased)),
        _other("mamba.rest", 3 * heads + in_biased * made + out_biased * hidden),
        _other("mamba.norm", inner if family.mamba_norm(f) else 0),
    )
    return Mixer(parts=parts, state_elements=wide * (kernel - 1) + inner * states)


def attention_and_mamba2(f: Fields, family: Family) -> Mixer:
    """Both, side by side in each layer (Falcon-H1)."""
    one, other = attention(f, family), mamba2(f, family)
    return Mixer(
        parts=one.parts + other.parts,
        kv_elements=one.kv_elements,
        state_elements=one.state_elements + other.state_elements,
    )


def linear_attention(f: Fields, family: Family) -> Mixer:  # noqa: ARG001 - a mixer's signature
    """Gated delta rule (Qwen3-Next): one matrix of each head, whatever the length."""
    hidden = f.count("hidden_size")
    keys, key = f.count("linear_num_key_heads"), f.count("linear_key_head_dim")
    values, value = f.count("linear_num_value_heads"), f.count("linear_value_head_dim")
    mixed, kernel = 2 * keys * key + values * value, f.count("linear_conv_kernel_dim")
    parts = (
        Part(module="linear_attn.in_proj", weights=hidden * (mixed + values * value + 2 * values)),
        Part(module="linear_attn.out_proj", weights=values * value * hidden),
        _other("linear_attn.conv1d", mixed * kernel),
        _other("linear_attn.norm", 2 * values + value),
    )
    return Mixer(parts=parts, state_elements=mixed * (kernel - 1) + values * key * value)


def short_convolution(f: Fields, family: Family) -> Mixer:  # noqa: ARG001 - a mixer's signature
    """A gated convolution over a few tokens (LFM2)."""
    hidden, kernel, biased = f.count("hidden_size"), f.count("conv_L_cache"), f.flag("conv_bias")
    parts = (
        Part(module="conv.in_proj", weights=3 * hidden * hidden),
        Part(module="conv.out_proj", weights=hidden * hidden),
        _other("conv.conv", hidden * kernel + biased * 5 * hidden),
    )
    return Mixer(parts=parts, state_elements=hidden * (kernel - 1))


def dense(f: Fields, family: Family) -> tuple[Part, ...]:
    """The feed-forward part that every token goes through."""
    hidden, inner = f.count("hidden_size"), family.inner(f)
    ups = 2 if family.gated else 1
    biases = ups * inner + hidden if family.has(f, family.mlp_bias) else 0
    return (
        Part(module="mlp.up_proj", weights=ups * hidden * inner),
        Part(module="mlp.down_proj", weights=hidden * inner),
        _other("mlp.bias", biases),
    )


def feed_as_mixer(f: Fields, family: Family) -> Mixer:
    """A layer of nothing but a feed-forward part (Nemotron-H)."""
    return Mixer(parts=dense(f, family))


def experts_as_mixer(f: Fields, family: Family) -> Mixer:
    """A layer of nothing but experts (Nemotron-H)."""
    return Mixer(parts=sparse(f, family))


def sparse(f: Fields, family: Family) -> tuple[Part, ...]:
    """Experts, of which a token goes through some, and what every token goes through beside them."""
    kind = family.experts
    assert kind is not None, "asked of layers with experts only"
    hidden, inner, count = f.count("hidden_size"), kind.inner(f), kind.count(f)
    used = kind.used(f)
    if used > count:
        raise f.wrong(kind.used_name(f), f"{used} of {count} experts: {REMEDY}")
    matrices = 3 if family.gated else 2
    shared, read = kind.shared(f), used / count
    biases = count * (2 * inner + hidden) if kind.bias else 0
    return (
        Part(module="mlp.experts", weights=count * matrices * hidden * inner, read_fraction=read, expert=True),
        Part(module="mlp.experts.bias", weights=biases, linear=False, read_fraction=read, expert=True),
        Part(module="mlp.gate", weights=hidden * count),
        Part(module="mlp.shared_experts", weights=matrices * hidden * shared),
        _other(
            "mlp.shared_experts.bias",
            (matrices - 1) * shared + hidden if shared and family.has(f, kind.shared_bias) else 0,
        ),
        _other("mlp.gate.rest", count * kind.router_extra + (hidden if kind.shared_gate and shared else 0)),
    )


def _mamba_biases(f: Fields, family: Family) -> tuple[int, int, int]:
    """1 for each of the biases of what goes in, what comes out, and the convolution, that is there."""
    convolution = f.flag("mamba_conv_bias") or f.flag("use_conv_bias")
    return int(family.has(f, family.state_in_bias)), int(family.has(f, family.state_out_bias)), int(convolution)


def _automatic(f: Fields, names: tuple[str, ...], otherwise: int) -> int:
    """A number that may be left to the model's class by the word auto."""
    for name in names:
        if f.raw(name) == "auto":
            return otherwise
        if found := f.optional(name):
            return found
    return otherwise


def _divided(f: Fields, hidden: int, heads: int) -> int:
    if hidden < heads:
        raise f.wrong("num_attention_heads", f"{heads} heads share {hidden} elements: {REMEDY}")
    return hidden // heads


def _other(module: str, weights: int) -> Part:
    return Part(module=module, weights=weights, linear=False)
