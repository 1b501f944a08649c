"""Thousands of small clusters with bad luck and bad company: no promise is broken, and every plan ends.

To look at one of them: `python -m tests.simulation SEED`.
"""

from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from unittest.mock import patch

import pytest

from .mutants import PIECES, PLANNERS
from .objects import BrokenPromiseError
from .run import run

QUICK_SEEDS, SLOW_SEEDS, MUTANT_SEEDS = 80, 9_250, 600
CHUNK = 250


def broken(seeds: range, **operator: object) -> str | None:
    """The first broken promise, and the seed to look at."""
    for seed in seeds:
        try:
            run(seed, **operator)
        except BrokenPromiseError as error:
            return f"seed {seed}: {error}"
    return None


def test_no_promise_is_broken() -> None:
    assert broken(range(QUICK_SEEDS)) is None


@pytest.mark.slow
def test_no_promise_is_broken_in_thousands_of_runs() -> None:
    chunks = [range(first, first + CHUNK) for first in range(QUICK_SEEDS, QUICK_SEEDS + SLOW_SEEDS, CHUNK)]
    with ProcessPoolExecutor(max_workers=2) as workers:
        found = [said for said in workers.map(broken, chunks) if said is not None]
    assert not found


@pytest.mark.slow
@pytest.mark.parametrize("bug", [*PLANNERS, *PIECES])
def test_a_bug_put_in_on_purpose_is_found(bug: str) -> None:
    with ExitStack() as planted:
        if bug in PIECES:
            where, name, instead = PIECES[bug]
            planted.enter_context(patch.object(where, name, instead))
            assert broken(range(MUTANT_SEEDS)) is not None
        else:
            assert broken(range(MUTANT_SEEDS), plan_nodes=PLANNERS[bug]) is not None


def test_the_same_seed_is_the_same_run() -> None:
    assert [run(7).world.version() for _ in range(2)] == [run(7).world.version()] * 2
