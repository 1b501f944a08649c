"""The list of vLLM's options, by which the owned flags are judged, is that of the pinned vLLM."""

import json
from pathlib import Path

import pytest

from tests.testbed.vllm_options import options

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
RECORDED = Path(__file__).parents[1] / "data/vllm/options.json"


def test_the_recorded_options_are_those_of_the_pinned_engine() -> None:
    assert json.loads(RECORDED.read_text()) == options(), "run: python -m tests.testbed.vllm_options"
