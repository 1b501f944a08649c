"""Product, chart and docs use the field's words: a closed list of private ones must not come back.

The glossary, docs/reference/glossary.md, has the words to use. Decision records and pictures stay as they were made.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (
    *("operator", "core", "runtime", "charts", "docs", "crds", "config", "examples", "hack"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "Makefile"),
)
HISTORY = ("docs/adr/", "docs/images/")
INSTEAD = {
    r"mend(?:s|ed|ing)?": "remedy, fix",
    r"told": "requested, reported, said",
    r"recut": "repartitioned_externally",
    r"cut_by_others": "partitioned_externally",
    r"overruled": "label_changed_externally",
    r"homeless": "unplaceable",
    r"gives_way": "may_be_disrupted",
    r"asked_in": "requested",
    r"aside": "informational, excluded",
    r"failed over": "internal error while reconciling",
    r"is so": "the state itself, in plain words",
}
"""A private word, and what to write instead."""
_WORDS = re.compile(rf"(?<![A-Za-z])({'|'.join(INSTEAD)})(?![a-z])", re.IGNORECASE)


def private_words(text: str) -> list[tuple[int, str]]:
    """Line and word of each private word in a text."""
    return [
        (number, found.group(1)) for number, line in enumerate(text.splitlines(), 1) for found in _WORDS.finditer(line)
    ]


def instead_of(word: str) -> str:
    """What to write for a private word."""
    return next(better for pattern, better in INSTEAD.items() if re.fullmatch(pattern, word, re.IGNORECASE))


def test_product_chart_and_docs_have_no_private_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word}: write {instead_of(word)}"
        for path in texts()
        for number, word in private_words(path.read_text())
    ]
    assert not found, "\n".join(found)


def texts() -> list[Path]:
    """Files of the product, its chart and its docs."""
    rooms = [ROOT / name for name in ROOMS]
    found = [path for room in rooms for path in (room.rglob("*") if room.is_dir() else [room]) if path.is_file()]
    kept = [path for path in found if not str(path.relative_to(ROOT)).startswith(HISTORY) and path.suffix != ".pyc"]
    assert len(kept) > 200, "the rooms are not where this test looks"
    return kept


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("def mend(self):", "mend"),
        ("is_asked_in(spec)", "asked_in"),
        ("self._told = 1", "told"),
        ("all that was asked for IS SO", "IS SO"),
        ("_ASIDE = 1", "ASIDE"),
    ],
)
def test_a_private_word_is_found_in_text_and_names(text: str, word: str) -> None:
    assert private_words(text) == [(1, word)]
    assert instead_of(word)


@pytest.mark.parametrize("text", ["amended", "recommend", "is sound", "threshold"])
def test_a_longer_word_is_not_taken_for_one(text: str) -> None:
    assert not private_words(text)
