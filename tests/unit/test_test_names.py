"""Tests read as a specification: their names keep to the rule of CONTRIBUTING.md."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
MOST_CHARACTERS = 60


def too_long(source: str) -> list[str]:
    names = re.findall(r"^\s*(?:async )?def (test_\w+)", source, re.MULTILINE)
    return [name for name in names if len(name) > MOST_CHARACTERS]


def test_name_of_a_test_has_at_most_60_characters() -> None:
    found = {path.relative_to(TESTS): too_long(path.read_text()) for path in TESTS.rglob("test_*.py")}
    long = {f"{path}: {name}" for path, names in found.items() for name in names}
    assert long == set(), "a test is named subject, condition, result, in at most 60 characters (CONTRIBUTING.md)"


def test_name_of_61_characters_is_found() -> None:
    fits, long = "test_" + "a" * 55, "test_" + "b" * 56
    assert too_long(f"def {fits}():\n    pass\n\nclass T:\n    async def {long}(self): ...\n") == [long]
