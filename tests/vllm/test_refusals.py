"""What the real vLLM cannot start with is named by the profiler. A whole profile of it is tests/e2e/test_first_answer.py."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from slm_core.failure import EXIT_STATUS, Failure

from tests.testbed.tiny_model import tiny_model

from .profiling import profile

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]


def test_corrupt_weights_are_named(runtime: Path, tmp_path: Path) -> None:
    model = tmp_path / "cut-short"
    shutil.copytree(tiny_model(), model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    run = profile(runtime, model)
    assert (run.status, run.failed["class"]) == (EXIT_STATUS[Failure.MODEL], Failure.MODEL), run.failed


@pytest.mark.record  # each is a start of vLLM; in tests/unit/runtime its words are quoted
@pytest.mark.parametrize(
    "words",
    [("--dtype", "float17"), ("--max-model-len", "999999")],
    ids=["a dtype that is none", "longer than the model was made for"],
)
def test_arguments_that_the_engine_refuses_are_named(runtime: Path, words: tuple[str, ...]) -> None:
    run = profile(runtime, tiny_model(), engine=words)
    assert (run.status, run.failed["class"]) == (EXIT_STATUS[Failure.ARGUMENTS], Failure.ARGUMENTS), run.failed
