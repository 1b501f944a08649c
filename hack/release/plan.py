"""What a registry still lacks of a release, in the order in which it is done. Pure.

First every artefact by its digest, then its signatures, then every tag: whoever asks for the version finds all of it or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hack.release.artefacts import Artefact


@dataclass(frozen=True, slots=True)
class Wanted:
    """An artefact as it was built, and what the registry has of it now."""

    artefact: Artefact
    digest: str
    there: bool
    """Whether the registry has this digest."""
    signed: bool
    tagged: str | None
    """Digest that the version's tag names; None: there is no such tag."""


@dataclass(frozen=True, slots=True)
class Push:
    """Send what is missing of it, under its digest."""

    artefact: Artefact
    digest: str


@dataclass(frozen=True, slots=True)
class Sign:
    """Attest what is to be attested, then sign."""

    artefact: Artefact
    digest: str


@dataclass(frozen=True, slots=True)
class Tag:
    """Name it by the version."""

    artefact: Artefact
    digest: str


Step: TypeAlias = Push | Sign | Tag


class TagTakenError(Exception):
    """The version is there and is another."""


def steps(wanted: Sequence[Wanted], version: str) -> tuple[Step, ...]:
    """What is left to do; nothing where all is there. TagTakenError where a tag names other bytes."""
    taken = [f"{one.artefact.repository}:{version} is {one.tagged}" for one in wanted if _is_another(one)]
    if taken:
        raise TagTakenError(
            f"the registry has this version with other bytes ({'; '.join(taken)}), and no tag is ever moved. If they are "
            "of this commit and dist/release of that run is kept elsewhere, go on there; else raise the version"
        )
    return tuple(_steps(wanted))


def _is_another(one: Wanted) -> bool:
    return one.tagged not in {None, one.digest}


def _steps(wanted: Sequence[Wanted]) -> Iterator[Step]:
    yield from (Push(one.artefact, one.digest) for one in wanted if not one.there)
    yield from (Sign(one.artefact, one.digest) for one in wanted if not one.signed)
    yield from (Tag(one.artefact, one.digest) for one in wanted if one.tagged is None)
