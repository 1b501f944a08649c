"""The explanations that people read, of the published data. `make generate` writes them; review the diff."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from golden.advisor.regenerate import FOLDER, explanations

if TYPE_CHECKING:
    from pathlib import Path

EXPLANATIONS = explanations()


@pytest.mark.parametrize("path", EXPLANATIONS, ids=lambda path: path.stem)
def test_explanation(path: Path) -> None:
    assert path.read_text() == EXPLANATIONS[path]


def test_no_file_is_left_over() -> None:
    assert set(FOLDER.glob("*.txt")) == set(EXPLANATIONS)
