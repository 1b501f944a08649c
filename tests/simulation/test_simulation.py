"""Small clusters with bad luck and bad company, under the loop that is shipped: no promise is broken, and every plan ends.

To look at one of them: `python -m tests.simulation SEED`.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest

from .loop_mutants import LOOP
from .many import play, play_in_parallel
from .mutants import PIECES, PLANNERS
from .run import drawn, live
from .situations import Situation

QUICK_SEEDS, SUITE_SEEDS, RECORDED_SEEDS, MUTANT_SEEDS = 12, 240, 20_000, 600


def test_no_promise_is_broken() -> None:
    assert play(range(QUICK_SEEDS)).broken is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "seeds",
    [
        range(SUITE_SEEDS),
        pytest.param(range(RECORDED_SEEDS), marks=[pytest.mark.record, pytest.mark.timeout(4 * 3600)]),
    ],
    ids=len,
)
def test_no_promise_is_broken_and_all_that_is_hard_is_met(
    seeds: range, record_property: Callable[[str, str], None]
) -> None:
    began = time.perf_counter()
    tally = play_in_parallel(seeds, os.cpu_count() or 1)
    record_property("note", f"{tally} in {time.perf_counter() - began:.0f} s")
    assert tally.broken is None
    assert tally.runs == len(seeds)
    assert set(Situation) - tally.met.keys() == set(), "the simulation claims it, and these seeds do not show it"
    if "SLM_RECORD" in os.environ:
        Path(os.environ["SLM_RECORD"]).write_text(json.dumps(tally.document(), indent=1) + "\n")


@pytest.mark.slow
def test_broken_seed_is_reported_and_leaves_no_process() -> None:
    tally = play_in_parallel(range(5_000), 2, plan_nodes=PLANNERS["edits a key"])
    assert tally.broken is not None
    seed = tally.broken.partition(":")[0]
    assert tally.broken.endswith(f"python -m tests.simulation {seed.removeprefix('seed ')}")
    assert tally.runs < 2_500
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.parametrize("bug", [*PLANNERS, *PIECES, *LOOP])
def test_a_bug_put_in_on_purpose_is_found(bug: str) -> None:
    with ExitStack() as planted:
        if bug in PLANNERS:
            found = play(range(MUTANT_SEEDS), plan_nodes=PLANNERS[bug])
        else:
            where, name, instead = (PIECES | LOOP)[bug]
            planted.enter_context(patch.object(where, name, instead))
            found = play(range(MUTANT_SEEDS))
    assert found.broken is not None
    assert "Traceback" not in found.broken


def test_a_tally_is_written_as_it_was_counted() -> None:
    tally = play(range(2))
    assert json.loads(json.dumps(tally.document())) == {
        "runs": 2,
        "steps": tally.steps,
        "passes": tally.passes,
        "writes": tally.writes,
        "kills": tally.kills,
        "met": {str(one): count for one, count in tally.met.items()},
        "broken": None,
    }


def test_the_same_seed_is_the_same_run() -> None:
    first, second = (drawn(4, narrated=True) for _ in range(2))
    live(first)
    live(second)
    assert first.world.lines == second.world.lines
    assert len(first.world.lines) > 20


@pytest.mark.slow
def test_it_is_so_in_every_process() -> None:
    """NB: Python orders the texts of a set by a number that each process draws."""
    told = {
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "4"],
            env=os.environ | {"PYTHONHASHSEED": drawn_number},
            check=True,
            capture_output=True,
        ).stdout
        for drawn_number in ("1", "2", "3")
    }
    assert len(told) == 1
