"""What a release refuses, each with the remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hack.release.preconditions import Facts, refusals

SOUND = Facts(
    version="0.10.0",
    chart_version="0.10.0",
    app_version="0.10.0",
    crds_release=("0.10.0", "0.10.0"),
    git_tag="v0.10.0",
    dirty=(),
    changes="- A change.",
    stale={},
    published=("0.9.1", "sha256-0a.sig", "latest"),
    base=f"python:3.11-slim-bookworm@sha256:{'0a' * 32}",
)

CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no such version": ({"version": "0.10.0rc1"}, "is none of the form 1.2.3", "set it so"),
    "a chart of another": ({"chart_version": "0.9.0"}, "Chart.yaml has version 0.9.0", "set all three to one"),
    "an app of another": ({"app_version": "0.9.0"}, "appVersion 0.9.0, pyproject.toml 0.10.0", "set all three to one"),
    "older CRDs": ({"crds_release": ("0.9.0", "0.10.0")}, "that they are of 0.10.0, 0.9.0", "make generate"),
    "another git tag": ({"git_tag": "v0.9.0"}, "the tag is v0.9.0", "tag the commit v0.10.0"),
    "back": ({"published": ("0.2.0", "0.11.0", "0.9.0")}, "the registry has 0.11.0", "raise the version"),
    "changed files": ({"dirty": (" M a", "?? b", "?? c", "?? d")}, "(M a, ?? b, ?? c, ...)", "commit or remove"),
    "no entry": ({"changes": None}, "no entry below a heading `## 0.10.0`", "say there what users will notice"),
    "stale records": ({"stale": {"seeds": "never recorded"}}, "records are older than what they guard (seeds;", "ALLOW_STALE=1"),
    "a base by tag": ({"base": "python:3.11"}, "PYTHON=python:3.11 may move", "docker buildx imagetools inspect"),
    "no base": ({"base": ""}, "PYTHON=(nothing) may move", "PYTHON=python:3.11-slim-bookworm@sha256:DIGEST"),
}  # fmt: skip


def test_a_sound_tree_is_released() -> None:
    assert refusals(SOUND, allow_stale=False) == ()


@pytest.mark.parametrize(("changed", "what", "remedy"), CASES.values(), ids=CASES)
def test_a_release_is_refused_with_the_remedy(changed: dict[str, Any], what: str, remedy: str) -> None:
    (sentence,) = refusals(replace(SOUND, **changed), allow_stale=False)
    assert what in sentence
    assert remedy in sentence


def test_all_reasons_are_said_at_once() -> None:
    assert len(refusals(replace(SOUND, changes=None, dirty=("?? a",), base=""), allow_stale=False)) == 3


def test_the_same_version_may_be_there_already() -> None:
    assert refusals(replace(SOUND, published=("0.10.0",)), allow_stale=False) == ()


def test_a_person_needs_no_tag_of_git() -> None:
    assert refusals(replace(SOUND, git_tag=None), allow_stale=False) == ()


def test_stale_records_can_be_allowed() -> None:
    assert refusals(replace(SOUND, stale={"seeds": "never recorded"}), allow_stale=True) == ()
