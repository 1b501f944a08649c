"""The mutants that no test can or should notice, each with its reason.

mutmut numbers the mutants of a function, and numbers move with each edit. So here a mutant is named by its file, its
function and the lines that it changes: once they are edited, the reason is of no mutant, and a test fails.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

Key = tuple[str, str, str, str]
"""File, function, the lines as they are, and as they became."""
EXPLAINED = Path(__file__).with_suffix(".toml")


def explained() -> dict[Key, str]:
    """Why each of them stays."""
    rows = tomllib.loads(EXPLAINED.read_text())["explained"]
    return {(row["file"], row["function"], row["before"], row["after"]): row["because"] for row in rows}
