"""Which layers of a model are what: attention, a window, a state, experts. By the file's list, else by its family's rule.

Exists because a hybrid model keeps KV in few of its layers, and charging all of them is wrong by a factor. Must never
read a list that does not fit the number of layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.architecture.family import (
    ALIASES,
    BOTH,
    CONVOLUTION,
    EXPERTS,
    FEED,
    FULL,
    LINEAR,
    WINDOWED,
    Family,
    Kinds,
    layers_of,
)
from slm_core.architecture.fields import REMEDY, Fields, shown

if TYPE_CHECKING:
    from collections.abc import Callable

KNOWN = frozenset({FULL, WINDOWED, LINEAR, CONVOLUTION, BOTH, FEED, EXPERTS})


def kinds_of(f: Fields, family: Family) -> tuple[str, ...]:
    """The kind of each layer. Raises ConfigError for a list of another length, or with an unknown kind."""
    layers = layers_of(f)
    listed = _listed(f, layers)
    kinds = listed or (family.kinds(f, layers) if family.kinds else (FULL,) * layers)
    if window_of(f) is None:
        return tuple(FULL if kind == WINDOWED else kind for kind in kinds)
    if listed and WINDOWED in listed:
        return kinds
    return tuple(WINDOWED if kind == FULL and family.window(f, i) else kind for i, kind in enumerate(kinds))


def window_of(f: Fields) -> int | None:
    """Tokens of the sliding window, absent where the file has none or switches it off."""
    window = f.optional("sliding_window", least=0)
    if not window or (f.raw("use_sliding_window") is not None and not f.flag("use_sliding_window")):
        return None
    return window


def _listed(f: Fields, layers: int) -> tuple[str, ...] | None:
    for name in ("layer_types", "layers_block_type"):
        words = f.words(name)
        if words:
            return _kinds(f, name, words, layers)
    pattern = f.word("hybrid_override_pattern")
    return _kinds(f, "hybrid_override_pattern", tuple(pattern), layers) if pattern else None


def _kinds(f: Fields, name: str, words: tuple[str, ...], layers: int) -> tuple[str, ...]:
    if len(words) != layers:
        raise f.wrong(name, f"{len(words)} kinds for {layers} layers: {REMEDY}")
    found = tuple(ALIASES.get(word, word) for word in words)
    strange = next((word for word in found if word not in KNOWN), None)
    if strange is not None:
        raise f.wrong(name, f"layers of the kind {shown(strange)} are not known here: measure the model")
    return found


def all_but_each(default: int) -> Callable[[Fields, int], bool]:
    """A window in all layers but each n-th; the file may say n, or a pattern as text (`LLLG`: three windows, one full)."""

    def is_windowed(f: Fields, layer: int) -> bool:
        pattern = f.raw("sliding_window_pattern")
        if isinstance(pattern, str):
            if not pattern or set(pattern) - {"L", "G"}:
                raise f.wrong("sliding_window_pattern", f"{shown(pattern)} is not made of L and G: measure the model")
            return pattern[layer % len(pattern)] == "L"
        return bool((layer + 1) % (f.optional("sliding_window_pattern") or default))

    return is_windowed


def above_the_first(f: Fields, layer: int) -> bool:
    """A window in the layers above `max_window_layers` (Qwen 2 and 3)."""
    return layer >= (f.optional("max_window_layers", least=0) or 0)


def each(period: str, offset: str, otherwise: str) -> Kinds:
    """Attention in each n-th layer from an offset on (Jamba)."""

    def kinds(f: Fields, layers: int) -> tuple[str, ...]:
        step, first = f.count(period), f.optional(offset, least=0) or 0
        return tuple(FULL if layer % step == first else otherwise for layer in range(layers))

    return kinds


def each_last(name: str, default: int) -> Kinds:
    """Attention in the last of every n layers, a state in the others (Qwen3-Next)."""

    def kinds(f: Fields, layers: int) -> tuple[str, ...]:
        step = f.optional(name) or default
        return tuple(LINEAR if (layer + 1) % step else FULL for layer in range(layers))

    return kinds


def at(name: str, otherwise: str, *, all_by_default: bool) -> Kinds:
    """Attention in the layers of a list of numbers (Bamba, LFM2)."""

    def kinds(f: Fields, layers: int) -> tuple[str, ...]:
        if f.raw(name) is None and all_by_default:
            return (FULL,) * layers
        chosen = set(f.numbers(name))
        return tuple(FULL if layer in chosen else otherwise for layer in range(layers))

    return kinds


def all_of(kind: str) -> Kinds:
    """One kind."""
    return lambda _, layers: (kind,) * layers


def must_be_listed(f: Fields, _: int) -> tuple[str, ...]:
    """A family whose rule is only in its files."""
    raise f.wrong("layer_types", "missing: the kinds of its layers are not known without it: measure the model")
