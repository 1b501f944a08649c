"""Brings a registry to what was built: asks what it has, plans, and does one step after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from hack.release.artefacts import ARTEFACTS
from hack.release.plan import Push, Sign, Step, Tag, Wanted, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hack.release.registry import Registry


def publish(registry: Registry, digests: Mapping[str, str], version: str, say: Callable[[str], None]) -> None:
    """Push, sign and name what is not there yet. RegistryError or TagTakenError where that cannot be done."""
    todo = steps(_wanted(registry, digests, version), version)
    say(f"{len(todo)} steps are left" if todo else "the registry has all of it already")
    for step in todo:
        _do(step, registry, version, say)


def _wanted(registry: Registry, digests: Mapping[str, str], version: str) -> list[Wanted]:
    """What was built, with what the registry has of it."""
    return [
        Wanted(
            artefact=one,
            digest=digests[one.name],
            there=registry.digest(one, digests[one.name]) is not None,
            signed=registry.is_signed(one, digests[one.name]),
            tagged=registry.digest(one, version),
        )
        for one in ARTEFACTS
    ]


def _do(step: Step, registry: Registry, version: str, say: Callable[[str], None]) -> None:
    """One step of the plan."""
    match step:
        case Push(artefact, digest):
            say(f"pushing {artefact.name} {digest}")
            registry.push(artefact, digest)
        case Sign(artefact, digest):
            say(f"signing {artefact.name}")
            registry.sign(artefact, digest)
        case Tag(artefact, digest):
            say(f"naming {artefact.repository}:{version}")
            registry.tag(artefact, digest, version)
        case _:
            assert_never(step)
