"""A search that can trust nothing above B = 1 has found nothing, and says why."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.measurements import Mark
from slm_core.search.next_step import best
from slm_core.slo import Slo
from unit.runtime_search.searches import request, rig, search

from tests.simulated_engine.published import OPT_1_3B, SHAREGPT
from tests.simulated_engine.rig import SimulatedRig

if TYPE_CHECKING:
    from slm_core.measurements import Point
    from slm_core.search.steps import Measure


class Doubtful(SimulatedRig):
    """Every window of some batch sizes is doubtful."""

    def __init__(self, least: int, **doubt: Any) -> None:
        super().__init__(engine=OPT_1_3B, lengths=SHAREGPT, random=Random(1))
        self._least, self._doubt = least, doubt

    async def measure(self, step: Measure) -> Point:
        point = await super().measure(step)
        return point if step.batch_size < self._least else replace(point, **self._doubt)


DOUBTS: dict[str, tuple[dict[str, Any], str]] = {
    "a mark": ({"marks": (Mark.THROTTLED,)}, "the GPU lowered its clocks"),
    "two marks": ({"marks": (Mark.THROTTLED, Mark.ERRORS)}, "requests failed, the GPU lowered its clocks"),
    "failed requests": ({"errors": 3}, "requests failed"),
    "a pool too small besides": (
        {"preemptions": 2, "marks": (Mark.PREEMPTED, Mark.THROTTLED)},
        "the GPU lowered its clocks",
    ),
}
SLOS = {"a factor": Slo(itl_factor=4), "a limit": Slo(itl_ms=40), "a tail": Slo(itl_ms=40, ttft_ms=60), "none": Slo()}


@pytest.mark.parametrize("case", DOUBTS)
@pytest.mark.parametrize("slo", SLOS)
async def test_one_sequence_alone_is_never_the_best(case: str, slo: str) -> None:
    doubt, why = DOUBTS[case]
    asked = request(SLOS[slo])
    findings, done, _ = await search(asked, Doubtful(2, **doubt))
    assert best(asked, findings) is None
    assert not done.complete
    assert done.because.startswith("what could be chosen is in doubt")
    assert why in done.because
    assert findings.engine_starts == 1, "nothing is confirmed, and no pack is tried"


async def test_one_sequence_is_the_best_where_the_limits_say_so() -> None:
    asked = request(Slo(itl_ms=3.66))
    findings, done, _ = await search(asked, rig())
    chosen = best(asked, findings)
    assert chosen is not None
    assert (chosen.batch_size, done.complete) == (1, True)


async def test_one_sequence_is_the_best_where_no_pool_holds_more() -> None:
    asked = request(Slo(itl_ms=40), max_engines=1)
    findings, _, _ = await search(asked, Doubtful(2, preemptions=1, marks=(Mark.PREEMPTED,)))
    chosen = best(asked, findings)
    assert chosen is not None
    assert chosen.batch_size == 1


async def test_trusted_points_decide_though_larger_batches_are_not() -> None:
    asked = request(Slo(itl_factor=4), max_engines=1)
    findings, done, _ = await search(asked, Doubtful(64, marks=(Mark.THROTTLED,)))
    chosen = best(asked, findings)
    assert chosen is not None
    assert 32 <= chosen.batch_size < 64
    assert done.because
