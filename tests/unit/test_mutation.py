"""Mutants are of the kinds that matter, and each that is explained exists: an edited line has another."""

import pytest

from benchmarks.mutation.explained import explained
from benchmarks.mutation.mutants import ROOT, mutants_of

CODE = """
def decide(load, limit, found=None):
    if load < limit and not found:
        return load + 1
    return "few" if load is limit else "many"
"""
KINDS = {
    "a comparison": "if load <= limit and not found:",
    "and": "if load < limit or not found:",
    "not": "if load < limit and found:",
    "arithmetic": "return load - 1",
    "a number": "return load + 2",
    "an identity": 'return "few" if load is not limit else "many"',
    "a conditional": 'return "few" if (load is limit) and False else "many"',
}
FILE = "core/slm_core/decide.py"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_change_is_a_mutant(kind: str) -> None:
    assert KINDS[kind] in {mutant.after for mutant in mutants_of(FILE, CODE)}


def test_a_mutant_is_named_by_function_and_lines() -> None:
    first = next(mutant for mutant in mutants_of(FILE, CODE) if mutant.after == KINDS["arithmetic"])
    assert first.key == (FILE, "decide", "return load + 1", "return load - 1")


def test_every_explained_mutant_exists() -> None:
    files = {file for file, *_ in explained()}
    found = {mutant.key for file in files for mutant in mutants_of(file, (ROOT / file).read_text())}
    assert explained().keys() - found == set()
