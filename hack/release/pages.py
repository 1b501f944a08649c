"""Where a release's files are downloaded: on GitHub a release of the repository, by its own command `gh`.

Offered as a draft, which nobody sees, before the registry has a tag; opened when it has all of them. Anywhere else whoever
releases copies dist/release/files to the URL that was given.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hack.release.tools import run

if TYPE_CHECKING:
    from pathlib import Path

GITHUB = re.compile(r"https://github\.com/(?P<repository>[^/]+/[^/]+)/releases/download")


@dataclass(frozen=True, slots=True)
class GithubPage:
    """The release of a version in a repository."""

    repository: str
    tag: str

    @classmethod
    def of(cls, releases: str, version: str) -> GithubPage | None:
        """The page behind this URL; None where it is not GitHub's."""
        found = GITHUB.fullmatch(releases)
        return None if found is None else cls(found["repository"], f"v{version}")

    def offer(self, folder: Path) -> None:
        """Have all files there, unseen: made if need be, and replaced where they are others."""
        if not self._is_there():
            notes = ("--notes-file", str(folder / "notes.md"), "--title", self.tag)
            run(["gh", "release", "create", self.tag, "--draft", "--verify-tag", *notes, *self._where()])
        files = [str(path) for path in sorted((folder / "files").iterdir())]
        run(["gh", "release", "upload", self.tag, "--clobber", *files, *self._where()])

    def open(self) -> None:
        """Let everybody see it."""
        run(["gh", "release", "edit", self.tag, "--draft=false", *self._where()])

    def _is_there(self) -> bool:
        asked = ["gh", "release", "view", self.tag, *self._where()]
        return not subprocess.run(asked, capture_output=True, check=False).returncode

    def _where(self) -> tuple[str, ...]:
        return ("--repo", self.repository)
