"""Why nothing may be released now: each reason a sentence that names what is wrong and what to do. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)
BASE = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is asked before anything is built."""

    version: str
    """Of pyproject.toml."""
    chart_version: str
    app_version: str
    crds_release: tuple[str, ...]
    """Which release each CRD says it is of."""
    git_tag: str | None
    """The tag that a workflow was started by; None: by a person."""
    dirty: tuple[str, ...]
    """Lines of `git status`."""
    changes: str | None
    """The version's section of CHANGELOG.md; None: there is none."""
    stale: dict[str, str]
    """Reason for each record that is older than what it guards."""
    published: tuple[str, ...]
    """Tags that the registry has of the chart."""
    base: str
    """The image that the operator's starts from."""


def refusals(facts: Facts, *, allow_stale: bool) -> tuple[str, ...]:
    """All reasons at once; none: it may be released."""
    return (*_of_the_version(facts), *_of_the_tree(facts, allow_stale=allow_stale))


def is_spent(version: str) -> str:
    """Why a version that is published cannot be built once more: docker writes times, so it would be other bytes."""
    return (
        f"the registry has {version} already, and what dist/release has here is not what was pushed (another commit, other "
        "parameters, or nothing): go on where that dist/release is, or raise the version; no tag is ever moved"
    )


def _of_the_version(facts: Facts) -> Iterator[str]:
    version = facts.version
    if VERSION.fullmatch(version) is None:
        yield f"version {version} of pyproject.toml is none of the form 1.2.3: set it so"
        return
    if {facts.chart_version, facts.app_version} != {version}:
        both = f"Chart.yaml has version {facts.chart_version} and appVersion {facts.app_version}"
        yield f"{both}, pyproject.toml {version}: set all three to one"
    if set(facts.crds_release) != {version}:
        yield f"the CRDs say that they are of {', '.join(sorted(set(facts.crds_release)))}: run make generate, and commit"
    if facts.git_tag not in {None, f"v{version}"}:
        yield f"the tag is {facts.git_tag} and pyproject.toml has {version}: tag the commit v{version}"
    newer = [tag for tag in facts.published if VERSION.fullmatch(tag) and _parts(tag) > _parts(version)]
    if newer:
        newest = max(newer, key=_parts)
        yield f"the registry has {newest} of the chart, which is newer than {version}: raise the version above it"


def _of_the_tree(facts: Facts, *, allow_stale: bool) -> Iterator[str]:
    if facts.dirty:
        shown = ", ".join(line.strip() for line in facts.dirty[:3]) + (", ..." if len(facts.dirty) > 3 else "")
        yield f"the tree has changes that no commit has ({shown}): commit or remove them"
    if not facts.changes:
        yield f"CHANGELOG.md has no entry below a heading `## {facts.version}`: say there what users will notice"
    if facts.stale and not allow_stale:
        yield (
            f"records are older than what they guard ({', '.join(facts.stale)}; make check says why): make record NAME, or "
            "ALLOW_STALE=1, and the provenance names them"
        )
    if BASE.fullmatch(facts.base) is None:
        yield (
            f"PYTHON={facts.base or '(nothing)'} may move: say PYTHON=python:3.11-slim-bookworm@sha256:DIGEST, as printed "
            "by: docker buildx imagetools inspect python:3.11-slim-bookworm"
        )


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
