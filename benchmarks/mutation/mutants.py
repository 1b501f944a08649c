"""Every mutant that mutmut makes of the modules that `pyproject.toml` names for it, with the lines that it changes."""

from __future__ import annotations

import contextlib
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mutmut.configuration import config
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mutmut.mutation.file_mutation import MutatedFile

    from benchmarks.mutation.explained import Key

ROOT = Path(__file__).parents[2]
PACKAGES = {"slm_core": "core", "slm_operator": "operator", "slm_runtime": "runtime"}
"""Each package, and the folder that it lies in: mutmut wants them all in one, called `src`."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change to one function."""

    name: str
    """mutmut's."""
    file: str
    function: str
    before: str
    after: str

    @property
    def key(self) -> Key:
        """What an explanation names it by."""
        return self.file, self.function, self.before, self.after


def all_mutants() -> list[Mutant]:
    """All that mutmut may be asked to try."""
    with contextlib.chdir(ROOT):  # mutmut reads its settings where it is
        sources = (path for package, place in PACKAGES.items() for path in (ROOT / place / package).rglob("*.py"))
        files = sorted(str(path.relative_to(ROOT)) for path in sources)
        mutated = (file for file in files if config().should_mutate(in_copy(file)))
        return [mutant for file in mutated for mutant in mutants_of(file, (ROOT / file).read_text())]


def in_copy(file: str) -> Path:
    """Where mutmut finds a file."""
    return Path("src", *Path(file).parts[1:])


def mutants_of(file: str, code: str) -> Iterator[Mutant]:
    """The mutants of one file."""
    path = in_copy(file)
    mutated = mutate_file_contents(str(path), code)
    for name in mutated.mutant_names:
        mangled = name.partition("__mutmut_")[0]
        plain = mangled.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
        before, after = _difference(mutated, f"{mangled}__mutmut_orig", name, plain.rpartition(".")[2])
        yield Mutant(get_mutant_name(path, name), file, plain, before, after)


def _difference(mutated: MutatedFile, original: str, mutant: str, plain: str) -> tuple[str, str]:
    """The lines that a mutant has changed, and what they are in it."""
    lines = mutated.code.splitlines()
    spans = (mutated.line_span_by_function_name[one] for one in (original, mutant))
    old, new = (
        [line.replace(one, plain) for line in lines[span.start - 1 : span.end]]
        for one, span in zip((original, mutant), spans, strict=True)
    )
    changed = list(difflib.unified_diff(old, new, n=0, lineterm=""))[2:]
    before, after = (" ".join(line[1:].strip() for line in changed if line[0] == sign) for sign in "-+")
    return before, after
