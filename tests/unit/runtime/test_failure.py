"""What engines say when they fail, and what is made of it. The lines are vLLM's own; each case of the data names its source."""

import json
from pathlib import Path
from typing import Any

import pytest
from slm_core.engines.registry import default
from slm_core.failure import EXIT_STATUS, FINAL, REMEDY, Cause, EngineFault, Failure, ProfileError, error_of

LOGS: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "data/field/engine-logs.json").read_text())
HELPED_BY_LESS = {
    *(Failure.MEMORY, Failure.STATE_BLOCKS, Failure.HOST_MEMORY, Failure.SHARING, Failure.PORT),
    *(Failure.DIED, Failure.HANGS, Failure.NEVER_HEALTHY, Failure.ANSWERS_ERRORS),
}

HEARSAY = (
    "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
)
SAID = [
    (
        "the root cause, not its echo",
        "(EngineCore pid=2) ERROR 11-21 09:24:03 [core.py:1] ValueError: To serve at least one request with the model's "
        "max seq len (512), (0.02 GiB KV cache is needed, which is larger than the available KV cache memory (0.0 GiB).\n"
        + HEARSAY,
        Failure.MEMORY,
        "ValueError: To serve at least one",
    ),
    (
        "a device that others use",
        "ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired GPU memory utilization",
        Failure.MEMORY,
        "Free memory on device",
    ),
    (
        "no such flag",
        "api_server.py: error: unrecognized arguments: --max-num-seq 3",
        Failure.ARGUMENTS,
        "--max-num-seq",
    ),
    ("a dtype", "ValueError: Unknown dtype: 'float17'", Failure.ARGUMENTS, "float17"),
    (
        "a name nobody has",
        "OSError: Can't load the configuration of 'opt'. If you",
        Failure.MODEL,
        "configuration of 'opt'",
    ),
    (
        "weights cut short",
        "safetensors_rust.SafetensorError: Error while deserializing header",
        Failure.MODEL,
        "Safetensor",
    ),
    ("no engine here", "/usr/bin/python3: Error: No module named 'vllm'", Failure.COMMAND, "vllm"),
    (
        "a taken port",
        "OSError: [Errno 98] error while attempting to bind: address already in use",
        Failure.PORT,
        "bind",
    ),
    ("a full disk", "OSError: [Errno 28] No space left on device", Failure.DISK, "No space"),
    ("words of its own", "INFO all is well\nRuntimeError: the moon is full", Failure.DIED, "the moon is full"),
    ("no error line", "INFO one\nINFO two\n", Failure.DIED, "two"),
    ("silence", "", Failure.DIED, "printed nothing"),
]


@pytest.mark.parametrize(("name", "log", "failure", "line"), SAID, ids=[c[0] for c in SAID])
def test_the_class_and_the_line(name: str, log: str, failure: Failure, line: str) -> None:
    found = default().explain(log)
    assert found.failure == failure
    assert line in found.line
    assert "\n" not in found.line
    assert not found.line.startswith("(")


@pytest.mark.parametrize("case", LOGS, ids=[case["name"] for case in LOGS])
def test_a_common_end_has_its_class_its_line_and_its_remedy(case: dict[str, Any]) -> None:
    found = default().explain(case["log"])
    assert found.failure == case["class"]
    assert case["line"] in found.line
    assert "Request ID" not in found.line
    assert not found.line.startswith(("(", "[", "ERROR"))
    assert found.batch_size_limit == case.get("limit")
    assert found.signal == case.get("signal")
    remedy = found.remedy or (REMEDY | dict(default().remedies))[found.failure]
    assert case.get("remedy", "") in remedy


@pytest.mark.parametrize("case", LOGS, ids=[case["name"] for case in LOGS])
def test_an_end_is_tried_with_less_just_where_less_may_help(case: dict[str, Any]) -> None:
    error = error_of(default().explain(case["log"]), "it did not start")
    assert isinstance(error, EngineFault) == (case["class"] in HELPED_BY_LESS)
    if isinstance(error, EngineFault):
        assert error.batch_size_limit == case.get("limit")


def test_each_class_is_final_or_helped_by_less() -> None:
    assert set(Failure) - FINAL == HELPED_BY_LESS
    assert isinstance(error_of(Cause(failure=Failure.DRIVER, line=""), ""), ProfileError)


@pytest.mark.parametrize("failure", [Failure.DIED, Failure.HANGS])
def test_a_smaller_batch_is_no_remedy_without_a_sign_of_memory(failure: Failure) -> None:
    assert "batch" not in (REMEDY | dict(default().remedies))[failure]


def test_every_class_has_a_remedy_and_an_exit_status_of_its_own() -> None:
    assert set(REMEDY) == set(EXIT_STATUS) == set(Failure)
    assert len(set(EXIT_STATUS.values())) == len(Failure)
    assert not {0, 1, 2} & set(EXIT_STATUS.values())


HOSTILE = {
    "one long line": "Error: " + "MPS client " * 20_000,
    "a number beyond all numbers": f"ValueError: max_num_seqs ({'9' * 9000}) exceeds available Mamba cache blocks ({'9' * 9000})",
    "a signal beyond all signals": f"Failed core proc(s): {{'EngineCore': -{'9' * 9000}}}",
    "control characters": "\x00\x1b[31mError\x1b[0m: \ud83d \u2028 gone",
    "errors without an end": "ValueError: a\n" * 50_000,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_log_may_hold_anything(case: str) -> None:
    found = default().explain(HOSTILE[case])
    assert len(found.line) <= 300
