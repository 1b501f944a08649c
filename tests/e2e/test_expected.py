"""A recorded run: the real engine at several loads beside what is expected of it there, from a profile of the same minutes.

    make record expected

In each round the operator measures the profile that `kubectl slm advise` wrote, and two engines of the Deployment that is not ours,
the advised batch and a smaller one, run with few clients, with parts of their batch and with all of it. What was counted is kept,
so that what is expected can be held against it without an engine.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.foreign.expected import WITHIN, Compared, compared, table

from .foreign import (
    BAD,
    ROUNDS,
    kubectl,
    loaded,
    manifest,
    measure,
    measured,
    place,
    profile_name,
    scale,
    wait_until_rolled_out,
)

if TYPE_CHECKING:
    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.vllm, pytest.mark.record, pytest.mark.timeout(5400)]

FEW = (1, 4, 16)
PARTS = (0.3, 0.5, 0.7, 1.0)
"""Of a batch."""


@pytest.fixture(scope="module")
def rounds(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A profile and the engines under loads, over and over, kept for the record."""
    found: list[dict[str, Any]] = []
    with place(stage, tmp_path_factory.mktemp("expected")):
        for number in range(ROUNDS):
            found.append(one_round(stage, number, [step["batchSize"] for one in found[:1] for step in one["steps"]]))
            print("", *table(compared(found[-1:])), sep="\n", flush=True)
    if record := os.environ.get("SLM_RECORD"):
        Path(record).write_text(json.dumps(found, indent=1) + "\n")
    return found


def one_round(stage: Stage, number: int, batches: list[int]) -> dict[str, Any]:
    """Without batches: the advised one, and half of it. NB: one engine at a time has the machine, or it measures its neighbour."""
    stage.apply(manifest(BAD))
    scale(stage, 0)
    advised = measure(stage)
    document = measured(stage)["status"]["measurements"]
    kubectl(stage, "delete", "slmp", profile_name(stage), "--wait")
    return {
        "document": document,
        "steps": [under_loads(stage, size, number) for size in batches or [advised // 2, advised]],
    }


def under_loads(stage: Stage, size: int, number: int) -> dict[str, Any]:
    """A batch, and what it did with so many clients; every second round begins with the most."""
    stage.apply(manifest(size))
    wait_until_rolled_out(stage)
    clients = sorted(
        {few for few in FEW if few < size} | {round(part * size) for part in PARTS}, reverse=bool(number % 2)
    )
    return {"batchSize": size, "windows": loaded(stage, clients)}


@pytest.fixture(scope="module")
def loads(rounds: list[dict[str, Any]]) -> list[Compared]:
    found = compared(rounds)
    print("", *table(found), sep="\n")
    return found


def test_every_load_was_seen_in_every_round(loads: list[Compared], rounds: list[dict[str, Any]]) -> None:
    seen = sum(len(step["windows"]) for one in rounds for step in one["steps"])
    assert sum(len(one.rounds) for one in loads) == seen == len(loads) * ROUNDS
    assert len({json.dumps(one["document"]) for one in rounds}) == ROUNDS  # each measured anew


def test_throughput_is_what_was_expected_at_each_load(loads: list[Compared]) -> None:
    assert [one for one in loads if abs(one.throughput_fraction) > WITHIN] == []


def test_itl_is_what_was_expected_at_each_load(loads: list[Compared]) -> None:
    assert [one for one in loads if abs(one.itl_fraction) > WITHIN] == []
