"""What tells one family of models from another, as far as sizes go: the columns of the table `families`.

Exists so that a further family is a row. Assumes that a column with a field's name holds for files that switch it.
Must never have a default that is a guess: the defaults are Llama's, and a family that differs says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from slm_core.architecture.fields import MOST_LAYERS, Fields
from slm_core.architecture.parts import Mixer, Part, attention, dense, sparse

FULL, WINDOWED, LINEAR, CONVOLUTION, BOTH = (
    "full_attention", "sliding_attention", "linear_attention", "conv", "hybrid",
)  # fmt: skip
FEED, EXPERTS = "mlp", "moe"
ALIASES = MappingProxyType({
    "attention": FULL, "*": FULL, "chunked_attention": FULL, "mamba": LINEAR, "M": LINEAR, "-": FEED, "E": EXPERTS,
})  # fmt: skip
"""Other words for the same kinds of layers."""

Switch: TypeAlias = bool | str
"""Always, never, or the name of the field that says it."""
Kinds: TypeAlias = Callable[[Fields, int], tuple[str, ...]]
"""The kind of each of so many layers."""
Mixing: TypeAlias = "Callable[[Fields, Family], Mixer]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts."""

    inner_name: str = "moe_intermediate_size"
    """Width of one expert; `intermediate_size` where the file does not have it."""
    shared: Callable[[Fields], int] = lambda _: 0
    """Width of what every token goes through beside them."""
    shared_gate: bool = False
    """A number of each token weighs the shared expert."""
    holds: Callable[[Fields, int, int], bool] = lambda _fields, _layer, _layers: True
    """Whether a layer, counted from 0, of so many has them."""
    router_extra: int = 0
    """Vectors of one element for each expert, beside the router's matrix."""
    bias: bool = False
    shared_bias: Switch = False

    def count(self, f: Fields) -> int:
        """Experts of a layer; 0 where the file has none."""
        return f.first("n_routed_experts", "moe_num_experts", "num_local_experts", "num_experts")

    def used(self, f: Fields) -> int:
        """How many of them a token goes through."""
        return f.count(self.used_name(f))

    def used_name(self, f: Fields) -> str:
        """The field that says so."""
        return next((name for name in ("moe_k", "moe_topk") if f.has(name)), "num_experts_per_tok")

    def inner(self, f: Fields) -> int:
        """Width of one expert."""
        return f.optional(self.inner_name) or f.count("intermediate_size")


def _nothing(*_: object) -> int:
    return 0


def _intermediate(f: Fields) -> int:
    return f.count("intermediate_size")


def grouped(f: Fields, heads: int) -> int:
    """As many KV heads as the file says, or as there are heads."""
    return f.optional("num_key_value_heads") or heads


def ungrouped(_: Fields, heads: int) -> int:
    """Every head keeps its own."""
    return heads


def of_each_head(_f: Fields, _heads: int, _kv_heads: int, size: int) -> int:
    """Norms of queries and keys that all heads share."""
    return 2 * size


def of_the_width(_f: Fields, heads: int, kv_heads: int, size: int) -> int:
    """Norms of queries and keys over all heads together."""
    return (heads + kv_heads) * size


def never(_f: Fields, _layer: int) -> bool:
    """No layer has a window."""
    return False


def always(_f: Fields, _layer: int) -> bool:
    """Every layer has the window, where the file has one."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One family. The defaults are Llama's."""

    kinds: Kinds | None = None
    """None: all layers are attention."""
    mixers: Mapping[str, Mixing] = field(default_factory=lambda: {FULL: attention})
    has_feed: bool = True
    """Each layer ends with a feed-forward part."""
    kv_heads: Callable[[Fields, int], int] = grouped
    qkv_bias: Switch = "attention_bias"
    out_bias: Switch = "attention_bias"
    qk_norm: Callable[[Fields, int, int, int], int] = _nothing
    output_gate: bool = False
    """Queries are twice as wide: half of them gates the output."""
    sinks: bool = False
    """One learned number of each head."""
    state_norms: bool = False
    state_in_bias: Switch = "mamba_proj_bias"
    state_out_bias: Switch = "mamba_proj_bias"
    mamba_norm: Callable[[Fields], bool] = lambda _: True
    window: Callable[[Fields, int], bool] = never
    """Whether a layer sees the window only, where the file does not list its layers' kinds."""
    gated: bool = True
    """The feed-forward part has a second matrix that gates the first."""
    inner: Callable[[Fields], int] = _intermediate
    mlp_bias: Switch = "mlp_bias"
    experts: Experts | None = None
    norms: Callable[[Fields], int] = lambda _: 2
    """Norms of a layer."""
    norm_vectors: int = 1
    """1: a weight, 2: a bias too, 0: neither."""
    has_norm_weights: Switch = True
    last_norm: Switch = True
    head_bias: Switch = False
    tied_field: str | None = "tie_word_embeddings"
    """None: the family never ties its output to its embeddings."""
    embedding_width: str = "hidden_size"
    rest: Callable[[Fields], int] = _nothing
    """Weights that a model has once: learned positions, projections of its embeddings."""
    rest_of_layer: int = 0

    def has(self, f: Fields, switch: Switch) -> bool:
        """Whether a switch is on."""
        return f.flag(switch) if isinstance(switch, str) else switch

    def feed(self, f: Fields, layer: int, layers: int) -> tuple[Part, ...]:
        """The feed-forward part of a layer."""
        if not self.has_feed:
            return ()
        kind = self.experts
        if kind is not None and kind.count(f) and kind.holds(f, layer, layers):
            return sparse(f, self)
        return dense(f, self)


def layers_of(f: Fields) -> int:
    """Layers of the model."""
    if f.raw("num_hidden_layers") is None and (listed := f.words("layers_block_type")):
        return len(listed)
    return f.count("num_hidden_layers", most=MOST_LAYERS)
