"""What a check answers: how bad it is, what was found, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ASK = "ask whoever runs the cluster for this right, or to run this command"
"""The remedy of what may not be seen."""


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, with less than it could; or it could not be seen."""
    PROBLEM = "problem"
    """Something is not served before this is fixed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one check found, about the cluster or about one node. Everything but OK comes with a remedy."""

    level: Level
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An answer, whose check it is, and the nodes that it is about: those with the same answer are one finding."""

    check: str
    answer: Answer
    nodes: tuple[str, ...] = ()


def ok(what: str) -> Answer:
    """All is well."""
    return Answer(Level.OK, what)


def warning(what: str, remedy: str) -> Answer:
    """It works, with less than it could."""
    return Answer(Level.WARNING, what, remedy)


def problem(what: str, remedy: str) -> Answer:
    """It does not work."""
    return Answer(Level.PROBLEM, what, remedy)


def some(things: Iterable[str]) -> str:
    """The first few, and how many more."""
    every = list(things)
    return ", ".join(every[:3]) + (f" and {len(every) - 3} more" if len(every) > 3 else "")
