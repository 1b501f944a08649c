"""The command: python -m hack.release (`make release` calls it). Exit 2: it was refused; 1: something broke off."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hack.release import facts, parameters, preconditions
from hack.release.build import FOLDER, build, kept
from hack.release.charts import address
from hack.release.pages import GithubPage
from hack.release.parameters import KEYLESS
from hack.release.plan import TagTakenError
from hack.release.publish import publish
from hack.release.registry import OciRegistry, RegistryError
from hack.release.tools import ToolError
from tests.testbed.gotools import BuildError, binary

if TYPE_CHECKING:
    from hack.release.parameters import Parameters
    from hack.release.registry import Registry


def main() -> int:
    """What the environment says."""
    if said := parameters.missing(os.environ):
        return _refused(said)
    given = parameters.read(os.environ)
    try:
        with tempfile.TemporaryDirectory() as credentials:
            given = parameters.with_keyring(given, Path(credentials))
            registry = OciRegistry(given, binary("oras"), binary("cosign"), FOLDER, Path(credentials))
            return _release(given, registry)
    except TagTakenError as error:
        return _refused((str(error),))
    except (RegistryError, ToolError, BuildError) as error:
        print(f"make release: {error}", file=sys.stderr)
        return 1


def _release(given: Parameters, registry: Registry) -> int:
    found = facts.gather(given, registry)
    if said := preconditions.refusals(found, allow_stale=given.allow_stale):
        return _refused(said)
    commit = facts.commit(found)
    digests = kept(given, commit)
    if digests is None and found.version in found.published:
        return _refused((preconditions.is_spent(found.version),))
    if digests is None:
        digests = build(given, commit, os.environ.get("UV", "uv"), _say)
    else:
        _say(f"dist/release is of this commit already: {commit.sha[:12]}")
    page = GithubPage.of(given.releases, found.version)
    if page is not None:
        page.offer(FOLDER)
    publish(registry, digests, found.version, _say)
    if page is not None:
        page.open()
    _report(given, found.version)
    return 0


def _report(given: Parameters, version: str) -> None:
    tested = [platform for platform in given.platforms if platform != "linux/amd64"]
    print(f"slm-operator {version} is released:")
    print(f"  helm install slm-operator {address(given)} --version {version} --namespace slm-system --create-namespace")
    print(f"  files of {given.releases}/v{version}/: dist/release/files")
    if tested:
        print(f"  no test has run the image for {', '.join(tested)}")
    if given.sign_key == KEYLESS:
        print("  signed by the identity of this workflow; docs/how-to/release.md has the words that verify it")


def _refused(sentences: tuple[str, ...]) -> int:
    for sentence in sentences:
        print(f"make release: {sentence}", file=sys.stderr)
    return 2


def _say(line: str) -> None:
    print(f"[release] {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
