"""Searches in virtual time: the question, the rig, and the whole of it, as tests ask for them."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from slm_core.measurements import Cost, Engine, Gpu, MeasurementDocument, Model, Workload
from slm_core.search.chosen import load_of
from slm_core.search.steps import Done, Findings, Measured, Request
from slm_core.slo import Slo
from slm_core.units import GIB
from slm_runtime.search_loop import Event, run_search

from tests.simulated_engine.published import OPT_1_3B, SHAREGPT
from tests.simulated_engine.rig import SimulatedRig

PLENTY = 1e6


def request(slo: Slo | None = None, **changes: Any) -> Request:
    fields = {"slo": slo or Slo(itl_factor=2), "max_gpu_seconds": PLENTY, "max_model_len": 2048}
    return Request(**fields | changes)


def rig(engine: Any = OPT_1_3B, seed: int = 1, **changes: Any) -> SimulatedRig:
    return SimulatedRig(engine=engine, lengths=SHAREGPT, random=Random(seed), **changes)


async def search(
    asked: Request, on: SimulatedRig, before: Findings | None = None
) -> tuple[Findings, Done, list[Event]]:
    events: list[Event] = []
    findings = await run_search(asked, on, events.append, before)
    assert on.running is None, "engines survived the search"
    done = events[-1].step
    assert isinstance(done, Done)
    return findings, done, events


def document_of(
    asked: Request, findings: Findings, *, complete: bool = True, former: MeasurementDocument | None = None
) -> MeasurementDocument:
    """What a session leaves, as the runtime writes it."""
    spent = former.cost if former and former.cost else Cost(gpu_seconds=0, engine_starts=0, startup_seconds=0)
    return MeasurementDocument(
        model=Model(uri="hf://a/model", max_model_len=findings.max_model_len),
        engine=Engine(version=findings.version),
        gpu=Gpu(product="NVIDIA-L4", memory_bytes=24 * GIB),
        workload=Workload(
            source="fixed",
            input_tokens_mean=100,
            output_tokens_mean=100,
            concurrency=load_of(asked, findings),
            requests_per_second=asked.requests_per_second,
        ),
        ledger=findings.ledger,
        points=(former.points if former else ()) + tuple(m.point for m in taken(findings)),
        complete=complete,
        cost=Cost(
            gpu_seconds=spent.gpu_seconds + findings.gpu_seconds,
            engine_starts=spent.engine_starts + findings.engine_starts,
            startup_seconds=spent.startup_seconds + findings.startup_seconds,
        ),
    )


def taken(findings: Findings) -> list[Measured]:
    """What this session measured."""
    return [o for o in findings.session if isinstance(o, Measured)]


def cut(findings: Findings, points: int) -> Findings:
    """A search that was interrupted while it measured the point after so many."""
    outcomes = findings.outcomes
    ends = [at for at, o in enumerate(outcomes) if isinstance(o, Measured)]
    return replace(findings, outcomes=outcomes[: ends[points]] if points < len(ends) else outcomes)
