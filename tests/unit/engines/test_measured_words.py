"""What of a user's words and variables asks for a measurement of its own, and what does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from slm_core.engines.registry import default
from slm_core.engines.vllm_key import UNMEASURED_FLAGS
from slm_operator.manifests.profile import profile_spec
from slm_operator.manifests.profile_key import profile_key

from tests.builders import deployment_spec

OPTIONS = json.loads((Path(__file__).parents[2] / "data" / "vllm" / "options.json").read_text())["options"]
TAKES = {name: option["values"] for option in OPTIONS for name in option["names"]}
VLLM = default()


@pytest.mark.parametrize("flag", UNMEASURED_FLAGS)
def test_unmeasured_flag_is_vllms_and_takes_a_value_as_told(flag: str) -> None:
    assert (TAKES[flag] is None) == UNMEASURED_FLAGS[flag]


KEPT: dict[str, tuple[list[str], list[str]]] = {
    "a flag with its value": (["--seed", "1", "--enforce-eager"], ["--enforce-eager"]),
    "the value in the same word": (["--seed=1", "--block-size", "16"], ["--block-size", "16"]),
    "underscores": (["--reasoning_parser", "qwen3"], []),
    "one without a value": (["--enable-auto-tool-choice", "--quantization", "fp8"], ["--quantization", "fp8"]),
    "a value that looks like one of them": (["--quantization", "--seed"], ["--quantization"]),
    "what is not known": (["--a-flag-of-next-year", "x"], ["--a-flag-of-next-year", "x"]),
    "an abbreviation, which may be of another": (["--se", "1"], ["--se", "1"]),
    "at the end, its value missing": (["--enforce-eager", "--seed"], ["--enforce-eager"]),
}


@pytest.mark.parametrize("case", KEPT)
def test_measured_arguments_of(case: str) -> None:
    words, kept = KEPT[case]
    assert VLLM.measured_arguments(words) == kept


UNMEASURED = (
    *("VLLM_LOGGING_LEVEL", "VLLM_CONFIGURE_LOGGING", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "VLLM_API_KEY"),
    *("HTTPS_PROXY", "no_proxy", "HF_TOKEN", "HF_ENDPOINT", "HF_XET_HIGH_PERFORMANCE", "AWS_REGION", "HF_HOME", "TZ"),
)
MEASURED = (
    *("VLLM_ATTENTION_BACKEND", "VLLM_USE_V1", "CUDA_LAUNCH_BLOCKING", "OMP_NUM_THREADS", "PYTORCH_CUDA_ALLOC_CONF"),
    *("VLLM_LOGGING_LEVEL_OF_NEXT_YEAR", "MY_HF_TOKEN", "X"),
)


@pytest.mark.parametrize("name", UNMEASURED)
def test_a_variable_costs_no_measurement(name: str) -> None:
    assert not VLLM.measured_variable(name)
    assert key(env=[{"name": name, "value": "x"}]) == key()


@pytest.mark.parametrize("name", MEASURED)
def test_a_variable_is_measured(name: str) -> None:
    assert VLLM.measured_variable(name)
    assert key(env=[{"name": name, "value": "x"}]) != key()


def key(**engine: object) -> str:
    asked = deployment_spec({"engine": engine})
    return profile_key(profile_spec(asked))


def test_log_level_keeps_the_profile_and_eager_mode_does_not() -> None:
    assert key(args=["--uvicorn-log-level", "warning"]) == key() != key(args=["--enforce-eager"])
