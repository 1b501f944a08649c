"""What `kubectl slm` prints, pinned. Run this file to write the golden files anew, then review the diff."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from slm_operator.cli.main import main

ROOT = Path(__file__).parents[3]
DATA = Path("tests/data/memory-gap-h100")
GOLDEN = ROOT / "tests/golden/cli"
SWEEP = ("--from-csv", str(DATA / "batch_sweep.csv"))
PACKS = ("--packs-csv", str(DATA / "replication.csv"))

CASES: dict[str, tuple[str, ...]] = {
    "single-2x.json": ("advise", *SWEEP, "--model", "opt-1.3b", "--itl-factor", "2", "-o", "json"),
    "pack-4x.txt": ("advise", *SWEEP, *PACKS, "--model", "opt-1.3b", "--itl-factor", "4"),
    "no-pack-4x.txt": ("advise", *SWEEP, *PACKS, "--model", "opt-2.7b", "--itl-factor", "4"),
    "infeasible.txt": ("advise", *SWEEP, "--model", "llama-2-7b", "--itl-ms", "5"),
    "help.txt": ("--help",),
}
"""File name to command line, to be run in the repository's root."""


def printed(arguments: tuple[str, ...]) -> str:
    """Standard output of one command, in the repository's root, at a fixed width."""
    out = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(arguments)
    return out.getvalue()


if __name__ == "__main__":
    import os

    os.environ["COLUMNS"] = "100"
    for name, arguments in CASES.items():
        (GOLDEN / name).write_text(printed(arguments))
