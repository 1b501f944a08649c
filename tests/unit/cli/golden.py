"""What `kubectl slm` prints, pinned. `make generate` writes the golden files anew; then review the diff."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from slm_operator.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
DATA = Path("tests/data/memory-gap-h100")
GOLDEN = ROOT / "tests/golden/cli"
SWEEP = ("--from-csv", str(DATA / "batch_sweep.csv"))
PACKS = ("--packs-csv", str(DATA / "replication.csv"))

CASES: dict[str, tuple[str, ...]] = {
    "single-2x.json": ("advise", *SWEEP, "--model", "opt-1.3b", "--itl-factor", "2", "-o", "json"),
    "pack-4x.txt": ("advise", *SWEEP, *PACKS, "--model", "opt-1.3b", "--itl-factor", "4"),
    "pack-gains-too-little.txt": ("advise", *SWEEP, *PACKS, "--model", "opt-2.7b", "--min-gain", "0.15"),
    "infeasible.txt": ("advise", *SWEEP, "--model", "llama-2-7b", "--itl-ms", "5"),
    "help.txt": ("--help",),
}
"""File name to command line, to be run in the repository's root."""


def printed(arguments: tuple[str, ...]) -> str:
    """Standard output of one command, in the repository's root."""

    def command() -> None:
        unheard = contextlib.redirect_stderr(io.StringIO())  # a refusal's sentence: test_advise.py
        with contextlib.chdir(ROOT), unheard, contextlib.suppress(SystemExit):
            main(arguments)

    return captured(command)


def captured(show: Callable[[], object]) -> str:
    """What is printed, at a fixed width, without the padding of tables."""
    out = io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": "100"}), contextlib.redirect_stdout(out):
        show()
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def golden() -> dict[Path, str]:
    """File to text of every golden file."""
    from tests.unit.cli.pictures import IMAGES, SCREENS  # noqa: PLC0415 - they read the data through this module
    from tests.unit.cli.views import VIEWS  # noqa: PLC0415

    commands = {name: printed(arguments) for name, arguments in CASES.items()}
    views = {name: captured(view) for name, view in VIEWS.items()}
    pictures = {IMAGES / name: draw() for name, draw in SCREENS.items()}
    return {GOLDEN / name: text for name, text in (commands | views).items()} | pictures
