"""Programs that a release runs: a failure is one message with what they printed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]


class ToolError(Exception):
    """A program failed; the message has what it printed."""


def run(command: Sequence[str], cwd: Path = ROOT, **environment: str) -> str:
    """Run it and give its stdout."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise ToolError(f"{command[0]} is needed, and not in PATH: install it") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-3000:]
        raise ToolError(f"{' '.join(command[:4])} failed ({done.returncode}): {said}")
    return done.stdout
