"""Somebody who follows the pages: a folder, the programs that the pages ask for, and a cluster."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Reader:
    """Whoever types what a page says, in a folder of their own."""

    folder: Path
    environment: dict[str, str]

    def follow(self, text: str, folder: Path | None = None) -> str:
        """Type the commands, in their own folder or in this one. Gives what they print; the test fails where one of them fails."""
        done = subprocess.run(
            ["bash", "-ec", text],
            cwd=folder or self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        print(text, done.stdout, done.stderr, sep="\n")
        assert done.returncode == 0, f"{text}{done.stdout}{done.stderr}"
        return done.stdout


def reader_in(home: Path, kubeconfig: Path, **programs: str | Path) -> Reader:
    """A reader with these programs by name, who knows no registry's credentials, and whose tools stay in this folder."""
    found, folder = home / "bin", home / "folder"
    found.mkdir()
    folder.mkdir()
    for name, program in programs.items():
        (found / name).symlink_to(program)
    own = {
        "PATH": f"{found}:{os.environ['PATH']}",
        "KUBECONFIG": str(kubeconfig),
        "UV_TOOL_DIR": str(home / "tools"),
        "UV_TOOL_BIN_DIR": str(found),
        "DOCKER_CONFIG": str(home / "docker"),
        "HELM_REGISTRY_CONFIG": str(home / "helm-registry.json"),
    }
    return Reader(folder, os.environ | own)
