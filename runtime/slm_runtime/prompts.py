"""Prompts that no engine has seen before, of token ids that are plain text. Pure.

Exists because engines keep the prefill of what they have seen: a prompt that begins as an earlier one did costs less
than the workload's own, and its figures are too good. Random ids never meet again, and their content changes no speed.
Must never hold an id that stands for something else than text: an image's place in a prompt without images is an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping, Sequence

HEAD_TOKENS = 16
"""Tokens at the beginning of each prompt that are drawn for it alone: the smallest block that a prefix cache keeps."""
UNKNOWN_VOCABULARY = 1000
"""Where no config.json can be read (the engine does not tell): every vocabulary has so many tokens, and few of them do."""
MOST_TOKENS = 2**18
"""More ids than the largest vocabularies of today have are not needed, whatever a file says."""
LOWEST = 100
"""The lowest ids are special tokens in every tokenizer worth the name."""
TEXT_FRACTION = 0.9
"""Added tokens, among them the places of images and sounds, stand at the top of a vocabulary."""
_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where the config.json of a model of several modalities describes its language model."""
_SPECIAL = re.compile(r"_token_(?:id|ids|index)")


def text_tokens(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Ids that are text in the vocabulary of a config.json, at least one; {} for one that cannot be read."""
    size = min(min(_vocabulary_sizes(config), default=UNKNOWN_VOCABULARY), MOST_TOKENS)
    ids = range(min(LOWEST, size // 2), max(size // 2 + 1, int(TEXT_FRACTION * size)))
    special = frozenset(_special_ids(config))
    return tuple(i for i in ids if i not in special) or tuple(ids)


def _vocabulary_sizes(config: Mapping[str, Any]) -> Iterator[int]:
    """Each that the file names for text: an id below the smallest is known to all."""
    size = config.get("vocab_size")
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        yield size
    for name in _TEXT_PARTS:
        if isinstance(part := config.get(name), dict):
            yield from _vocabulary_sizes(part)


def _special_ids(config: Mapping[str, Any]) -> Iterator[int]:
    """Every id that the file names for a purpose, in whichever of its parts: begin, end, padding, images, sounds."""
    parts: list[Any] = [config]
    while parts:
        for name, value in parts.pop().items():
            if isinstance(value, dict):
                parts.append(value)
            elif _SPECIAL.search(name):
                yield from (i for i in (value if isinstance(value, list) else [value]) if isinstance(i, int))


class Prompts:
    """Draws prompts of any length up to `longest`, each as the text of a JSON array without its brackets."""

    def __init__(self, tokens: Sequence[int], longest: int, rng: random.Random) -> None:
        self._tokens = tokens
        self._rng = rng
        self._rest = self._drawn(max(1, longest))
        # Where each token id ends in the rest, so that any length of it is one slice.
        self._ends = [*(i for i, letter in enumerate(self._rest) if letter == ","), len(self._rest)]

    def draw(self, tokens: int) -> str:
        """A prompt of so many tokens. What follows its head is the same in all: prefix caches go by the beginning."""
        head = self._drawn(min(tokens, HEAD_TOKENS))
        rest = tokens - HEAD_TOKENS
        return f"{head},{self._rest[: self._ends[rest - 1]]}" if rest > 0 else head

    def _drawn(self, tokens: int) -> str:
        return ",".join(map(str, self._rng.choices(self._tokens, k=tokens)))
