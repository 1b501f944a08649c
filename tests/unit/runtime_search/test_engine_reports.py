"""What a running engine says of itself decides the next start, whatever was known of the model before it ran."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from slm_core.measurements import SharingMode
from slm_core.slo import Slo
from unit.runtime_search.searches import request, rig, search

from tests.simulated_engine.physics import SimulatedEngine, pool_bytes
from tests.simulated_engine.published import OPT_1_3B
from tests.simulated_engine.rig import SimulatedRig

if TYPE_CHECKING:
    from slm_core.configuration import EngineConfiguration
    from slm_core.search.steps import EngineReport

LONG = {
    "one billion parameters, 4 GiB for one sequence": replace(
        OPT_1_3B, kv_bytes_per_token=32 * 1024, max_model_len=131_072
    ),
    "two billion parameters, 10 GiB for one sequence": replace(
        OPT_1_3B, kv_bytes_per_token=80 * 1024, max_model_len=131_072
    ),
}
"""Models of the hub with a long context of their own."""
MODES = (SharingMode.MPS, SharingMode.TIME_SLICING)


async def found(engine: SimulatedEngine, told: int | None) -> tuple[int, list[tuple[int, int, int | None]], bool]:
    """Failed starts, packs measured with their KV bytes, and whether the search came to its own end."""
    findings, done, _ = await search(request(max_model_len=told, modes=MODES), rig(engine))
    packs = [(p.replicas, p.batch_size, p.kv_pool_bytes) for p in findings.points if p.replicas > 1]
    return len(findings.failures), packs, done.complete


@pytest.mark.parametrize("case", LONG)
@pytest.mark.parametrize("told", [None, 4096, 1_048_576], ids=["untold", "scaled by yarn", "cut by a flag"])
async def test_engines_longest_sequence_wins_over_the_told_one(case: str, told: int | None) -> None:
    failed, packs, complete = await found(LONG[case], told)
    assert (failed, packs, complete) == await found(LONG[case], LONG[case].max_model_len)
    assert (failed, complete) == (0, True)
    assert packs, "the memory holds two engines with one longest sequence each"


async def test_silent_engine_has_the_told_longest_sequence() -> None:
    class Silent(SimulatedRig):
        async def start(self, on: EngineConfiguration) -> EngineReport:
            return replace(await super().start(on), max_model_len=None)

    engine = LONG["one billion parameters, 4 GiB for one sequence"]
    it = Silent(engine=engine, lengths=rig().lengths, random=rig().random)
    findings, done, _ = await search(request(max_model_len=engine.max_model_len), it)
    assert done.complete
    assert not findings.failures
    assert findings.max_model_len is None


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    kv_kib=st.integers(4, 512),
    longest=st.integers(64, 1_000_000),
    told=st.none() | st.integers(64, 1_000_000),
    factor=st.floats(1.2, 6),
)
async def test_no_pool_below_one_sequence_is_ever_asked_for(
    kv_kib: int, longest: int, told: int | None, factor: float
) -> None:
    engine = replace(OPT_1_3B, kv_bytes_per_token=kv_kib * 1024, max_model_len=longest)
    findings, done, _ = await search(request(Slo(itl_factor=factor), max_model_len=told, modes=MODES), rig(engine))
    one = longest * engine.kv_bytes_per_token
    assume(findings.starts)  # else the whole device does not hold one sequence
    assert done.because
    assert not findings.failures
    pools = [pool_bytes(engine, s.step.configuration) for s in findings.starts]
    assert all(pool >= one for pool in pools)
