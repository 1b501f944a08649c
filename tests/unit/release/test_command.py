"""The whole command on a played registry: what is built when, and what is refused before that."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hack.release import __main__ as command
from hack.release import build, facts, parameters
from hack.release.artefacts import ARTEFACTS, CHART
from hack.release.build import Commit

from .played_registry import PlayedRegistry
from .test_contents import GIVEN
from .test_preconditions import SOUND

if TYPE_CHECKING:
    from pathlib import Path

    from hack.release.preconditions import Facts

COMMIT = Commit(version=SOUND.version, sha="c0ffee", epoch="1790000000", changes="- A.", stale={})
DIGESTS = {one.name: f"sha256:{number:064x}" for number, one in enumerate(ARTEFACTS)}


class Played:
    """A tree of one sound commit, and how often it was built."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.registry, self.builds = PlayedRegistry(), 0
        monkeypatch.setattr(build, "FOLDER", folder / "release")
        monkeypatch.setattr(build, "_built", self._built)
        monkeypatch.setattr(facts, "gather", lambda *_: self._facts())
        monkeypatch.setattr(facts, "commit", lambda _: COMMIT)

    def release(self, **given: str) -> int:
        return command._release(parameters.read(GIVEN | given), self.registry)

    def _facts(self) -> Facts:
        return replace(SOUND, published=self.registry.tags(CHART))

    def _built(self, *_: object) -> dict[str, str]:
        self.builds += 1
        build.FOLDER.mkdir()
        return DIGESTS


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(tmp_path, monkeypatch)


def test_what_was_built_is_not_built_again(tree: Played) -> None:
    tree.registry.breaks_at = 4
    with pytest.raises(Exception, match="connection reset"):
        tree.release()
    assert (tree.release(), tree.release()) == (0, 0)
    assert tree.builds == 1
    assert tree.registry.tags(CHART) == (SOUND.version,)


def test_other_parameters_build_anew(tree: Played) -> None:
    tree.registry.breaks_at = 0
    with pytest.raises(Exception, match="connection reset"):
        tree.release()
    assert tree.release(PLATFORMS="linux/amd64 linux/arm64") == 0
    assert tree.builds == 2


def test_a_published_version_is_not_built_once_more(tree: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert tree.release() == 0
    assert tree.release(RELEASES="https://example.org/elsewhere") == 2
    assert f"the registry has {SOUND.version} already" in capsys.readouterr().err
    assert tree.builds == 1
