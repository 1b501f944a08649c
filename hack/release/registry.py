"""The registry, by two well-kept programs: oras pushes and names, cosign signs and attests.

oras sends a layout's blobs first and its manifest last, each by its digest, and none that is there already: that is what
makes a push that broke off one that can be gone on with. Must never set a tag but by `tag`.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hack.release.parameters import KEYLESS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hack.release.artefacts import Artefact
    from hack.release.parameters import Parameters

ATTESTED = {"cyclonedx": "sbom.cdx.json", "slsaprovenance1": "predicate.json"}
"""File by type of attestation."""


# NB: oras has one exit status, so of an answer that is an error there is only its text: the registry's code in small
# letters, or the status where it has none.
NOT_THERE = ("name unknown", "manifest unknown", "status code 404", ": not found")
NOT_ALLOWED = ("unauthorized", "denied", "status code 401", "status code 403", "credential")


class RegistryError(Exception):
    """The registry did not do what it was asked; the message has the remedy."""


class Registry(Protocol):
    """What a release asks of a registry."""

    def tags(self, artefact: Artefact) -> tuple[str, ...]:
        """All tags of its repository; none where there is no such repository."""

    def digest(self, artefact: Artefact, reference: str) -> str | None:
        """What a tag or a digest names, if it is there."""

    def is_signed(self, artefact: Artefact, digest: str) -> bool:
        """Whether a signature lies beside it."""

    def push(self, artefact: Artefact, digest: str) -> None:
        """Send it under its digest."""

    def sign(self, artefact: Artefact, digest: str) -> None:
        """Attest what is to be attested, then sign."""

    def tag(self, artefact: Artefact, digest: str, version: str) -> None:
        """Name it by the version."""


@dataclass(frozen=True, slots=True)
class OciRegistry:
    """A registry, spoken with by oras and cosign."""

    parameters: Parameters
    oras: Path
    cosign: Path
    folder: Path
    """dist/release: `oci` is what is to be pushed, `attested` what is attested of it."""
    docker_config: Path
    """A folder of this run, which goes with it: credentials that were given are written there."""

    def tags(self, artefact: Artefact) -> tuple[str, ...]:
        """See Registry."""
        said = self._asked("repo", "tags", self._repository(artefact))
        return tuple(said.split()) if said is not None else ()

    def digest(self, artefact: Artefact, reference: str) -> str | None:
        """See Registry."""
        separator = "@" if ":" in reference else ":"
        said = self._asked("resolve", f"{self._repository(artefact)}{separator}{reference}")
        return said.strip() if said is not None else None

    def is_signed(self, artefact: Artefact, digest: str) -> bool:
        """See Registry. NB: cosign keeps signatures under a tag that is made of the digest."""
        return self.digest(artefact, f"{digest.replace(':', '-')}.sig") is not None

    def push(self, artefact: Artefact, digest: str) -> None:
        """See Registry."""
        source = ("--from-oci-layout", f"{self.folder / 'oci'}:{artefact.name}")
        plain = ("--to-plain-http",) if self.parameters.plain_http else ()
        done = self._run(self.oras, "cp", "--no-tty", *plain, *source, self._repository(artefact))
        if done.returncode:
            raise self._error(f"pushing {artefact.name} ({digest})", done.stderr)

    def sign(self, artefact: Artefact, digest: str) -> None:
        """See Registry. Attestations first: what has a signature has all."""
        reference = f"{self._repository(artefact)}@{digest}"
        for kind, name in ATTESTED.items() if artefact.attested else ():
            predicate = ("--replace", "--type", kind, "--predicate", str(self.folder / "attested" / name))
            self._sign("attest", *predicate, reference)
        self._sign("sign", reference)

    def tag(self, artefact: Artefact, digest: str, version: str) -> None:
        """See Registry."""
        done = self._run(self.oras, "tag", *self._plain(), f"{self._repository(artefact)}@{digest}", version)
        if done.returncode:
            raise self._error(f"naming {artefact.name} {version}", done.stderr)

    def _sign(self, command: str, *arguments: str) -> None:
        key = self.parameters.sign_key
        # NB: a key on a machine leaves nothing in the public log; keyless, that log is what is verified.
        by = () if key == KEYLESS else ("--key", key, "--tlog-upload=false")
        plain = ("--allow-http-registry",) if self.parameters.plain_http else ()
        done = self._run(self.cosign, command, "--yes", *by, *plain, *arguments)
        if done.returncode:
            raise self._error(f"cosign {command} of {arguments[-1]}", done.stderr)

    def _asked(self, *arguments: str) -> str | None:
        """What oras answers; None where there is no such thing."""
        done = self._run(self.oras, *arguments, *self._plain())
        if not done.returncode:
            return done.stdout
        if any(word in done.stderr for word in NOT_THERE):
            return None
        raise self._error(f"oras {' '.join(arguments)}", done.stderr)

    def _error(self, what: str, said: str) -> RegistryError:
        host = self.parameters.host
        if any(word in said.lower() for word in NOT_ALLOWED):
            helps = f"{host} asks for credentials, or these may not do that: docker login {host}, or REGISTRY_USER and REGISTRY_PASSWORD"
        else:
            helps = f"Is {host} to be reached? This step set no tag. Run the same command again: what arrived is not sent again"
        return RegistryError(f"{what} failed: {said.strip()[-1500:]}\n{helps}")

    def _run(self, *command: Path | str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def _environment(self) -> Mapping[str, str]:
        """Docker's own credentials, or in their place those that were given."""
        if not self.parameters.user:
            return os.environ
        given = base64.b64encode(f"{self.parameters.user}:{self.parameters.password}".encode()).decode()
        config = {"auths": {self.parameters.host: {"auth": given}}}
        (self.docker_config / "config.json").write_text(json.dumps(config))
        return os.environ | {"DOCKER_CONFIG": str(self.docker_config)}

    def _repository(self, artefact: Artefact) -> str:
        return f"{self.parameters.registry}/{artefact.repository}"

    def _plain(self) -> tuple[str, ...]:
        return ("--plain-http",) if self.parameters.plain_http else ()
