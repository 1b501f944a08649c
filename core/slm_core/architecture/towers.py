"""Models that see: which part of them generates text, and what their vision tower and its projector weigh.

Exists because the engine loads the tower too. Assumes the modelling code of Transformers. A tower without a row here is
not known, and its model is refused: leaving it out would be a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slm_core.architecture.fields import Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """A model with eyes."""

    weights: Callable[[Fields, Fields, int], int]
    """Of tower and projector, by `vision_config`, the whole file, and the text part's width."""
    has_defaults: bool = True
    """Whether a file without `vision_config` means the tower's class defaults."""


def _norm(width: int) -> int:
    return 2 * width


def _linear(from_width: int, to_width: int) -> int:
    return from_width * to_width + to_width


def _encoder(v: Fields) -> int:
    """Layers of a plain vision transformer with biases everywhere, as CLIP and SigLIP have them."""
    hidden, inner = v.count("hidden_size"), v.count("intermediate_size")
    layer = 4 * _linear(hidden, hidden) + _linear(hidden, inner) + _linear(inner, hidden) + 2 * _norm(hidden)
    return v.count("num_hidden_layers") * layer


def _patches(v: Fields) -> int:
    return v.count("num_channels") * v.count("patch_size") ** 2


def _places(v: Fields) -> int:
    return (v.count("image_size") // v.count("patch_size")) ** 2


def _siglip(v: Fields) -> int:
    hidden, inner = v.count("hidden_size"), v.count("intermediate_size")
    body = _linear(_patches(v), hidden) + _places(v) * hidden + _encoder(v) + _norm(hidden)
    if v.raw("vision_use_head") is False:
        return body
    pooled = hidden + 4 * _linear(hidden, hidden) + _norm(hidden)
    return body + pooled + _linear(hidden, inner) + _linear(inner, hidden)


def _gemma3(v: Fields, _: Fields, width: int) -> int:
    return _siglip(v) + v.count("hidden_size") * (width + 1)


def _paligemma(v: Fields, f: Fields, _: int) -> int:
    return _siglip(v) + _linear(v.count("hidden_size"), f.count("projection_dim"))


def _llava(v: Fields, f: Fields, width: int) -> int:
    """CLIP, and two layers between."""
    hidden, biased = v.count("hidden_size"), f.flag("multimodal_projector_bias")
    body = _patches(v) * hidden + (_places(v) + 2) * hidden + 2 * _norm(hidden) + _encoder(v)
    return body + hidden * width + width * width + 2 * width * biased


def _pixtral(v: Fields, f: Fields, width: int) -> int:
    hidden, inner, merged = v.count("hidden_size"), v.count("intermediate_size"), f.count("spatial_merge_size") ** 2
    layer = 4 * hidden * hidden + 3 * hidden * inner + 2 * hidden
    tower = _patches(v) * hidden + hidden + v.count("num_hidden_layers") * layer
    biases = 2 * width if f.flag("multimodal_projector_bias") else 0
    return tower + hidden + merged * hidden * hidden + hidden * width + width * width + biases


def _idefics3(v: Fields, f: Fields, width: int) -> int:
    hidden, scale = v.count("hidden_size"), f.optional("scale_factor") or 2
    body = _linear(_patches(v), hidden) + _places(v) * hidden + _encoder(v) + _norm(hidden)
    return body + hidden * scale**2 * width


def _cubes(v: Fields) -> int:
    channels = v.optional("in_chans") or v.count("in_channels")
    return channels * v.count("temporal_patch_size") * v.count("patch_size") ** 2


def _qwen2_vl(v: Fields, _: Fields, width: int) -> int:
    hidden, inner = v.count("embed_dim"), v.count("embed_dim") * v.count("mlp_ratio")
    layer = 4 * _linear(hidden, hidden) + _linear(hidden, inner) + _linear(inner, hidden) + 2 * _norm(hidden)
    merged = hidden * v.count("spatial_merge_size") ** 2
    out = v.optional("hidden_size") or width
    body = _cubes(v) * hidden + v.count("depth") * layer
    return body + _norm(hidden) + _linear(merged, merged) + _linear(merged, out)


def _qwen2_5_vl(v: Fields, _: Fields, __: int) -> int:
    hidden, inner = v.count("hidden_size"), v.count("intermediate_size")
    layer = 4 * _linear(hidden, hidden) + 2 * _linear(hidden, inner) + _linear(inner, hidden) + 2 * hidden
    merged = hidden * v.count("spatial_merge_size") ** 2
    body = _cubes(v) * hidden + v.count("depth") * layer
    return body + hidden + _linear(merged, merged) + _linear(merged, v.count("out_hidden_size"))


def _qwen3_vl(v: Fields, _: Fields, __: int) -> int:
    """With a further merger for each layer whose features go deeper."""
    hidden, inner, out = v.count("hidden_size"), v.count("intermediate_size"), v.count("out_hidden_size")
    layer = 4 * _linear(hidden, hidden) + _linear(hidden, inner) + _linear(inner, hidden) + 2 * _norm(hidden)
    merged = hidden * v.count("spatial_merge_size") ** 2
    merger = _linear(merged, merged) + _linear(merged, out)
    deep = len(v.numbers("deepstack_visual_indexes")) * (merger + _norm(merged))
    body = _linear(_cubes(v), hidden) + v.count("num_position_embeddings") * hidden + v.count("depth") * layer
    return body + _norm(hidden) + merger + deep


TOWERS: Mapping[str, Tower] = MappingProxyType({
    "gemma3": Tower(weights=_gemma3),
    "llava": Tower(weights=_llava, has_defaults=False),
    "mistral3": Tower(weights=_pixtral, has_defaults=False),
    "idefics3": Tower(weights=_idefics3),
    "smolvlm": Tower(weights=_idefics3),
    "paligemma": Tower(weights=_paligemma, has_defaults=False),
    "qwen2_vl": Tower(weights=_qwen2_vl),
    "qwen2_5_vl": Tower(weights=_qwen2_5_vl),
    "qwen3_vl": Tower(weights=_qwen3_vl),
    "qwen3_5": Tower(weights=_qwen3_vl),
    "qwen3_5_moe": Tower(weights=_qwen3_vl),
})  # fmt: skip
"""By the `model_type` of the whole."""
