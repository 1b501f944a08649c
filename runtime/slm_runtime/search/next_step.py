"""Decides the next step of a search from all that has been found so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_runtime.document import SharingMode
from slm_runtime.search.steps import Done, Measure, StartEngines

if TYPE_CHECKING:
    from slm_runtime.search.steps import Findings, Request, Step


def next_step(request: Request, findings: Findings) -> Step:
    """For now: one engine, B = 1 and B = 32."""
    if findings.failures:
        return Done(complete=False, because=findings.failures[-1].reason)
    if not findings.starts:
        return StartEngines(
            replicas=1,
            mode=SharingMode.NONE,
            batch_size=request.max_batch_size,
            kv_pool_bytes=None,
            max_num_batched_tokens=request.max_num_batched_tokens,
            because="one engine start serves the whole sweep",
        )
    for batch_size, max_requests in ((1, 16), (min(32, request.max_batch_size), None)):
        if all(p.batch_size != batch_size for p in findings.points):
            return Measure(
                batch_size=batch_size,
                in_flight=None,
                max_requests=max_requests,
                min_samples=0,
                because="an end of the line",
            )
    return Done(complete=True, because="both ends were measured")
