"""The public half of the chart's PGP key: what Artifact Hub shows of it, and the file that people verify with."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hack.release.tools import ToolError, run

if TYPE_CHECKING:
    from hack.release.parameters import Parameters


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that verifies."""

    fingerprint: str
    """40 hex digits."""
    armored: str


def public(parameters: Parameters) -> PublicKey:
    """That of the key which signs the chart. Raises ToolError where the ring has none, or several, of that name."""
    with tempfile.TemporaryDirectory() as home:
        gpg = ["gpg", "--batch", "--quiet", "--homedir", home]
        try:
            run([*gpg, "--import", str(Path(parameters.chart_keyring).resolve())])
            found = fingerprints(run([*gpg, "--with-colons", "--list-keys"]), parameters.chart_key)
            if len(found) != 1:
                raise ToolError(
                    f"CHART_KEY={parameters.chart_key} names {len(found)} keys of CHART_KEYRING, and must name one: say its whole user ID"
                )
            return PublicKey(found[0], run([*gpg, "--armor", "--export", found[0]]))
        finally:
            run(["gpgconf", "--homedir", home, "--kill", "all"])


def fingerprints(listed: str, who: str) -> list[str]:
    """Of the keys in gpg's list (`--with-colons`): the one whose user ID is `who`, else all in whose user IDs it is, as helm looks. Pure."""
    owners: list[tuple[str, str]] = []
    key = ""
    for line in listed.splitlines():
        kind, *fields = line.split(":")
        if kind == "pub":
            key = ""
        elif kind == "fpr":
            key = key or fields[8]  # the first is the key's, further ones are of its subkeys
        elif kind == "uid":
            owners.append((fields[8], key))
    exact = [key for user, key in owners if user == who]
    return exact or list(dict.fromkeys(key for user, key in owners if who in user))
