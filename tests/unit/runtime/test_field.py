"""Engines as they are met in the field, through the profiler's own process: with a key, of another version, slow or dying."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slm_core.codec import parse_document
from slm_core.engines.registry import default
from slm_core.failure import EXIT_STATUS, Failure, ProfileError
from slm_operator.kube.engine_metrics import pod_page
from slm_runtime.engine_process import Launch, start_engine
from slm_runtime.tokenizer import identify

Profile = Callable[..., Any]
TESTS = Path(__file__).parents[2]
LOGS = {case["name"]: case for case in json.loads((TESTS / "data/field/engine-logs.json").read_text())}
ONE_POINT = ("--max-batch-size", "1", "--max-engines-per-gpu", "1")
KEY = "a key, with blanks"
FINAL = [
    "a gated repository, as Transformers says it", "code of the model's, as vLLM says it", "too many downloads",
    "a driver that is too old, said in a warning only", "more GPUs than there are", "bfloat16 on an old GPU",
    "an encoder that is told to generate", "a longest sequence beyond the model", "a longest sequence beyond memory",
    "a GPU that the image was not built for",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FINAL)
def test_a_start_that_nothing_can_help_is_not_repeated(profile: Profile, tmp_path: Path, name: str) -> None:
    case, words = LOGS[name], tmp_path / "last-words"
    words.write_text(case["log"])
    run = profile(last_words=words)
    said = run.one("failed")
    assert (said["class"], run.status) == (case["class"], EXIT_STATUS[Failure(case["class"])])
    assert case["line"] in said["message"]
    assert case["remedy"] in said["remedy"]
    assert len([one for one in run.all("phase") if one["phase"] == "Starting"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.27.1", "0.29.0"])
def test_promised_vllm_versions_get_only_flags_they_know(profile: Profile, version: str) -> None:
    run = profile(*ONE_POINT, version=version)
    assert run.status == 0, run.events[-1]
    engine = run.one("result")["document"]["engine"]
    lacks = ("--max-num-queued-reqs",) if version == "0.27.1" else ()
    assert default().unknown_flags("unknown", engine["args"]) == lacks
    assert [note["message"] for note in run.all("note") if "does not know" in note["message"]] == [
        f"the engine does not know {flag}: {default().optional_flags[flag]}" for flag in lacks
    ]


@pytest.mark.slow
def test_users_unknown_flag_is_not_left_out(profile: Profile) -> None:
    run = profile(*ONE_POINT, version="0.28.0", engine=["--frobnicate"])
    assert run.status == EXIT_STATUS[Failure.ARGUMENTS]
    assert run.one("failed")["message"].endswith("unrecognized arguments: --frobnicate")


TALK = [{"from": "human", "value": "x" * 20}, {"from": "gpt", "value": "y" * 12}]


@pytest.mark.slow
def test_an_engine_with_a_key_is_measured_with_it(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    talks = tmp_path / "talks.json"
    talks.write_text(json.dumps([{"conversations": TALK}] * 5))
    run = profile("--dataset", str(talks), *ONE_POINT)
    assert run.status == 0, run.events[-1]
    document = parse_document(run.one("result")["document"])
    assert document.model.max_model_len == 2048  # of /v1/models, which wants the key
    assert not any(point.errors for point in document.points)
    assert KEY not in json.dumps(run.events)


@pytest.mark.slow
async def test_only_what_clients_use_wants_the_key(model: Path, light_command: list[str]) -> None:
    """Probes, the operator, `kubectl slm top` and an endpoint picker have no key, and need none."""
    launch = Launch(command=(*light_command, str(model)), environment={"VLLM_API_KEY": KEY})
    engine = await start_engine(launch)
    try:
        assert (await identify(engine)).max_model_len == 2048
        read = (await pod_page(f"{engine.url}{default().paths.metrics}", default())).counters
        assert read.running == 0
    finally:
        await engine.stop()


@pytest.mark.parametrize("key", ["k\n", " k", "k ", "k\u00e9y", "\u2603", "k\x00", "\n"])
def test_a_key_that_no_client_can_send_is_refused(key: str) -> None:
    with pytest.raises(ProfileError, match="VLLM_API_KEY holds a line break") as raised:
        default().headers({"VLLM_API_KEY": key})
    assert "printf" in str(raised.value.remedy)


def test_a_key_with_a_line_break_is_named_before_a_start(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", f"{KEY}\n")
    run = profile()
    assert run.status == EXIT_STATUS[Failure.ARGUMENTS]
    assert KEY not in json.dumps(run.events)


@pytest.mark.parametrize("environment", [{}, {"VLLM_API_KEY": ""}])
def test_without_a_key_nothing_is_sent(environment: dict[str, str]) -> None:
    assert default().headers(environment) == {}


SECRETS = [
    ["--api-key", "s3cret"],
    ["--api-key=s3cret"],
    ["--api-key", "s3cret", "s3cret-2"],
    ["--api_key", "s3cret"],
    ["--api-k", "s3cret"],
    ["--hf-token", "s3cret"],
]


@pytest.mark.parametrize("words", SECRETS, ids=[" ".join(words) for words in SECRETS])
def test_a_secret_among_the_words_is_refused_and_never_repeated(profile: Profile, words: list[str]) -> None:
    run = profile(engine=words)
    assert run.status == EXIT_STATUS[Failure.ARGUMENTS]
    assert "s3cret" not in json.dumps(run.events)
    assert "variable of its environment" in run.one("failed")["remedy"]


@pytest.mark.slow
async def test_a_first_answer_may_take_longer_than_others(
    model: Path, light_command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels are compiled at their first use."""
    monkeypatch.setattr("slm_runtime.engine_process.ANSWER_SECONDS", 0.2)
    launch = Launch(command=(*light_command, str(model)), environment={"LIGHT_ENGINE_FIRST_SECONDS": "0.6"})
    engine = await start_engine(launch)
    try:
        await engine.complete({"model": str(model), "prompt": [9] * 8, "max_tokens": 2})
    finally:
        await engine.stop()


def on_a_gpu(model: Path, library: Path, **variables: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit status and events of a profile of one point, with a mock NVML."""
    words = ["profile", "--model", str(model), "--input-tokens", "24", "--output-tokens", "16", *ONE_POINT]
    words += ["--min-window-seconds", "0.25", "--max-window-seconds", "1", "--poll-seconds", "0.02"]
    words += ["--", sys.executable, "-m", "light_engine"]
    environment = os.environ | {"LD_LIBRARY_PATH": str(library.parent), "PYTHONPATH": str(TESTS)} | variables
    command = [sys.executable, "-m", "slm_runtime", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("variable", [("VLLM_LOGGING_LEVEL", "WARNING"), ("VLLM_CONFIGURE_LOGGING", "0")])
def test_a_log_level_that_hides_memory_costs_no_ledger(model: Path, library: Path, variable: tuple[str, str]) -> None:
    status, events = on_a_gpu(model, library, **dict([variable]))
    assert status == 0, events[-1]
    ledger = next(event["ledger"] for event in events if event["event"] == "ledger")
    assert ledger["activationPeakBytes"] == round(0.06 * 2**30)


@pytest.mark.slow
def test_on_a_gpu_no_ledger_is_made_of_a_log_without_memory(model: Path, library: Path) -> None:
    status, events = on_a_gpu(model, library, LIGHT_ENGINE_FAULT="silent")
    assert (status, events[-1]["class"]) == (EXIT_STATUS[Failure.LOG], "EngineLogSilent")
    assert "at level INFO" in events[-1]["remedy"]
    assert not [event for event in events if event["event"] in {"ledger", "point"}]
