"""Ten thousand candidates are judged while a person waits."""

from __future__ import annotations

import gc
import sys

import pytest
from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise
from slm_runtime.slo import Slo

from benchmarks.advisor import random_document
from tests.yardstick import seconds_on_the_reference_machine

MOST_SECONDS = 0.1


@pytest.mark.slow
@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage slows every line")
def test_ten_thousand_candidates_in_a_tenth_of_a_second() -> None:
    """At that rate, by short runs. `benchmarks/advisor.py` asks for all ten thousand at once."""
    document = random_document(500)
    gc.collect()
    gc.freeze()
    try:
        asked = seconds_on_the_reference_machine(lambda: advise(document, Slo(itl_ms=60), Settings()), turns=150)
    finally:
        gc.unfreeze()
    assert asked <= MOST_SECONDS / 20
