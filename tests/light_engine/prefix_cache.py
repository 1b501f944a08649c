"""vLLM's prefix cache in small: which beginnings of prompts have been computed before, in whole blocks.

Exists so that a load which repeats its prompts is as much too fast here as it would be on the real engine.
"""

from collections import OrderedDict
from collections.abc import Sequence

BLOCK_TOKENS = 16


class PrefixCache:
    """The blocks used last, at most `blocks` of them."""

    def __init__(self, blocks: int) -> None:
        self._most = blocks
        self._kept: OrderedDict[int, None] = OrderedDict()
        self.queries = 0
        """Prompt tokens that were looked up."""
        self.hits = 0
        """Those that were there."""

    def hit(self, prompt: Sequence[int]) -> int:
        """Tokens of the prompt that need not be computed again, of which one always is; all of it is kept from now on."""
        chain, found, whole = 0, 0, True
        for end in range(BLOCK_TOKENS, len(prompt) + 1, BLOCK_TOKENS):
            chain = hash((chain, *prompt[end - BLOCK_TOKENS : end]))
            whole = whole and chain in self._kept
            found += BLOCK_TOKENS if whole and end < len(prompt) else 0
            self._kept[chain] = None
            self._kept.move_to_end(chain)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        self.queries += len(prompt)
        self.hits += found
        return found
