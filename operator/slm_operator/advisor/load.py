"""The load from which a pack pays.

A pack that wins with full batches loses when traffic is thin; what each does at the decided load is `slm_core.load`.
Assumes lines through few points, so the answer is "about". Must never decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core import noise
from slm_core.latency_model import fit_line, fit_points

if TYPE_CHECKING:
    from slm_core.decision import Basis
    from slm_core.measurements import Point


def pays_from(basis: Basis, pack: Point, single: Point, gate: float) -> int | None:
    """Requests in flight per GPU from which `pack` beats `single` by `gate`, by the lines fitted to both.

    The pack's line needs two loads measured in packs of the same R and mode; with one load it is that load. None when
    the lines never cross below full batches, or without a line for one engine.
    """
    alike = (p for p in basis.points if p.replicas == pack.replicas and p.sharing_mode is pack.sharing_mode)
    kin = [p for p in alike if p.is_trusted]
    loads = [float(p.load) for p in kin]
    fit = basis.fit or fit_points(basis.points)
    if fit is None:
        return None
    if len(set(loads)) < 2:
        return pack.load
    turns = [1000 * load / p.output_tokens_per_second for load, p in zip(loads, kin, strict=True)]
    line = fit_line(loads, turns, [noise.REPEAT_FRACTION] * len(kin))
    for in_flight in range(1, pack.full_load + 1):
        alone = fit.turn.at(min(in_flight, single.batch_size)) / min(in_flight, single.batch_size)
        if alone >= (1 + gate) * line.at(in_flight) / in_flight:
            return in_flight
    return None
