"""Some of all mutants, drawn by a seed, each tried on the tests that reach its function.

    make record mutation                                  kept; docs/contributing/mutation.md shows it
    python -m benchmarks.mutation --sample 50 --seed 7
    python -m benchmarks.mutation 'slm_core.batching.*'   all of these, by mutmut's names

mutmut lays its mutants beside each other in one file and forks a process for each, so that a mutant costs what its tests
cost. All is done in a temporary copy: what is edited meanwhile is not tried, and nothing here is ever changed. Survivors
are no failure of the run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from mutmut.stats import status_by_exit_code

from benchmarks.mutation.mutants import PACKAGES, ROOT, Mutant, all_mutants

COPIED = ("benchmarks", "crds", "docs", "examples", "tests", "pyproject.toml")
NOTICED = {"killed", "timeout", "segfault", "check was interrupted by user"}
"""NB: the last is pytest's status when a file of tests cannot be collected any more."""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="these mutants, as mutmut names them; * stands for anything")
    parser.add_argument("--sample", type=int, default=250, help="else: how many are drawn (default: 250)")
    parser.add_argument("--seed", type=int, default=1, help="and which (default: 1)")
    asked = parser.parse_args()
    every = all_mutants()
    named = [mutant for mutant in every if any(fnmatch(mutant.name, name) for name in asked.names)]
    tried = named or Random(asked.seed).sample(every, min(asked.sample, len(every)))
    with tempfile.TemporaryDirectory(prefix="slm-mutation-") as folder:
        lay_out(Path(folder))
        fates = run(Path(folder), tried)
    figures = {"mutmut": version("mutmut"), "mutants": len(every), "tried": len(tried), "seed": asked.seed}
    figures |= {"fates": Counter(fates.values()), "survivors": survivors(tried, fates)}
    text = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
    if kept := os.environ.get("SLM_RECORD"):
        Path(kept).write_text(text)
    print(text)
    return 0


def lay_out(folder: Path) -> None:
    """The copy, with all packages in one folder."""
    for package, place in PACKAGES.items():
        shutil.copytree(ROOT / place / package, folder / "src" / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)


def run(folder: Path, tried: list[Mutant]) -> dict[str, str]:
    """What became of each, by its name."""
    command = [str(Path(sys.executable).with_name("mutmut")), "run", *(mutant.name for mutant in tried)]
    subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
    found = [json.loads(path.read_text())["exit_code_by_key"] for path in folder.rglob("*.meta")]
    codes = {name: code for one in found for name, code in one.items()}
    return {mutant.name: status_by_exit_code[codes[mutant.name]] for mutant in tried}


def survivors(tried: list[Mutant], fates: dict[str, str]) -> list[Any]:
    """Those that no test noticed."""
    alive = (mutant for mutant in tried if fates[mutant.name] not in NOTICED)
    return [asdict(mutant) | {"fate": fates[mutant.name]} for mutant in sorted(alive, key=lambda mutant: mutant.key)]


if __name__ == "__main__":
    sys.exit(main())
