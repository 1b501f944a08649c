"""A recorded run: the real vLLM at several loads beside what is expected of it there, from points of the profiler.

    make record expected

What was counted is kept, so that what is expected can be held against it without an engine. NB: the speed of a machine can drift by
a third within minutes, so each load has a short turn in every cycle, and points of the profiler have theirs among them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.foreign.expected import WITHIN, Compared, compared, table
from tests.testbed.engine_cpu import CPU_ENV, python, serve_command
from tests.testbed.tiny_model import tiny_model

from .profiling import ENGINE, ROOT, SOURCES, lines_of

pytestmark = [pytest.mark.vllm, pytest.mark.record, pytest.mark.timeout(3600)]

CYCLES, SEED = 25, 1
KNOTS = (1, 32, 64)
"""What a search measures of one engine: two references, and the edge of the SLO."""
BATCHES = (64, 24)
FEW = (1, 4, 16)
PARTS = (0.3, 0.5, 0.7, 1.0)
"""Of a batch."""
ONE_THREAD = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
"""NB: two wait for one another at each step, and with one core busy elsewhere measure that."""


def clients(batch: int) -> list[int]:
    return sorted({*FEW, *(round(part * batch) for part in PARTS)})


@pytest.fixture(scope="module")
def loads() -> list[Compared]:
    """Every load of every engine, kept for the record and shown whatever is judged of it."""
    asked = [*map(str, KNOTS), *(f"{batch}:{many}" for batch in BATCHES for many in clients(batch))]
    script = str(Path(__file__).with_name("loads.py"))
    own = [str(tiny_model()), str(CYCLES), str(SEED), *asked]
    words = [*serve_command(), *ENGINE, "--max-model-len", "256", "--dtype", "bfloat16"]
    env = os.environ | CPU_ENV | ONE_THREAD | {"PYTHONPATH": f"{SOURCES}:{ROOT / 'tests/e2e'}"}
    turns = lines_of([str(python()), script, *own, "--", *words], env)
    if record := os.environ.get("SLM_RECORD"):
        Path(record).write_text("[\n" + ",\n".join(map(json.dumps, turns)) + "\n]\n")
    found = compared(turns)
    print("", *table(found), sep="\n")
    return found


def test_few_clients_parts_of_a_batch_and_all_of_it_were_seen(loads: list[Compared]) -> None:
    seen = {(one.batch_size, one.clients) for one in loads if len(one.cycles) == CYCLES}
    assert seen == {(batch, many) for batch in BATCHES for many in clients(batch)}


def test_throughput_is_what_was_expected_at_each_load(loads: list[Compared]) -> None:
    assert [one for one in loads if abs(one.throughput_fraction) > WITHIN] == []


def test_itl_is_what_was_expected_at_each_load(loads: list[Compared]) -> None:
    assert [one for one in loads if abs(one.itl_fraction) > WITHIN] == []
