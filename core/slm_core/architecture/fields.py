"""Fields of a config.json, which anybody may have written: each is read as what it must be, or refused by its name.

Exists because a value of the wrong type must be one sentence that names its field, and never a traceback or a wrong
size. Assumes what Transformers assumes: what a file leaves out has the default of its family's configuration class.
Must never guess what neither says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST = 10**9
"""No dimension of a model is larger. Python would go on with any number, and so would every sum of ours."""
MOST_LAYERS = 10_000
MAIN = frozenset({
    "num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "intermediate_size", "n_layer", "n_embd",
    "n_head", "num_layers", "num_heads", "d_model", "n_layers", "n_heads", "ffn_dim", "state_size",
})  # fmt: skip
"""What a model's own file never leaves out, except in a part of it: their class defaults are those of another model."""
NOT_IN_CLASSES = frozenset({"tie_embedding", "tie_word_embeddings"})
"""Switches that a class takes without having them as a field: LFM2's, and that of a part, which the whole has."""
_SHOWN = 60
REMEDY = "give the model's own config.json, or measure the model"


class ConfigError(ValueError):
    """A config.json that does not tell what is needed. The message names the field and the remedy."""


class Fields:
    """One object of a config.json. Every reader raises ConfigError."""

    def __init__(
        self,
        given: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
        *,
        names: Mapping[str, str] | None = None,
        path: str = "",
    ) -> None:
        """`defaults` of the class, `names` of fields that the class has under another one, `path` for messages."""
        self._given = given
        self._defaults = defaults or {}
        self._names = names or {}
        self._path = path

    def has(self, name: str) -> bool:
        """Whether the family has such a field, or the file one that is not null."""
        return self._defaults.get(name) is not None or self.raw(name) is not None

    def count(self, name: str, *, least: int = 1, most: int = MOST) -> int:
        """A whole number."""
        return self._whole(name, self.raw(name), least, most)

    def optional(self, name: str, *, least: int = 1, most: int = MOST) -> int | None:
        """A whole number, or None where it is null or left out."""
        value = self.raw(name)
        return None if value is None else self._whole(name, value, least, most)

    def first(self, *names: str) -> int:
        """The first of these numbers that is there, 0 where none is."""
        return next((found for name in names if (found := self.optional(name, least=0))), 0)

    def flag(self, name: str) -> bool:
        """A switch. Transformers ignores one that the family's class does not have, so it counts as off."""
        if self._defaults and self._own(name) not in self._defaults and name not in NOT_IN_CLASSES:
            return False
        value = self.raw(name)
        if value is not None and not isinstance(value, bool):
            raise self._error(name, value, "true or false")
        return bool(value)

    def words(self, name: str) -> tuple[str, ...] | None:
        """A list of words."""
        value = self.raw(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self._error(name, value, "a list of words")
        return tuple(value)

    def numbers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers; empty where it is null or left out."""
        value = self.raw(name)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > MOST_LAYERS:
            raise self._error(name, value, "a list of whole numbers")
        return tuple(self._whole(f"{name}[{i}]", one, 0, MOST) for i, one in enumerate(value))

    def word(self, name: str) -> str | None:
        """A text, or None where it is null or left out."""
        value = self.raw(name)
        if value is not None and not isinstance(value, str):
            raise self._error(name, value, "a text")
        return value

    def raw(self, name: str) -> Any:
        """Whatever is there, for fields that may be of several types."""
        own = self._own(name)
        for one in (own, name):
            if one in self._given:
                return self._given[one]
        return self._defaults.get(own, self._defaults.get(name))

    def inside(self, name: str) -> Mapping[str, Any] | None:
        """An object, or None where it is null or left out."""
        value = self.raw(name)
        if value is not None and not isinstance(value, dict):
            raise self._error(name, value, "an object")
        return value

    def wrong(self, name: str, because: str) -> ConfigError:
        """What to raise where fields contradict each other; the reason ends with the remedy."""
        return ConfigError(f"{self._path}{self._own(name)}: {because}")

    def _own(self, name: str) -> str:
        return self._names.get(name, name)

    def _whole(self, name: str, value: object, least: int, most: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self._error(name, value, f"a whole number of at least {least}")
        if value > most:
            raise self._error(name, value, f"a number below {most + 1:,}")
        return value

    def _error(self, name: str, value: object, wanted: str) -> ConfigError:
        return ConfigError(f"{self._path}{self._own(name)}: {shown(value)} is not {wanted}: {REMEDY}")


def shown(value: object) -> str:
    """A value in a message: short, whatever it is."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > MOST * MOST:
        return "a number of more than 18 digits"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
