"""Searches in virtual time: the question, the rig, and the whole of it, as tests ask for them."""

from __future__ import annotations

from random import Random
from typing import Any

from slm_core.search.steps import Done, Findings, Request
from slm_core.slo import Slo
from slm_runtime.search_loop import Event, run_search

from tests.simulated_engine.published import OPT_1_3B, SHAREGPT
from tests.simulated_engine.rig import SimulatedRig

PLENTY = 1e6


def request(slo: Slo | None = None, **changes: Any) -> Request:
    fields = {"slo": slo or Slo(itl_factor=2), "max_gpu_seconds": PLENTY, "max_model_len": 2048}
    return Request(**fields | changes)


def rig(engine: Any = OPT_1_3B, seed: int = 1, **changes: Any) -> SimulatedRig:
    return SimulatedRig(engine=engine, lengths=SHAREGPT, random=Random(seed), **changes)


async def search(asked: Request, on: SimulatedRig) -> tuple[Findings, Done, list[Event]]:
    events: list[Event] = []
    findings = await run_search(asked, on, events.append)
    assert on.running is None, "engines survived the search"
    done = events[-1].step
    assert isinstance(done, Done)
    return findings, done, events
