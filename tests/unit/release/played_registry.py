"""A registry in memory that can break off before any of its writes, and remembers the order of those that it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hack.release.registry import RegistryError

if TYPE_CHECKING:
    from hack.release.artefacts import Artefact


@dataclass
class PlayedRegistry:
    """Digests, signatures and tags by repository."""

    breaks_at: int | None = None
    """The write, counted from 0, before which the connection breaks, once."""
    log: list[str] = field(default_factory=list)
    has: set[tuple[str, str]] = field(default_factory=set)
    signatures: set[tuple[str, str]] = field(default_factory=set)
    named: dict[tuple[str, str], str] = field(default_factory=dict)

    def tags(self, artefact: Artefact) -> tuple[str, ...]:
        return tuple(tag for repository, tag in self.named if repository == artefact.repository)

    def digest(self, artefact: Artefact, reference: str) -> str | None:
        if (artefact.repository, reference) in self.has:
            return reference
        return self.named.get((artefact.repository, reference))

    def is_signed(self, artefact: Artefact, digest: str) -> bool:
        return (artefact.repository, digest) in self.signatures

    def push(self, artefact: Artefact, digest: str) -> None:
        self._write(f"push {artefact.name}")
        self.has.add((artefact.repository, digest))

    def sign(self, artefact: Artefact, digest: str) -> None:
        self._write(f"sign {artefact.name}")
        assert (artefact.repository, digest) in self.has, "signed before it is there"
        self.signatures.add((artefact.repository, digest))

    def tag(self, artefact: Artefact, digest: str, version: str) -> None:
        self._write(f"tag {artefact.name}")
        assert (artefact.repository, digest) in self.signatures, "named before it is signed"
        self.named[artefact.repository, version] = digest

    def _write(self, what: str) -> None:
        if self.breaks_at is not None and len(self.log) == self.breaks_at:
            self.breaks_at = None
            raise RegistryError(f"{what}: connection reset")
        self.log.append(what)
