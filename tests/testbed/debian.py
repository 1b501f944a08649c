"""Debian's packages, one command of apt at a time.

`make test` has two lanes, and `apt-get update` does not wait for another: it fails at its lock. Needs root and Debian;
who asks must look first whether what it wants is there already. Must never start a service of the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from .gotools import one_at_a_time

if TYPE_CHECKING:
    from pathlib import Path


class AptError(RuntimeError):
    """apt failed; the message has its command and the end of what it printed."""


def may_install() -> bool:
    """Whether this is Debian and we are root."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(*packages: str) -> None:
    """Install packages; AptError when apt fails."""
    with one_at_a_time("apt"):
        _apt("update", "-qq")
        _apt("install", "-qqy", "--no-install-recommends", *packages)


def program(name: str) -> str:
    """The path of a program whose package has its name, installed where this machine lacks it; AptError where it cannot be."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    if shutil.which(name, path=path) is None:
        if not may_install():
            raise AptError(f"{name} is not installed, and only root on Debian may install it: apt-get install {name}")
        install(name)
    found = shutil.which(name, path=path)
    assert found is not None, f"the package {name} brought no program of that name"
    return found


def download(package: str, folder: Path) -> Path:
    """Fetch a package into a folder without installing it; its path."""
    with one_at_a_time("apt"):
        try:
            _apt("download", package, folder=folder)
        except AptError:  # a bare machine has no package lists yet
            _apt("update", "-qq")
            _apt("download", package, folder=folder)
    (fetched,) = folder.glob(f"{package}_*.deb")
    return fetched


def _apt(*arguments: str, folder: Path | None = None) -> None:
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments]
    # NB: with run level 1, services that come with a package are not started.
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AptError(f"{' '.join(command)} failed: {(done.stderr or done.stdout)[-2000:]}")
