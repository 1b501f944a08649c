"""What a whole search leaves of the published engine, for whatever a deployment asks, in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from slm_core.measurements import Cost, MeasurementDocument, Model, Workload
from slm_core.units import GIB
from slm_operator.manifests.profile import profile_spec
from slm_operator.manifests.question import question_of, request_for
from slm_runtime.search_loop import run_search

from tests import builders as build
from tests.simulated_engine.published import OPT_1_3B, SHAREGPT
from tests.simulated_engine.rig import SimulatedRig

if TYPE_CHECKING:
    from slm_core.search.steps import Request
    from slm_operator.watch.records import DeploymentRecord


def document(*points: object) -> MeasurementDocument:
    lengths = Workload(source="fixed", input_tokens_mean=111.0, output_tokens_mean=292.0)
    gpu = replace(build.imported().gpu, memory_bytes=OPT_1_3B.device_bytes)
    return replace(
        build.imported(),
        gpu=gpu,
        workload=lengths,
        model=Model(uri="pvc://models/opt", max_model_len=2048),
        points=points,
    )


def searched(record: DeploymentRecord, seed: int = 1) -> MeasurementDocument:
    """The document of a complete search for what a deployment asks."""
    assert record.spec is not None
    spec = profile_spec(record.spec)
    return _searched(replace(request_for(question_of(record.spec), spec, document()), max_gpu_seconds=1e6), seed)


@cache
def _searched(request: Request, seed: int) -> MeasurementDocument:
    rig = SimulatedRig(engine=OPT_1_3B, lengths=SHAREGPT, random=Random(seed))
    found = asyncio.run(run_search(request, rig, lambda _: None))
    cost = Cost(
        gpu_seconds=round(found.gpu_seconds, 1),
        engine_starts=found.engine_starts,
        startup_seconds=round(found.startup_seconds, 1),
    )
    assert found.ledger is not None
    assert found.ledger.device_bytes > 60 * GIB
    return replace(document(*found.points), ledger=found.ledger, cost=cost)
