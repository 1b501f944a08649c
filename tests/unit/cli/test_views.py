"""Terminal views of a cluster are drawn as their golden files say. `make generate` writes them anew."""

from __future__ import annotations

import re

import pytest
from unit.cli.golden import GOLDEN, captured
from unit.cli.pictures import IMAGES, SCREENS
from unit.cli.views import VIEWS


@pytest.mark.parametrize("name", VIEWS)
def test_is_drawn_as_the_golden_file_says(name: str) -> None:
    assert captured(VIEWS[name]) == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", VIEWS)
def test_fits_a_terminal(name: str) -> None:
    assert max(len(line) for line in captured(VIEWS[name]).splitlines()) <= 120


@pytest.mark.parametrize("name", SCREENS)
def test_the_documentation_shows_what_is_drawn(name: str) -> None:
    drawn = SCREENS[name]()
    assert drawn == (IMAGES / name).read_text()
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", drawn).replace("https://www.textualize.io", "")
