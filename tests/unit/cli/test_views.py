"""Terminal views of a cluster are drawn as their golden files say. `make generate` writes them anew."""

from __future__ import annotations

import pytest
from unit.cli.golden import GOLDEN, captured
from unit.cli.views import VIEWS


@pytest.mark.parametrize("name", VIEWS)
def test_is_drawn_as_the_golden_file_says(name: str) -> None:
    assert captured(VIEWS[name]) == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", VIEWS)
def test_fits_a_terminal(name: str) -> None:
    assert max(len(line) for line in captured(VIEWS[name]).splitlines()) <= 120
