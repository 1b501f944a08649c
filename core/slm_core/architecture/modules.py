"""Which modules of a model a quantisation names: by name, by part of a name, or by pattern.

Exists because what is left out of a quantisation has four times the bytes. Assumes that names are a checkpoint's, and
reads those of other families as Llama's. Must never run a stranger's regular expression, which may be written to run
for ever, nor pass over a name in silence.
"""

from __future__ import annotations

import fnmatch
import itertools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core.architecture.fields import Fields, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MOST_NAMES, _MOST_PATTERNS, _LONGEST = 50_000, 200, 500
_OTHER_WORDS = {
    "block_sparse_moe": "mlp", "feed_forward": "mlp", "ffn": "mlp", "attention": "self_attn", "attn": "self_attn",
    "router": "gate", "shared_expert": "shared_experts", "fc1": "up_proj", "fc2": "down_proj", "mixer": "mamba",
    "gate_proj": "up_proj", "gate_up_proj": "up_proj", "w1": "up_proj", "w3": "up_proj", "w2": "down_proj",
    "dense_h_to_4h": "up_proj", "dense_4h_to_h": "down_proj", "dense": "o_proj", "out_proj": "o_proj",
    "query_key_value": "qkv_proj", "c_attn": "qkv_proj", "W_pack": "qkv_proj",
}  # fmt: skip
"""What other families call a part. NB: up_proj stands for gate and up together."""
_FUSED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"}
_LAYERS = re.compile(r"^[a-z_.]*\b(?:layers|h|blocks)\.(?=[\d*])")
_SEES = re.compile(r"vis|image|audio")
_LIGHT = re.compile(
    r"norm|embed|head|vis|image|audio|project|router|gate(?!_(up_)?proj)|mtp|rotary|conv|bias|score|wte|wpe|merger|connector|tower"
)
"""Words of parts that no quantisation of ours reaches, or that weigh next to nothing."""


@dataclass(frozen=True, slots=True)
class Modules:
    """A set of modules."""

    names: frozenset[str] = frozenset()
    """Names, or whole words of names in their order."""
    patterns: tuple[str, ...] = ()
    """Globs of names."""

    def include(self, module: str) -> bool:
        """Whether a module is among them, or is part of one that is."""
        if not self.names and not self.patterns:
            return False
        spellings = _spellings(module)
        return any(not self.names.isdisjoint(_runs(name)) for name in spellings) or any(
            fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns for name in spellings
        )

    def strangers(self, modules: Sequence[str]) -> Iterator[str]:
        """Names and patterns that are none of these modules' nor of anything light."""
        if not self.names and not self.patterns:
            return
        spelt = [name for module in modules for name in _spellings(module)]
        known = {run for name in spelt for run in _runs(name)}
        yield from (name for name in sorted(self.names - known) if not _LIGHT.search(name.rpartition(".")[2]))
        for pattern in self.patterns:
            if not _LIGHT.search(pattern) and not fnmatch.filter(spelt, pattern):
                yield pattern


def read_modules(f: Fields, *fields: str) -> Modules:
    """What these fields name. Raises ConfigError for an expression that is more than a glob."""
    names: set[str] = set()
    patterns: list[str] = []
    for field in fields:
        words = f.words(field) or ()
        if len(words) > _MOST_NAMES or any(len(word) > _LONGEST for word in words):
            raise f.wrong(field, "too long a list of modules: measure the model")
        for word in words:
            for one in _globs(f, field, word):
                (patterns.append if "*" in one else names.add)(one)
    if len(patterns) > _MOST_PATTERNS:
        raise f.wrong(fields[0], "too many patterns of modules: measure the model")
    return Modules(frozenset(names), tuple(patterns))


def _globs(f: Fields, field: str, word: str) -> tuple[str, ...]:
    r"""The names or globs that a word means: with `re:` an expression of `.*`, `\.`, `^`, `$` and of alternatives."""
    expression = word.removeprefix("re:")
    if expression == word:
        return (f"{_renamed(word)}*" if "*" in word else _renamed(word),)
    ends = expression.endswith("$")
    plain = expression.removeprefix("^").removesuffix("$").replace("\\.", ".").replace("\\d+", "*").replace(".*", "*")
    alternatives = [part.split("|") for part in re.split(r"\((?:\?:)?([^()]*)\)", plain)]
    if any(len(part) > 1 for part in alternatives[::2]) or math.prod(map(len, alternatives)) > _MOST_PATTERNS:
        raise f.wrong(field, f"{shown(word)} is more than a pattern of names: measure the model")
    found = tuple(_renamed("".join(parts)) for parts in itertools.product(*alternatives))
    if any(set(one) & set("\\()[]{}+?|^$") for one in found):
        raise f.wrong(field, f"{shown(word)} is more than a pattern of names: measure the model")
    return tuple(one if ends and "*" in one else f"{one}*" for one in found)


def _renamed(name: str) -> str:
    """With our words for those of other families, of the text part at least."""
    if not _SEES.search(name):
        name = _LAYERS.sub("model.layers.", name)
    return ".".join(_OTHER_WORDS.get(word, word) for word in name.split("."))


def _spellings(module: str) -> tuple[str, ...]:
    """A module's name, and the one that it has where it is fused with others."""
    head, _, last = module.rpartition(".")
    renamed = _renamed(module)
    fused = (f"{head}.{_FUSED[last]}",) if last in _FUSED else ()
    return (module, *fused) if renamed == module else (module, renamed, *fused)


def _runs(name: str) -> Iterator[str]:
    """All runs of whole words of a name."""
    words = name.split(".")
    return (".".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1))
