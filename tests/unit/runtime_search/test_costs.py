"""What a start is expected to cost: by starts of its kind, and without the model's download."""

from __future__ import annotations

from dataclasses import replace

import pytest
from slm_core.configuration import EngineConfiguration
from slm_core.measurements import SharingMode
from slm_core.search.costs import Starts, expected_seconds
from slm_core.search.steps import EngineReport, Findings, Started, StartEngines
from slm_core.slo import Slo
from unit.runtime_search.searches import request, rig, search

from tests.simulated_engine.published import OPT_1_3B

HUB = replace(OPT_1_3B, kv_bytes_per_token=32 * 1024, max_model_len=131_072, start_seconds=70.0, compile_seconds=80.0)
"""A model of the hub: 150 s until its engine runs, 70 s where its step is compiled already."""
AT_ITS_POWER_LIMIT = {"mean_power_watts": 72.0, "mean_sm_clock_mhz": 1110.0, "power_capped_fraction": 1.0}
"""What windows see of a board as it runs in production: figures, and no doubt."""


@pytest.mark.parametrize("download", [0, 180, 400])
@pytest.mark.parametrize("minutes", [10, 15, 30])
async def test_download_and_power_cap_change_no_measurement(download: float, minutes: float) -> None:
    asked = request(Slo(itl_factor=4), max_model_len=None, max_gpu_seconds=60 * minutes)
    quick, at_once, _ = await search(asked, rig(HUB))
    slow, done, _ = await search(asked, rig(HUB, download=download, board=AT_ITS_POWER_LIMIT))
    assert [replace(p, **dict.fromkeys(AT_ITS_POWER_LIMIT)) for p in slow.points] == list(quick.points)
    assert any(p.replicas > 1 for p in slow.points)
    assert done == at_once
    assert (slow.download_seconds, slow.gpu_seconds - quick.gpu_seconds) == (download, pytest.approx(download))


async def test_a_download_in_a_start_that_fails_is_not_counted_either() -> None:
    refused = rig(HUB, download=400, refuses=frozenset({SharingMode.EXCLUSIVE}))
    findings, done, _ = await search(request(max_gpu_seconds=301), refused)
    assert len(findings.failures) == 2, "each took 150 s of the 300"
    assert "did not start" in done.because


def configuration(batch_size: int, engines: int = 1, tokens: int = 8192) -> EngineConfiguration:
    return EngineConfiguration(batch_size=batch_size, max_num_batched_tokens=tokens, engines_per_gpu=engines)


def started(on: EngineConfiguration, *seconds: float, rest: float = 0.0, download: float = 0.0) -> Started:
    ledger = rig()._ledger(pool=1)
    return Started(
        step=StartEngines(configuration=on, because="a test"),
        report=EngineReport(ledger=ledger, max_model_len=None, version="1", seconds=seconds),
        gpu_seconds=sum(seconds) + rest + download,
        download_seconds=download,
    )


FIRST = started(configuration(512), 150, rest=20, download=300)
PACK = started(configuration(64, engines=2), 110, 70, rest=5)
CASES = {
    "nothing is known": ((), configuration(64), 0),
    "one cold start is all that is known": ((FIRST,), configuration(64, 2), 150 + 150 + 20),
    "the first start of all was dearer than any other": ((FIRST, PACK), configuration(48), 110 + 5),
    "one cold engine and three warm ones": ((FIRST, PACK), configuration(48, 4), 110 + 3 * 70 + 5),
    "its batch size has been compiled": ((FIRST, PACK), configuration(64, 3), 3 * 70 + 5),
    "the sweep's has been too": ((FIRST, PACK), configuration(512), 70 + 5),
    "another token budget compiles anew": ((FIRST, PACK), configuration(64, 1, tokens=2048), 110 + 5),
}


@pytest.mark.parametrize("case", CASES)
def test_a_start_costs_what_its_kind_has_cost(case: str) -> None:
    outcomes, on, seconds = CASES[case]
    assert Starts.of(Findings(outcomes=outcomes)).expect(on) == seconds


async def test_a_start_is_expected_to_cost_a_measurement_too() -> None:
    findings, _, _ = await search(request(), rig(HUB))
    start, measure = findings.starts[-1].step, findings.measured[-1].step
    window = max(m.gpu_seconds for m in findings.measured)
    assert expected_seconds(findings, measure) == window > 0
    assert expected_seconds(findings, start) == Starts.of(findings).expect(start.configuration) + window
