"""What a check answers: how bad it is, what is so, and the mend."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, with less than it could; or it could not be seen."""
    PROBLEM = "problem"
    """Something is not served before this is mended."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one check found, about the cluster or about one node. Everything but OK comes with a mend."""

    level: Level
    what: str
    mend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An answer, whose check it is, and the nodes that it is about: those with the same answer are one finding."""

    check: str
    answer: Answer
    nodes: tuple[str, ...] = ()


def ok(what: str) -> Answer:
    """All is well."""
    return Answer(Level.OK, what)


def warning(what: str, mend: str) -> Answer:
    """It works, with less than it could."""
    return Answer(Level.WARNING, what, mend)


def problem(what: str, mend: str) -> Answer:
    """It does not work."""
    return Answer(Level.PROBLEM, what, mend)
