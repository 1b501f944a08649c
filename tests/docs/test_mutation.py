"""The page about mutants explains such as there are: a row of a line that has changed would let its survivor pass."""

from hack.mutate import MODULES, explained, mutants


def test_every_mutant_that_is_explained_exists() -> None:
    assert explained() - {mutant.name for path in MODULES.values() for mutant in mutants(path)} == set()
