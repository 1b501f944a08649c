"""Thousands of small clusters with bad luck and bad company: no promise is broken, and every plan ends.

To look at one of them: `python -m tests.simulation SEED`.
"""

import multiprocessing
import os
import time
from contextlib import ExitStack
from unittest.mock import patch

import pytest

from .many import play, play_in_parallel
from .mutants import PIECES, PLANNERS
from .run import drawn, live

QUICK_SEEDS, SLOW_SEEDS, MUTANT_SEEDS = 80, 20_000, 600


def test_no_promise_is_broken() -> None:
    assert play(range(QUICK_SEEDS)).broken is None


@pytest.mark.slow
@pytest.mark.timeout(1800)  # minutes of both cores, which others may want too
def test_no_promise_is_broken_in_twenty_thousand_runs(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.perf_counter()
    tally = play_in_parallel(range(QUICK_SEEDS, QUICK_SEEDS + SLOW_SEEDS), os.cpu_count() or 1)
    with capsys.disabled():
        print(f"\n{tally} in {time.perf_counter() - began:.0f} s")
    assert tally.broken is None
    assert tally.runs == SLOW_SEEDS


@pytest.mark.slow
def test_a_broken_seed_is_told_ends_all_and_leaves_no_process() -> None:
    tally = play_in_parallel(range(5_000), 2, plan_nodes=PLANNERS["touches nodes that did not opt in"])
    assert tally.broken is not None
    seed = tally.broken.partition(":")[0]
    assert tally.broken.endswith(f"python -m tests.simulation {seed.removeprefix('seed ')}")
    assert tally.runs < 2_500
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.parametrize("bug", [*PLANNERS, *PIECES])
def test_a_bug_put_in_on_purpose_is_found(bug: str) -> None:
    with ExitStack() as planted:
        if bug in PIECES:
            where, name, instead = PIECES[bug]
            planted.enter_context(patch.object(where, name, instead))
            found = play(range(MUTANT_SEEDS))
        else:
            found = play(range(MUTANT_SEEDS), plan_nodes=PLANNERS[bug])
    assert found.broken is not None
    assert "Traceback" not in found.broken


def test_the_same_seed_is_the_same_run() -> None:
    first, second = (drawn(7, narrated=True) for _ in range(2))
    live(first)
    live(second)
    assert first.world.told == second.world.told
    assert len(first.world.told) > 20
