import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.unit.standin.machine import Machine


@pytest.fixture
def make_machine() -> Iterator[Callable[..., Machine]]:
    with ExitStack() as stack:

        def make(**settings: Any) -> Machine:
            # NB: not tmp_path, whose length leaves no room for a socket's name.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gpu", ignore_cleanup_errors=True))
            return stack.enter_context(closing(Machine(Path(folder), **settings)))

        yield make


@pytest.fixture
def machine(make_machine: Callable[..., Machine]) -> Machine:
    return make_machine()
