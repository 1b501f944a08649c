"""One thing that is wrong with a manifest, and how values and places are written in sentences."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

Schema = dict[str, Any]
"""A structural schema, as `slm_operator.api.crd` generates it."""

MOST_SHOWN = 60
"""Characters of a value that a sentence shows."""
_LONGEST_PATH = 200
_LISTED = 12


class Reason(StrEnum):
    """Why a field is refused."""

    UNKNOWN = "Unknown"
    MISSING = "Missing"
    TYPE = "Type"
    ENUM = "Enum"
    TOO_LONG = "TooLong"
    BOUND = "Bound"
    DUPLICATE = "Duplicate"
    NAME = "Name"
    RULE = "Rule"


_BLOCKING = {Reason.MISSING, Reason.TYPE, Reason.ENUM, Reason.TOO_LONG}
"""Source: Kubernetes, apiextensions-apiserver, hasBlockingErr."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one field, and the remedy."""

    path: str
    """As the API server writes it: spec.engine.args[2]. Empty for the object itself."""
    reason: Reason
    message: str

    @property
    def blocks_rules(self) -> bool:
        """Whether no CEL rule is asked of an object that has it: it could not be evaluated on such a value."""
        return self.reason in _BLOCKING

    def __str__(self) -> str:
        """A sentence of a line."""
        place = self.path if len(self.path) <= _LONGEST_PATH else f"{self.path[:_LONGEST_PATH]}..."
        return f"{place}: {self.message}" if place else self.message


def below(path: str, name: str | int) -> str:
    """The path of a field, or of an item of a list."""
    if isinstance(name, int):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name


def shown(value: object) -> str:
    """A value in a sentence. NB: never what is inside of an object or list, which may be deep and large."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def listed(names: Iterable[object]) -> str:
    """Names in a sentence, not too many of them."""
    all_of_them = [str(name) for name in names]
    more = len(all_of_them) - _LISTED
    return ", ".join(all_of_them[:_LISTED]) + (f" and {more} more" if more > 0 else "")
