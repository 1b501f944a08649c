"""What a release is given: `make release NAME=VALUE ...`, which make hands on as the environment. Says what is missing."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

KEYLESS = "keyless"
BASE64 = "base64:"
LOOPBACK = ("localhost", "127.0.0.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Where a release goes, from what it is built, and by what it is signed."""

    registry: str
    """Host, and the path below which all repositories are: ghcr.io/owner."""
    releases: str
    """URL below which v<version>/ will hold the files, for krew and for `kubectl apply -f`."""
    base: str
    """The image that the operator's starts from, by digest."""
    platforms: tuple[str, ...]
    sign_key: str
    """File of a cosign key, or `keyless`: the identity of the workflow that runs."""
    chart_keyring: str
    """File with the PGP key (as `gpg --export-secret-keys` writes it) that makes the chart's .prov, or `base64:` and that file."""
    chart_key: str
    """Whose key of that ring."""
    chart_passphrase_file: str = ""
    build_options: tuple[str, ...] = ()
    """Further words of `docker build`."""
    allow_stale: bool = False
    user: str = ""
    password: str = ""
    """Of the registry, beside Docker's own configuration."""
    git_tag: str | None = None
    builder: str = "a person"
    """Who runs this, for the provenance: the workflow, by its URL."""

    @property
    def host(self) -> str:
        """The registry's host, with its port."""
        return self.registry.partition("/")[0]

    @property
    def plain_http(self) -> bool:
        """Only a registry on this machine is spoken with in the clear, as docker does it too."""
        return self.host.partition(":")[0] in LOOPBACK


REQUIRED = {
    "REGISTRY": "where to push, like REGISTRY=ghcr.io/OWNER",
    "RELEASES": "the URL below which v<version>/ will hold the files, like RELEASES=https://github.com/OWNER/slm-operator/releases/download",
    "SIGN_KEY": "a key of `cosign generate-key-pair`, SIGN_KEY=cosign.key, or in a workflow SIGN_KEY=keyless",
    "CHART_KEYRING": "the PGP key for the chart's provenance, CHART_KEYRING=secring.gpg (gpg --export-secret-keys), or CHART_KEYRING=base64:...",
    "CHART_KEY": "whose key of that ring it is, like CHART_KEY=release@example.org",
}


def missing(environment: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each parameter that is not given."""
    return tuple(_missing(environment))


def _missing(environment: Mapping[str, str]) -> Iterator[str]:
    given = {name for name, text in environment.items() if text.removeprefix(BASE64)}
    yield from (f"{name} is not given: say {what}" for name, what in REQUIRED.items() if name not in given)
    if bool(environment.get("REGISTRY_USER")) != bool(environment.get("REGISTRY_PASSWORD")):
        yield "REGISTRY_USER and REGISTRY_PASSWORD go together: give both, or neither and use docker login"


def read(environment: Mapping[str, str]) -> Parameters:
    """The parameters, of an environment in which none is missing."""
    get = environment.get
    started_by_tag = get("GITHUB_REF_TYPE") == "tag"
    run = f"{get('GITHUB_SERVER_URL')}/{get('GITHUB_WORKFLOW_REF')}" if get("GITHUB_WORKFLOW_REF") else None
    return Parameters(
        registry=environment["REGISTRY"].lower().rstrip("/"),
        releases=environment["RELEASES"].rstrip("/"),
        base=get("PYTHON", ""),
        platforms=tuple((get("PLATFORMS") or "linux/amd64").replace(",", " ").split()),
        sign_key=environment["SIGN_KEY"],
        chart_keyring=environment["CHART_KEYRING"],
        chart_key=environment["CHART_KEY"],
        chart_passphrase_file=get("CHART_PASSPHRASE_FILE", ""),
        build_options=tuple(get("BUILD_OPTIONS", "").split()),
        allow_stale=get("ALLOW_STALE") == "1",
        user=get("REGISTRY_USER", ""),
        password=get("REGISTRY_PASSWORD", ""),
        git_tag=get("GITHUB_REF_NAME") if started_by_tag else None,
        builder=run or "a person",
    )


def with_keyring(given: Parameters, folder: Path) -> Parameters:
    """The same with the ring as a file in `folder`, where it was given as text: a workflow has no files that are secret."""
    if not given.chart_keyring.startswith(BASE64):
        return given
    path = folder / "secring.gpg"
    path.write_bytes(base64.b64decode(given.chart_keyring.removeprefix(BASE64)))
    return replace(given, chart_keyring=str(path))
